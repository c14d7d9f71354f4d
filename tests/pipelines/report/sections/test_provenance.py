"""Each cell leads to its runs, and each run says what made it, or that this was not recorded."""

import json
from pathlib import Path

import pytest

from pipelines.base.artifacts import read_json
from pipelines.rendering.parts import run_anchor
from pipelines.report.sections import provenance
from pipelines.study import Study

RUNTIME = {
    "commit": "0123456789abcdef0123456789abcdef01234567",
    "dirty": False,
    "lock": {"sha256": "ab" * 32, "differs": {}},
    "versions": {"torch": "2.13.0+cpu", "numpy": "2.4.6"},
    "python": "3.11.7",
    "device": "cpu",
    "wall_seconds": 3723.4,
    "cpu_seconds": 60.0,
    "peak_memory_mib": 612.6,
    "peak_gpu_memory_mib": None,
    "cpu_energy_joules": 51234.0,
    "gpu_energy_joules": None,
}


def write_runtime(run, stage, **changes):
    run.output(stage, "runtime.json").write_text(json.dumps(RUNTIME | changes))


def table(study, runs=None):
    [section] = provenance.sections(study, runs or study.runs)
    assert not section.reproducible
    return section.parts[1]


@pytest.fixture
def study(fabricate):
    study = fabricate()
    for run in study.runs:
        for stage in ("train", "evaluate"):
            write_runtime(run, stage)
    return study


def test_each_run_is_a_row_with_what_made_it(study):
    rows = table(study)
    assert len(rows.data) == len(rows.shown) == len(study.runs) == 8
    row, shown = rows.data.iloc[1], rows.shown.iloc[1]
    run = study.runs[1]
    receipt = read_json(run.output("train", "receipt.json"))
    assert row["method"] == run.method and row["seed"] == run.seed
    assert row["config"] == run.parameters_hash("train") == receipt["parameters"]
    assert row["data"] == receipt["inputs"]["data/prepared/shapes/receipt.json"]
    assert row["commit"] == RUNTIME["commit"] and not row["dirty"]
    assert row["version_torch"] == "2.13.0+cpu" and row["lock"] == "ab" * 32
    assert shown["commit"] == "01234567" and shown["config"] == row["config"][:12]
    assert shown["lock"] == "abababababab" and shown["training"] == "1:02:03"
    assert shown["memory"] == "613 MiB" and shown["energy"] == "CPU 51.2 kJ"
    assert shown["GPU memory"] == "–"


def test_a_checkpoint_is_known_by_its_digest(study):
    path = study.runs[0].output("train", "receipt.json")
    receipt = read_json(path)
    receipt["outputs"]["weights.safetensors"] = "cd" * 32
    path.write_text(json.dumps(receipt))
    assert table(study).data.loc[0, "checkpoint"] == "cd" * 32
    assert table(study).shown.loc[:1, "checkpoint"].tolist() == ["cdcdcdcdcdcd", "not recorded"]


def test_every_cell_s_group_of_runs_has_one_place(study):
    ids = table(study).ids
    expected = {run_anchor("shapes", "tiny_net", method) for method in study.file.methods}
    assert sorted(filter(None, ids)) == sorted(expected)
    for run, id in zip(study.runs, ids, strict=True):
        assert id in ("", run_anchor(run.dataset.name, run.model, run.method))


def test_what_is_unusual_is_told(study):
    gpu = {"device": "NVIDIA H100", "processes": 4, "peak_gpu_memory_mib": 2048.4}
    changed = {"dirty": True, "lock": {"sha256": "ab" * 32, "differs": {"torch": {}}}}
    write_runtime(study.runs[0], "train", **gpu, **changed, gpu_energy_joules=1e6)
    write_runtime(study.runs[1], "train", commit=None, dirty=None, lock=None,
                  cpu_energy_joules=None)  # fmt: skip
    first, second = table(study).shown.iloc[0], table(study).shown.iloc[1]
    assert first["commit"] == "01234567+, evaluated 01234567"
    assert first["lock"] == "abababababab, 1 packages differ"
    assert first["device"] == "NVIDIA H100 x 4" and first["GPU memory"] == "2048 MiB"
    assert first["energy"] == "CPU 51.2 kJ, GPU 1000.0 kJ"
    assert second["commit"] == "outside git, evaluated 01234567"
    assert second["lock"] == "none" and second["energy"] == "not told"
    write_runtime(study.runs[0], "train", commit="unknown", dirty=None)
    write_runtime(study.runs[1], "train", dirty=None)
    shown = table(study).shown["commit"].tolist()
    assert shown[0] == "unknown, evaluated 01234567"
    assert shown[1] == "01234567, changes unknown, evaluated 01234567"


def test_what_was_not_recorded_then_is_not_recorded_now(fabricate):
    study = fabricate()
    [section] = provenance.sections(study, study.runs)
    shown = section.parts[1].shown
    for column in ("commit", "lock", "device", "memory", "GPU memory", "energy", "checkpoint"):
        assert set(shown[column]) == {"not recorded"}, column
    assert set(shown["training"]) == {"0:00:02"}
    assert section.parts[0].markdown.endswith("- not recorded (8 runs)")


def test_the_published_studies_have_provenance(monkeypatch):
    monkeypatch.chdir(Path(__file__).parents[4])
    study = Study.load_published("archive/digits")
    rows = table(study)
    assert rows.data["checkpoint"].str.len().eq(64).all() and rows.data["commit"].notna().all()
    assert set(rows.shown["device"]) == {"cpu"}


def test_a_commit_is_no_parameter(study, tmp_path):
    """So that a commit alone runs nothing again: no hash and no receipt knows of it."""
    import subprocess

    from pipelines.base.artifacts import Stopwatch, write_receipt

    def git(*words):
        identity = ["-c", "user.name=a", "-c", "user.email=a@example.org"]
        subprocess.run(["git", *identity, *words], check=True, capture_output=True)

    def stage():
        folder = tmp_path / "out"
        folder.mkdir(exist_ok=True)
        (folder / "a.txt").write_text("a")
        watch = Stopwatch()
        parameters = {run.name: run.parameters_hash("train") for run in Study.load("mini").runs}
        write_receipt(folder, stage="s", subject="x", parameters=str(parameters), inputs=[])
        watch.write(folder)
        return (folder / "receipt.json").read_bytes(), read_json(folder / "runtime.json")["commit"]

    git("init", "--quiet")
    git("add", "params")
    git("commit", "--quiet", "-m", "one")
    receipt, commit = stage()
    git("commit", "--quiet", "--allow-empty", "-m", "two")
    again, later = stage()
    assert receipt == again and commit != later
