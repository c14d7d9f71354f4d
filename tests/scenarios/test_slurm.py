"""A whole study through a real SLURM, with trainings that SLURM kills on the way."""

from __future__ import annotations

import os
import re
import subprocess
import sys
import time

import pytest

from pipelines.base.artifacts import sha256_file
from tests.pipelines import mini
from tests.scenarios import slurm

pytestmark = [pytest.mark.slurm, pytest.mark.slow]

# A training that stands still in iteration 5 until it is killed, once: `hang.<method>` is there.
STANDS_STILL = """
import os
import time
from pathlib import Path
from mmengine.logging import MessageHub
from mmseg.models.losses import CrossEntropyLoss
from mmseg.registry import MODELS


@MODELS.register_module()
class Patient(CrossEntropyLoss):
    def __init__(self, marker, **options):
        super().__init__(**options)
        self.marker = Path(marker)

    def forward(self, *args, **kwargs):
        done = MessageHub.get_current_instance().get_info("iter")
        if done == 4 and not self.marker.exists():
            self.marker.write_text("{SLURM_JOB_ID} {CUDA_VISIBLE_DEVICES}".format(**os.environ))
            time.sleep(3600)
        return super().forward(*args, **kwargs)


def apply(model_cfg, marker):
    loss = {"type": "Patient", "marker": marker, "loss_name": "loss_ce"}
    model_cfg["decode_head"]["loss_decode"] = loss
    return model_cfg
"""


@pytest.fixture(scope="module")
def environment(tmp_path_factory):
    if reason := slurm.missing():
        pytest.skip(reason)
    # Short, since the socket's path may have 107 characters at most.
    with slurm.cluster(tmp_path_factory.mktemp("slurm")) as environment:
        yield environment


def test_a_study_runs_and_what_slurm_kills_goes_on(environment, tmp_path):
    folder = tmp_path / "My Projects" / "é"
    methods = {"baseline": {"label": "Baseline"}} | {
        name: {
            "label": name,
            "plugin": "patient:apply",
            "options": {"marker": f"hang.{name}"},
        }
        for name in ("cancelled", "late")
    }
    mini.write_params(folder, methods=methods)
    # As a user edits it: trainings ask for a GPU whatever the study says.
    profile = (mini.ROOT / "workflow/profiles/slurm/config.yaml").read_text()
    assert "  train:\n" in profile
    (folder / "profile").mkdir()
    (folder / "profile/config.yaml").write_text(
        profile.replace("  train:\n", "  train:\n    gpu: 1\n")
    )
    (folder / "patient.py").write_text(STANDS_STILL)
    environment = environment | {"PYTHONPATH": f"{mini.ROOT}{os.pathsep}{folder}"}

    def scontrol(*words: str) -> str:
        done = subprocess.run(
            ["scontrol", *words], env=environment, capture_output=True, text=True, check=True
        )
        return done.stdout

    with (folder / "output").open("w") as output:
        process = subprocess.Popen(
            [
                *(sys.executable, "-m", "snakemake", "--snakefile", mini.ROOT / "Snakefile"),
                *("--profile", folder / "profile", "--config", "study=mini"),
                # What a cluster with accounting does not need, and what saves a test time.
                *("--slurm-no-account", "--slurm-status-command", "squeue"),
                *("--slurm-init-seconds-before-status-checks", "5"),
            ],
            cwd=folder,
            env=environment,
            stdout=output,
            stderr=subprocess.STDOUT,
        )
    said = (folder / "output").read_text
    try:
        killed = {}
        for name, kill in (
            ("cancelled", lambda job: subprocess.run(["scancel", job], env=environment)),
            ("late", lambda job: scontrol("update", f"JobId={job}", "TimeLimit=1")),
        ):
            marker = folder / f"hang.{name}"
            while not marker.is_file() or not marker.read_text():
                assert process.poll() is None, said()
                time.sleep(0.5)
            killed[name], device = marker.read_text().split()
            assert device in ("0", "1")
            assert re.search(r"TresPerJob=\S*gpu:1\b", scontrol("show", "job", killed[name]))
            kill(killed[name])
        assert process.wait(1200) == 0, said()
    finally:
        process.terminate()
        process.wait(60)
    assert "JobState=CANCELLED" in scontrol("show", "job", killed["cancelled"])
    assert "JobState=TIMEOUT" in scontrol("show", "job", killed["late"])

    runs = f"mini/{mini.MODEL}/{{}}/seed0"
    weights = {
        method: sha256_file(
            folder / "results/mini/runs" / runs.format(method) / "train/weights.safetensors"
        )
        for method in methods
    }
    assert len(set(weights.values())) == 1, weights
    for name in killed:
        log = folder / "work/mini/logs" / runs.format(name) / "train.log"
        assert re.search(r"resumed from .*/work/.*/iter_4\.pth", log.read_text())
    assert "| Baseline" in (folder / "results/mini/report/table.md").read_text()
