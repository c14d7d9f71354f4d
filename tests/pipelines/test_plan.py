"""What a study would take: runs, hours, disk, and what is missing."""

from __future__ import annotations

import json
from pathlib import Path

import pandas as pd
import pytest
from mmengine.registry import MODELS

from pipelines import plan
from pipelines.base.artifacts import write_receipt
from pipelines.configs.model import baseline_model
from pipelines.fetch import stage as fetch
from pipelines.fetch.missing import missing_data, missing_weights
from pipelines.running.custody import Made
from pipelines.study import DATASET_STAGES, RUN_STAGES, Dataset, Study, Weights
from pipelines.study.cards import DataCard
from pipelines.study.model_entry import Pretrained
from tests.pipelines import mini
from tests.pipelines.prepare import raw


@pytest.fixture
def study(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv("SAR_MIRROR", raising=False)
    mini.write_params(tmp_path, seeds=[0, 1, 2])
    return mini.load()


def measured(path: Path, *rows: tuple) -> Path:
    """A table of step times."""
    columns = ["device", "model", "method", "crop", "batch", "seconds", "source"]
    pd.DataFrame([(*row, "a test") for row in rows], columns=columns).to_csv(path, index=False)
    return path


def finish(run) -> None:
    """Write what stages would, of the data too; all files are empty."""
    for stage, subject in (
        *((stage, run.dataset) for stage in DATASET_STAGES),
        *((stage, run) for stage in RUN_STAGES),
    ):
        made = Made(stage, subject)
        made.receipt.parent.mkdir(parents=True, exist_ok=True)
        for path in made.declared:
            path.touch()
        write_receipt(
            made.receipt.parent,
            stage=stage,
            subject=subject.name,
            parameters=subject.parameters_hash(stage),
            inputs=subject.input_receipts(stage),
        )


def test_what_is_measured_is_summed_and_the_rest_is_said_not_to_be(study, tmp_path, monkeypatch):
    rows = [
        ("A card", mini.MODEL, "baseline", "24x24", 2, 600.0),
        ("A card", mini.MODEL, "sar", "48x48", 2, 999.0),
        ("A card", mini.MODEL, "sar", "24x24", 4, 999.0),
        ("cpu", mini.MODEL, "baseline", "24x24", 2, 3600.0),
    ]
    monkeypatch.setattr(plan, "STEP_TIMES", measured(tmp_path / "times.csv", *rows))
    finish(study.run(f"mini/{mini.MODEL}/baseline/seed1"))
    text = plan.plan(study)
    assert "6 runs: 1 done, 5 to do" in text
    cells = [
        [cell.strip() for cell in line.split("|")[1:-1]]
        for line in text.splitlines()
        if line.startswith("| mini")
    ]
    # Six iterations of ten minutes, or of an hour.
    assert cells == [
        ["mini", mini.MODEL, "baseline", "6", "24x24", "2", "1", "2", "1.00 (A card); 6.00 (cpu)"],
        ["mini", mini.MODEL, "sar", "6", "24x24", "2", "0", "3", "not measured"],
    ]
    assert "- 2.0 hours on one A card for the training of 2 runs\n" in text
    assert "- 12.0 hours on one cpu for the training of 2 runs\n" in text
    assert (
        "- not measured: the training of 3 runs; `python benchmarks/step_times.py --study" in text
    )
    assert "Nothing has to be downloaded." in text
    # Four bytes a weight: of 5 runs, and of 3 checkpoints with the momentum of SGD.
    model = MODELS.build(baseline_model(study.runs[0]))
    weights = 4 * sum(value.numel() for value in model.parameters()) / 1e6
    assert f"results/: {5 * weights:.2f}MB for the weights of all runs to do" in text
    assert f"work/: up to {6 * weights:.2f}MB for the checkpoints of each run while it" in text


def test_a_finished_study_asks_for_nothing(study):
    for run in study.runs:
        finish(run)
    text = plan.plan(study)
    assert "6 runs: 6 done, 0 to do" in text
    assert "hours on one" not in text and "not measured: " not in text
    assert "results/:" not in text


def card(**parts) -> Dataset:
    content = raw.card().model_dump()
    content["source"]["parts"] = parts
    return Dataset("mine", DataCard.model_validate(content))


URL = {"kind": "url", "file": "a.zip", "urls": ["https://example.org/a.zip"], "bytes": 5}
ZIP = {"unpack": True, "unpacked_bytes": 70_000}
COMMAND = {
    "kind": "command",
    "command": ["no-such-program", "{file}"],
    "install": "pip install it",
    "downloads": [{"file": "b.zip"}, {"file": "c.zip"}],
    "credentials": ["PLAN_USER", "PLAN_PASSWORD"],
    "account": "https://example.org/register",
}


def test_what_is_missing_names_files_programs_and_accounts(study, monkeypatch):
    monkeypatch.setenv("PLAN_USER", "somebody")
    dataset = card(
        one=URL,
        two=COMMAND,
        three={"kind": "folder", "path": "nowhere"},
        four={
            "kind": "archive",
            "path": "d.zip",
            "file": "d.zip",
            "account": "https://example.org/d",
        },
    )
    assert missing_data(dataset) == [
        "mine: a.zip from https://example.org/a.zip",
        "mine: b.zip and c.zip, by the program no-such-program",
        "mine: the program no-such-program: pip install it",
        "mine: PLAN_PASSWORD in the environment, of an account from https://example.org/register, "
        "unless the program knows its user",
        "mine: the folder nowhere",
        "mine: d.zip, from https://example.org/d",
    ]


def test_what_is_here_or_in_the_mirror_is_not_missing(study, monkeypatch, tmp_path):
    dataset = card(one=URL, two=COMMAND)
    mirror = tmp_path / "mirror"
    (mirror / "mine").mkdir(parents=True)
    (mirror / "mine/b.zip").touch()
    monkeypatch.setenv("SAR_MIRROR", str(mirror))
    dataset.downloads.mkdir(parents=True)
    (dataset.downloads / "a.zip").touch()
    assert missing_data(dataset)[0] == "mine: c.zip, by the program no-such-program"
    (mirror / "mine/c.zip").touch()
    assert missing_data(dataset) == []


def test_weights_are_missing_once_until_they_are_here(study):
    pretrained = {"file": "net-abc.pth", "urls": ["https://example.org/net-abc.pth"]}
    weights = [Weights(name, Pretrained(sha256="a" * 8, **pretrained)) for name in ("one", "two")]
    assert missing_weights(weights) == [
        "weights: net-abc.pth from https://example.org/net-abc.pth",
    ]
    weights[0].downloads.mkdir(parents=True)
    (weights[0].downloads / "net-abc.pth").touch()
    assert missing_weights(weights) == []


def test_one_of_several_is_enough(study):
    other = URL | {"file": "e.zip", "urls": ["https://example.org/e.zip"]}
    dataset = card(one={"kind": "first_of", "parts": {"a": URL, "e": other}})
    assert missing_data(dataset) == [
        "mine: a.zip from https://example.org/a.zip or e.zip from https://example.org/e.zip"
    ]
    dataset.downloads.mkdir(parents=True)
    (dataset.downloads / "e.zip").touch()
    assert missing_data(dataset) == []


def test_disk_of_data_is_bounded_until_it_is_prepared(study):
    Path("params/datasets/mine.yaml").write_text(
        json.dumps(card(one=URL | ZIP).card.model_dump(exclude_defaults=True))
    )
    path = Path("params/studies/mini.yaml")
    content = json.loads(path.read_text()) | {"datasets": ["mini", "mine"]}
    del content["training"]["validation_interval"]
    path.write_text(json.dumps(content))
    both = Study.load("mini")
    text = plan.plan(both)
    assert (
        "- data/ for mine: 5.00B of downloads; up to 70.0kB unpacked, and up to as much again "
        "prepared\n" in text
    )
    assert "- mine: a.zip from https://example.org/a.zip\n" in text
    both.datasets["mine"].receipt.parent.mkdir(parents=True)
    write_receipt(
        both.datasets["mine"].prepared,
        stage="prepare",
        subject="mine",
        parameters=both.datasets["mine"].parameters_hash("prepare"),
        inputs=[],
    )
    assert "data/ for mine" not in plan.plan(both)


def test_the_command_prints_it_and_fails_for_an_unknown_study(study, capsys):
    fetch.fetch(study.datasets["mini"])
    assert plan.main(["--study", "mini"]) == 0
    assert capsys.readouterr().out.startswith("# Plan of the study mini\n")
    assert plan.main(["--study", "paperr"]) == 2
    assert "paperr.yaml: no such file" in capsys.readouterr().err


def test_the_committed_step_times_say_where_they_come_from():
    table = pd.read_csv(mini.ROOT / "benchmarks/step_times.csv")
    assert table["seconds"].gt(0).all() and table["source"].notna().all()
    assert not table.duplicated(["device", "model", "method", "crop", "batch"]).any()


def test_the_paper_study_has_hours_of_a_gpu():
    times = pd.read_csv(mini.ROOT / "benchmarks/step_times.csv")
    study = Study.load(str(mini.ROOT / "params/studies/paper.yaml"))
    for method in ("baseline", "sar"):
        run = study.run(f"cityscapes/fcn_hr48/{method}/seed0")
        assert "NVIDIA H200 (bf16, channels_last)" in plan._seconds(run, times)
