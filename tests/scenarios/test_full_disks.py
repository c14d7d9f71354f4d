"""A disk that is full, or fails, at any write of any stage: one line says so, what is there is
whole, and the same command, given again, leaves what an undisturbed one does and nothing else."""

from __future__ import annotations

import errno
import os
import random
from pathlib import Path

import pytest
from matplotlib.figure import Figure

from pipelines.analyse.stage import analyse
from pipelines.base.artifacts import sha256_file
from pipelines.base.receipts import read_receipt
from pipelines.compare.stage import compare
from pipelines.evaluate.stage import evaluate
from pipelines.fetch.stage import fetch
from pipelines.prepare.stage import prepare
from pipelines.publish.stage import publish
from pipelines.rendering import style
from pipelines.report.stage import report
from pipelines.running.cli import guarded
from pipelines.train.stage import train
from tests.pipelines import mini
from tests.pipelines.disks import FailingDisk

SEED = 14
STAGES = {
    # What it works on, and how many of its writes are tried besides the first and the last.
    "fetch": (fetch, lambda study: study.datasets["mini"], 4),
    "prepare": (prepare, lambda study: study.datasets["mini"], 8),
    "train": (train, lambda study: study.runs[-1], 2),
    "evaluate": (evaluate, lambda study: study.runs[-1], 2),
    "compare": (compare, lambda study: study, 4),
    "analyse": (analyse, lambda study: study, 3),
    "report": (report, lambda study: study, 1),
    "publish": (publish, lambda study: study, 3),
}

# One process for all: what they share is expensive.
pytestmark = [pytest.mark.slow, pytest.mark.xdist_group("full disks")]


@pytest.fixture(scope="module")
def study(tmp_path_factory):
    """The study `mini`, all its stages done, in a folder that is the working directory."""
    folder, before = tmp_path_factory.mktemp("disks"), Path.cwd()
    mini.write_params(folder, training=mini.study_file()["training"] | {"iterations": 3})
    os.chdir(folder)
    Path("README.md").write_text("# Mine\n")
    with pytest.MonkeyPatch.context() as patch:
        save = style.save
        patch.setattr(style, "save", lambda _, *place: save(Figure(figsize=(0.1, 0.1)), *place))
        study = mini.load()
        for stage, subject, _ in STAGES.values():
            for each in study.runs if stage in (train, evaluate) else [subject(study)]:
                stage(each)
        yield study
    os.chdir(before)


def receipts() -> dict[Path, bytes]:
    return {path: path.read_bytes() for path in Path().rglob("receipt.json")}


def check_all_is_whole() -> None:
    """Whatever has a receipt is as it says, and no stage left anything hidden."""
    for path in receipts():
        receipt = read_receipt(path)
        # Of published results only a part is there.
        there = {name for name in receipt.outputs if (path.parent / name).exists()}
        assert path.parts[0] == "reports" or there == receipt.outputs.keys(), path
        for name in there:
            assert sha256_file(path.parent / name) == receipt.outputs[name], path.parent / name
    hidden = [path for path in Path().rglob(".*") if path.name != ".replaced"]
    assert not [*hidden, *Path().rglob("*.new")]


def empty(name: str, study) -> None:
    """As a crash of the machine leaves what was not on its disk: every file that a stage wrote."""
    folder = study.published if name == "publish" else STAGES[name][1](study).folder(name)
    for path in folder.rglob("*.*"):
        if path.is_file():
            os.truncate(path, 0)


@pytest.mark.parametrize("name", STAGES)
def test_a_disk_that_fails_at_any_write_is_one_line_and_no_harm(study, capfd, name):
    stage, subject, tries = STAGES[name]
    undisturbed = receipts()
    counting = FailingDisk(Path(), errno.ENOSPC)
    with counting.mounted():
        stage(subject(study))
    assert receipts() == undisturbed
    rng = random.Random(f"{SEED} {name}")
    chosen = sorted({1, counting.changes, *rng.choices(range(1, counting.changes), k=tries)})
    for number, last in enumerate(chosen):
        disk = FailingDisk(Path(), (errno.ENOSPC, errno.EIO)[number % 2], last)
        capfd.readouterr()
        with disk.mounted():
            status = guarded(lambda: stage(subject(study)))
        said = capfd.readouterr().err
        assert status == 2, f"write {last} of {counting.changes}: {said}"
        (line,) = [line for line in said.splitlines() if line.startswith("error: ")]
        assert "give the same command again" in line, line
        assert "Traceback" not in said and "Logging error" not in said, said
        check_all_is_whole()
        if last == chosen[-1]:
            empty(name, study)
        stage(subject(study))
        assert receipts() == undisturbed, f"write {last} of {counting.changes}"
        check_all_is_whole()
