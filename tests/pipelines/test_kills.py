"""Killed at any moment, the same commands end with the files of an uninterrupted run."""

from __future__ import annotations

import os
import shutil
import signal
from pathlib import Path

import pandas as pd
import pytest

from pipelines import fetch, prepare
from pipelines.study import RUN_STAGES
from tests.pipelines import mini
from tests.pipelines.zygote import Done, Zygote

SEED = 20
POINTS = {"step": 6, "checkpoint": 5, "evaluation": 4, "publication": 2}
"""Random kill points in a training, by phase."""

pytestmark = pytest.mark.slow


@pytest.fixture(scope="module")
def project(tmp_path_factory):
    """The study `mini` with dropout, prepared, in a folder that is the working directory."""
    folder = tmp_path_factory.mktemp("kills")
    before = Path.cwd()
    os.chdir(folder)
    # Validations that fall together with a checkpoint (6, 8), and one that does not (3).
    mini.write_params(folder, training=mini.study_file()["training"] | {"iterations": 8})
    entry = Path(f"params/models/{mini.MODEL}.yaml")
    entry.write_text(
        entry.read_text().replace("  decode_head:\n", "  decode_head:\n    dropout_ratio: 0.3\n")
    )
    study = mini.load()
    for dataset in study.datasets.values():
        fetch.fetch(dataset)
        prepare.prepare(dataset)
    yield study
    os.chdir(before)


@pytest.fixture(scope="module")
def zygote(project):
    client = Zygote()
    yield client
    client.close()


@pytest.fixture
def run(project):
    """The run with SAR, of which nothing is there yet."""
    for folder in ("results", "work"):
        shutil.rmtree(folder, ignore_errors=True)
    return next(run for run in project.runs if run.method == "sar")


def receipts(run) -> list[bytes]:
    """They hold the sha256 of weights, curves, metrics and all else that is reproducible."""
    return [run.output(stage, "receipt.json").read_bytes() for stage in RUN_STAGES]


def whole(done: Done) -> Done:
    assert done.status == 0, done.output
    return done


@pytest.fixture(scope="module")
def undisturbed(project, zygote):
    """The receipts of an uninterrupted run, and its commands with their calls counted."""
    run = next(run for run in project.runs if run.method == "sar")
    done = {stage: whole(zygote.run(stage, run.name, count=True)) for stage in RUN_STAGES}
    curves = pd.read_csv(run.output("train", "curves.csv"), index_col="iteration")
    assert curves["mIoU"].dropna().index.tolist() == [3, 6, 8]
    return receipts(run), done


def killed(done: Done) -> None:
    assert done.status == -signal.SIGKILL, done.output


def test_twenty_random_kills_leave_no_trace(project, zygote, undisturbed, run):
    expected, counted = undisturbed
    points = [
        ("train", phase, call)
        for phase, number in POINTS.items()
        for call in counted["train"].pick(phase, number, SEED)
    ]
    points += [
        ("evaluate", phase, call)
        for phase, number in (("whole", 2), ("publication", 1))
        for call in counted["evaluate"].pick(phase, number, SEED)
    ]
    assert len(points) == 20
    for stage, phase, call in points:
        shutil.rmtree(run.folder(stage), ignore_errors=True)
        shutil.rmtree("work", ignore_errors=True)
        killed(zygote.run(stage, run.name, at_call=call))
        whole(zygote.run(stage, run.name))
        if stage == "train":
            assert receipt(run, stage) == expected[stage], f"killed in {phase}, call {call}"
        else:
            assert receipt(run, stage) == expected[stage]
