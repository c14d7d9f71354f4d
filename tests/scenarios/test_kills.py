"""Killed at any moment, the same commands end with the files of an uninterrupted run."""

from __future__ import annotations

import json
import os
import random
import re
import shutil
import signal
from pathlib import Path

import pandas as pd
import pytest

from pipelines.fetch import stage as fetch
from pipelines.prepare import stage as prepare
from pipelines.running.progress import work_folder
from pipelines.study import RUN_STAGES
from tests.pipelines import mini
from tests.pipelines.zygote import Done, Zygote

SEED = 20
POINTS = {
    "train": {"step": 6, "checkpoint": 5, "evaluation": 4, "publication": 2},
    "evaluate": {"whole": 2, "publication": 1},
}
"""Random kill points by stage and phase: 20 in all."""

# One process for all: what they share is expensive.
pytestmark = [pytest.mark.slow, pytest.mark.xdist_group("kills")]

DIVERGES = """
import torch
from mmengine.logging import MessageHub
from mmseg.models.losses import CrossEntropyLoss
from mmseg.registry import MODELS


@MODELS.register_module()
class Divergent(CrossEntropyLoss):
    def forward(self, *args, **kwargs):
        loss = super().forward(*args, **kwargs)
        done = MessageHub.get_current_instance().get_info("iter")
        return loss * torch.inf if done == 5 else loss


def apply(model_cfg):
    model_cfg["decode_head"]["loss_decode"] = {"type": "Divergent", "loss_name": "loss_ce"}
    return model_cfg
"""


@pytest.fixture(scope="module")
def project(tmp_path_factory):
    """The study `mini` with dropout, prepared, in a folder that is the working directory."""
    folder = tmp_path_factory.mktemp("kills")
    before = Path.cwd()
    os.chdir(folder)
    # Validations that fall together with a checkpoint (6, 8), and one that does not (3).
    training = mini.study_file()["training"] | {"iterations": 8}
    methods = mini.study_file()["methods"]
    methods["divergent"] = {"label": "Divergent", "plugin": "divergent:apply"}
    mini.write_params(folder, training=training, methods=methods)
    entry = Path(f"params/models/{mini.MODEL}.yaml")
    entry.write_text(
        entry.read_text().replace("  decode_head:\n", "  decode_head:\n    dropout_ratio: 0.3\n")
    )
    Path("divergent.py").write_text(DIVERGES)
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


def named(study, method):
    return next(run for run in study.runs if run.method == method)


def receipt(run, stage: str) -> bytes:
    """It holds the sha256 of weights, curves, metrics and all else that is reproducible."""
    return run.output(stage, "receipt.json").read_bytes()


def whole(done: Done) -> Done:
    assert done.status == 0, done.output
    return done


def killed(done: Done) -> None:
    assert done.status == -signal.SIGKILL, done.output


@pytest.fixture(scope="module")
def undisturbed(project, zygote):
    """An uninterrupted run with SAR: its commands with their calls counted, and its receipts."""
    run = named(project, "sar")
    done = {stage: whole(zygote.run(stage, run.name, count=True)) for stage in RUN_STAGES}
    curves = pd.read_csv(run.output("train", "curves.csv"), index_col="iteration")
    assert curves["mIoU"].dropna().index.tolist() == [3, 6, 8]
    return done, {stage: receipt(run, stage) for stage in RUN_STAGES}


@pytest.fixture
def untrained(project, undisturbed):
    """The run with SAR, of which nothing is there yet."""
    forget("train")
    return named(project, "sar")


def forget(stage: str) -> None:
    for path in Path("results").glob(f"**/{stage}"):
        shutil.rmtree(path)
    shutil.rmtree("work", ignore_errors=True)


@pytest.mark.parametrize("stage", RUN_STAGES)
def test_random_kills_leave_no_trace(project, zygote, undisturbed, stage):
    counted, expected = undisturbed
    run = named(project, "sar")
    for phase, number in POINTS[stage].items():
        for call in counted[stage].pick(phase, number, SEED):
            forget(stage)
            killed(zygote.run(stage, run.name, at_call=call))
            whole(zygote.run(stage, run.name))
            assert receipt(run, stage) == expected[stage], f"killed in {phase}, call {call}"
    assert not list(Path("work").rglob("*.pth*"))


def test_kills_by_the_clock_leave_no_trace(zygote, undisturbed, untrained):
    """From outside, so also within what is not Python; one after the other in one training."""
    counted, expected = undisturbed
    rng = random.Random(SEED)
    for _ in range(3):
        delay = 0.2 + rng.random() * counted["train"].seconds / 2
        assert zygote.run("train", untrained.name, after=delay).status in (0, -signal.SIGKILL)
    whole(zygote.run("train", untrained.name))
    assert receipt(untrained, "train") == expected["train"]


def test_half_a_checkpoint_is_never_resumed(zygote, undisturbed, untrained):
    killed(zygote.run("train", untrained.name, torn_checkpoint=3))
    work = work_folder(untrained).resolve()
    assert {p.name for p in work.glob("iter*")} == {"iter_4.pth", "iter_6.pth.new"}
    again = whole(zygote.run("train", untrained.name))
    assert f"resumed from {work / 'iter_4.pth'}" in again.output
    assert receipt(untrained, "train") == undisturbed[1]["train"]


def test_a_damaged_checkpoint_is_named_and_the_one_before_resumed(zygote, undisturbed, untrained):
    killed(zygote.run("train", untrained.name, torn_checkpoint=4))
    work = work_folder(untrained).resolve()
    assert sorted(p.name for p in work.glob("iter*.pth")) == ["iter_6.pth"]
    shutil.copy(work / "iter_6.pth", work / "iter_8.pth")
    os.truncate(work / "iter_8.pth", 5000)
    (work / "last_checkpoint").write_text(f"{work / 'iter_8.pth'}")
    again = whole(zygote.run("train", untrained.name))
    assert f"{work / 'iter_8.pth'}: this checkpoint is damaged" in again.output
    assert f"resumed from {work / 'iter_6.pth'}" in again.output
    assert receipt(untrained, "train") == undisturbed[1]["train"]


def test_a_changed_config_resumes_nothing(zygote, undisturbed, untrained):
    """And the work of the old one is still there when the change is taken back."""
    killed(zygote.run("train", untrained.name, torn_checkpoint=4))
    study = Path("params/studies/mini.yaml")
    content = study.read_text()
    changed = json.loads(content)
    changed["training"]["optimizer"]["lr"] = 0.06
    try:
        study.write_text(json.dumps(changed))
        other = whole(zygote.run("train", untrained.name))
        assert "resumed from" not in other.output
        assert receipt(untrained, "train") != undisturbed[1]["train"]
    finally:
        study.write_text(content)
    shutil.rmtree(untrained.folder("train"))
    again = whole(zygote.run("train", untrained.name))
    assert "resumed from" in again.output
    assert receipt(untrained, "train") == undisturbed[1]["train"]


def test_a_loss_that_is_not_finite_stops_the_run_at_once(project, zygote):
    """Again and again: the checkpoint before it is good, and leads to the same place."""
    run = named(project, "divergent")
    work = work_folder(run).resolve()
    for _ in range(2):
        stopped = zygote.run("train", run.name)
        assert stopped.status == 2
        (message,) = re.findall("^error: (.*)$", stopped.output, re.MULTILINE)
        assert f"params/studies/mini.yaml: {run.name}: the loss is not finite" in message
        assert "iteration 6: decode.loss_ce = inf;" in message
        assert f"last good checkpoint is {work / 'iter_4.pth'} (iteration 4)" in message
        assert not run.folder("train").exists()
