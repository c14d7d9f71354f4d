"""Snakemake and DVC run one graph: the same bytes, the same consequences of a change, and results
of the one are taken over by the other."""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from tests.scenarios import project

# One worker runs all of these tests: what they share takes a minute to make.
pytestmark = [pytest.mark.slow, pytest.mark.xdist_group("drivers")]

RUNS = [f"mini/fcn_hrnet_tiny/{method}/seed0" for method in ("baseline", "sar", "longer")]


@pytest.fixture(scope="module")
def by_snakemake(tmp_path_factory):
    """The study, run by `make reproduce` in a folder with a space and an accent, and then recorded
    by DVC."""
    folder = tmp_path_factory.mktemp("snakemake") / "My Projects" / "é"
    project.create(folder)
    project.make(folder, "reproduce", "STUDY=mini")
    project.dvc(folder, "commit", "--force", str(project.DVC_FILE), "params/datasets/dvc.yaml")
    project.commit(folder, "Results")
    return folder


@pytest.fixture(scope="module")
def by_dvc(tmp_path_factory):
    """The study, run by DVC."""
    folder = tmp_path_factory.mktemp("dvc") / "project"
    project.create(folder)
    project.dvc(folder, "repro", str(project.DVC_FILE))
    project.commit(folder, "Results")
    return folder


def test_both_drivers_write_the_same_bytes(by_snakemake, by_dvc):
    first, second = project.written(by_snakemake), project.written(by_dvc)
    assert {"weights.safetensors", "table.md", "receipt.json", "scores.json", "00000.png"} <= {
        path.name for path in first
    }
    assert first.keys() == second.keys()
    assert [path for path in first if first[path] != second[path]] == []


def test_what_snakemake_made_is_recorded_by_dvc(by_snakemake):
    assert "up to date" in project.dvc(by_snakemake, "status")
    assert project.dvc_planned(by_snakemake) == set()


def test_what_dvc_made_is_adopted_by_snakemake(by_dvc, tmp_path):
    folder = tmp_path / "project"
    shutil.copytree(by_dvc, folder, symlinks=True)
    # As of a run that was brought back before the others were made.
    run = folder / "results/mini/runs" / RUNS[1]
    for path in (
        *run.glob("train/*.safetensors"),
        run / "train/config.py",
        run / "evaluate/predictions.npz",
    ):
        path.unlink()
    stages = [f"{project.DVC_FILE}:{stage}" for stage in ("compare", "analyse")]
    project.dvc(folder, "commit", "--force", *stages)
    project.python(folder, "-m", "pipelines.adopt", "--study", "mini")
    assert project.snakemake_plan(folder) == {}
    # It is known, and not merely there: a changed parameter is noticed.
    project.change(folder / project.STUDY, "training.optimizer.lr", 0.06)
    assert {stage for stage, _ in project.snakemake_plan(folder)} == {
        *("train", "evaluate", "compare", "analyse", "report")
    }
    with pytest.raises(AssertionError, match=r"dvc status.*is not clean"):
        project.python(folder, "-m", "pipelines.adopt", "--study", "mini")


def test_both_train_only_what_was_not_brought_back(by_snakemake, tmp_path):
    """Even though the data is made anew, and so is newer than the runs."""
    clone, archives = tmp_path / "clone", tmp_path / "packed"
    project.python(by_snakemake, "-m", "pipelines.pack", "--study", "mini", "-o", str(archives))
    project.git(by_snakemake, "clone", "--quiet", str(by_snakemake), str(clone))
    for lock in clone.rglob("dvc.lock"):
        lock.unlink()
    put(STUDY, "seeds", [0, 1])(clone)
    back = ("-m", "pipelines.restore", "--study", "mini", *map(str, archives.iterdir()))
    assert "3 of 5 runs are finished" in project.python(clone, *back)
    to_do = {(stage, run) for run in NEW for stage in ("train", "evaluate")} | AFTER
    data = {("fetch", "mini"), ("prepare", "mini")}
    assert project.snakemake_plan(clone).keys() == to_do | data
    with pytest.raises(AssertionError, match=r"DVC has to know the data before the runs"):
        project.python(clone, *back, "--dvc")
    project.dvc(clone, "repro", "params/datasets/dvc.yaml")
    assert project.snakemake_plan(clone).keys() == to_do
    project.python(clone, *back, "--dvc")
    assert project.dvc_planned(clone, allow_missing=True) == to_do


def edit(path: str, text: str):
    """A change that appends a line to a file."""

    def apply(folder: Path) -> None:
        with (folder / path).open("a") as file:
            file.write(text)

    return apply


def put(path: str, key: str, value):
    """A change of one key of a parameter file."""
    return lambda folder: project.change(folder / path, key, value)


STUDY = str(project.STUDY)
CARD = "params/datasets/mini.yaml"
AFTER = {("compare", "mini"), ("analyse", "mini"), ("report", "mini")}
EVALUATED = {("evaluate", run) for run in RUNS}
TRAINED = {("train", run) for run in RUNS}
PREPARED = {("prepare", "mini")} | TRAINED
SAR_TRAINED = {("train", RUNS[1])} | EVALUATED
CODE = "ADDED = 1\n"


def a_key_more(folder: Path) -> None:
    """A key of the study file that has a default and decides nothing."""
    path = folder / "pipelines/study/schema.py"
    text, head = path.read_text(), "class StudyFile(Strict):\n"
    at = text.index("    title: ", text.index(head))
    path.write_text(f"{text[:at]}    remark: str | None = None\n{text[at:]}")


NEW = {f"mini/fcn_hrnet_tiny/{method}/seed1" for method in ("baseline", "sar")}


@pytest.mark.parametrize(
    ("change", "again"),
    [
        pytest.param(edit("README.md", "More.\n"), set(), id="README"),
        pytest.param(put(STUDY, "description", "Why."), {("report", "mini")}, id="caption"),
        pytest.param(put(STUDY, "methods.sar.label", "Ours"), {("report", "mini")}, id="label"),
        pytest.param(put(CARD, "title", "Scenes"), {("report", "mini")}, id="title of the data"),
        pytest.param(
            put(STUDY, "methods.sar.options.pull_weight", 0.2),
            {("train", RUNS[1]), ("evaluate", RUNS[1])} | AFTER,
            id="lambda",
        ),
        pytest.param(
            put(STUDY, "seeds", [0, 1]),
            {(stage, run) for run in NEW for stage in ("train", "evaluate")} | AFTER,
            id="a seed more",
        ),
        pytest.param(edit("sar/pull.py", CODE), SAR_TRAINED | AFTER, id="code of the method"),
        pytest.param(edit("pipelines/evaluate/measure.py", CODE), EVALUATED | AFTER, id="evaluate"),
        pytest.param(
            edit("pipelines/base/class_groups.py", CODE), PREPARED | EVALUATED | AFTER, id="groups"
        ),
        pytest.param(edit("pipelines/base/metrics.py", CODE), EVALUATED | AFTER, id="scores"),
        pytest.param(edit("pipelines/base/metric_names.py", CODE), EVALUATED | AFTER, id="names"),
        pytest.param(
            edit("pipelines/report/sections/comparison.py", CODE),
            {("report", "mini")},
            id="table of the report",
        ),
        pytest.param(
            edit("pipelines/rendering/templates/page.css", "p { color: red }\n"),
            {("report", "mini")},
            id="style of the page",
        ),
        *(
            pytest.param(edit(path, CODE), set(), id=path)
            for path in (
                *("sar/trained/predict.py", "sar/trained/palette.py"),
                *("pipelines/train/__main__.py", "pipelines/running/cli.py"),
                *("pipelines/track/push.py", "pipelines/track/live.py"),
            )
        ),
        pytest.param(a_key_more, set(), id="a key of the study's schema that nobody uses"),
        pytest.param(put(STUDY, "evaluation.gallery", 1), EVALUATED | AFTER, id="gallery"),
        pytest.param(
            put(CARD, "source.scenes.seed", 2),
            PREPARED | EVALUATED | AFTER,
            id="seed of the data",
        ),
    ],
)
def test_a_change_runs_again_what_depends_on_it(by_snakemake, change, again):
    try:
        change(by_snakemake)
        assert project.snakemake_plan(by_snakemake).keys() == again
        assert project.dvc_planned(by_snakemake) == again
    finally:
        project.git(by_snakemake, "checkout", "--", ".")


@pytest.mark.parametrize("path", ["sar/regularizer.py", "pipelines/train/hooks.py"])
def test_a_comment_is_no_reason_for_snakemake(by_snakemake, path):
    try:
        edit(path, "\n\n# More about it.\n")(by_snakemake)
        assert project.snakemake_plan(by_snakemake) == {}
        # DVC knows whole files.
        assert ("train", RUNS[1]) in project.dvc_planned(by_snakemake)
    finally:
        project.git(by_snakemake, "checkout", "--", ".")


@pytest.fixture
def ssh(tmp_path):
    """The port of an SSH server, and the folder with the client's key."""
    folder = tmp_path / "ssh"
    folder.mkdir()
    program = Path(__file__).with_name("ssh_server.py")
    server = subprocess.Popen(
        [sys.executable, program, folder], stdout=subprocess.PIPE, text=True, cwd=tmp_path
    )
    try:
        yield int(server.stdout.readline()), folder
    finally:
        server.terminate()
        server.wait(10)


def test_results_travel_through_a_folder(by_dvc, tmp_path):
    project.dvc(by_dvc, "remote", "add", "--default", "--force", "store", str(tmp_path / "store"))
    travels(by_dvc, tmp_path / "clone")


def test_results_travel_over_ssh(by_dvc, tmp_path, ssh):
    port, keys = ssh
    home = tmp_path / "home" / ".ssh"
    home.mkdir(parents=True)
    shutil.copy(keys / "known_hosts", home)
    url = f"ssh://somebody@127.0.0.1:{port}{tmp_path}/store"
    project.dvc(by_dvc, "remote", "add", "--default", "--force", "store", url)
    project.dvc(by_dvc, "remote", "modify", "store", "keyfile", str(keys / "id"))
    travels(by_dvc, tmp_path / "clone", HOME=str(home.parent))
    assert any((tmp_path / "store").rglob("*.dir"))


def travels(folder, clone, **environment):
    """Push `folder`, pull into a fresh clone of it, and find there what was here."""
    files = [str(project.DVC_FILE), "params/datasets/dvc.yaml"]
    try:
        project.dvc(folder, "push", *files, **environment)
        project.git(folder, "clone", "--quiet", str(folder), str(clone))
        shutil.copy(folder / ".dvc/config", clone / ".dvc/config")
        project.dvc(clone, "pull", *files, **environment)
    finally:
        project.git(folder, "checkout", "--", ".dvc/config")
    assert project.written(clone) == project.written(folder)
    assert "up to date" in project.dvc(clone, "status")


def test_dvc_shows_scores_curves_and_confusion(by_dvc, tmp_path):
    scores = json.loads(project.dvc(by_dvc, "metrics", "show", "--json"))[""]["data"]
    path = "results/mini/compare/summary.json"
    assert scores.keys() == {path}  # one file, a value a method
    assert scores[path]["data"]["mini"]["fcn_hrnet_tiny"].keys() == {"baseline", "sar", "longer"}
    project.dvc(by_dvc, "plots", "show", str(project.DVC_FILE), "--out", str(tmp_path / "plots"))
    page = (tmp_path / "plots/index.html").read_text()
    for title in ("Scores of the runs", "Training curves", "Confusion"):
        assert title in page
    assert "decode.loss_ce" in page and "DVC_METRIC" not in page


def test_an_experiment_changes_a_parameter_and_the_list_of_seeds(by_dvc, tmp_path):
    """`dvc exp run -S`, and what changed since the last commit."""
    folder = tmp_path / "project"
    shutil.copytree(by_dvc, folder, symlinks=True)
    sets = ("methods.sar.options.pull_weight=5.0", "seeds=[0,1]")
    words = [word for text in sets for word in ("--set-param", f"{STUDY}:{text}")]
    output = project.dvc(folder, "exp", "run", *words, str(project.DVC_FILE))
    trained = {
        line.split()[-1] for line in output.splitlines() if "> python -m pipelines.train" in line
    }
    assert trained == {RUNS[1], *NEW}
    summary = (folder / "results/mini/compare/runs.csv").read_text()
    assert "mini,fcn_hrnet_tiny,sar,1,mIoU" in summary
    params = json.loads(project.dvc(folder, "params", "diff", "--json"))[STUDY]
    assert params["methods.sar.options.pull_weight"] == {"old": 0.1, "new": 5.0, "diff": 4.9}
    metrics = json.loads(project.dvc(folder, "metrics", "diff", "--all", "--json"))
    path = "results/mini/compare/summary.json"
    mean = json.loads((folder / path).read_text())["mini"]["fcn_hrnet_tiny"]["sar"]
    assert metrics[path]["mini.fcn_hrnet_tiny.sar"]["new"] == mean
