"""Two processes do what one does: the same losses, and the same scores."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from PIL import Image

from pipelines.base.artifacts import canonical_json
from pipelines.fetch import stage as fetch
from pipelines.prepare import stage as prepare
from pipelines.running.processes import BatchShare
from pipelines.study import RUN_STAGES, Study
from tests.pipelines import mini
from tests.pipelines.receipts import vouch_drawn

RUN = "mini/group_norm/sar/seed0"
STEPS = 20
WAYS = ("one", "two")
"""Variants of the study, with that many processes; others are for one test each."""


def write_study(folder: Path) -> None:
    """A study whose processes draw nothing, so that their number changes nothing."""
    norm = {"_delete_": True, "type": "GN", "num_groups": 2}
    entry = json.loads(json.dumps(TINY_HRNET))
    for part in ("backbone", "decode_head"):
        entry["model"][part]["norm_cfg"] = norm
    training = {
        "iterations": STEPS,
        "batch_size": 4,
        "optimizer": {"type": "SGD", "lr": 0.1},
        "checkpoint_interval": STEPS,
        "log_interval": 1,
    }
    options = {"update_confidence": 0.12, "filter_confidence": 1.0}
    plugin = {"label": "SAR", "plugin": "tests.pipelines.recorded:apply", "options": options}
    mini.write_params(
        folder,
        models=["group_norm"],
        baseline="sar",
        methods={"sar": plugin},
        training=training,
        variants={
            "one": {},
            **{name: {"processes": 2} for name in ("two", "evaluated", "hosts")},
        },
    )
    (folder / "params/models/group_norm.yaml").write_text(json.dumps(entry))


TINY_HRNET = {
    "title": "HRNet with group norm",
    "config": "_base_/models/fcn_hr18.py",
    "model": {
        "pretrained": None,
        "backbone": {
            "extra": {
                "stage1": {"num_blocks": [1], "num_channels": [8]},
                "stage2": {"num_blocks": [1, 1], "num_channels": [4, 8]},
                "stage3": {"num_modules": 1, "num_blocks": [1] * 3, "num_channels": [4, 8, 16]},
                "stage4": {
                    "num_modules": 1,
                    "num_blocks": [1] * 4,
                    "num_channels": [4, 8, 16, 32],
                },
            }
        },
        "decode_head": {"in_channels": [4, 8, 16, 32], "channels": 60},
    },
}


def make_void(folder: Path) -> None:
    """Half of the images become void, the others by unequal parts."""
    for index, path in enumerate(sorted(folder.iterdir())):
        with Image.open(path) as picture:
            picture.load()
        height = picture.height if index % 2 else picture.height * (index % 5) // 8
        picture.paste(255, (0, 0, picture.width, height))
        picture.save(path)


def stage(name: str, way: str) -> subprocess.CompletedProcess:
    words = ["-m", f"pipelines.{name}", "--study", f"mini@{way}", "--run", RUN]
    environment = os.environ | {"PYTHONPATH": str(mini.ROOT), "RECORD": f"{way}-"}
    done = subprocess.run(
        [sys.executable, *words], env=environment, capture_output=True, text=True, timeout=600
    )
    assert done.returncode == 0, done.stderr[-4000:]
    return done


@pytest.fixture(scope="module")
def project(tmp_path_factory):
    """The working directory, with the run trained in both ways."""
    folder = tmp_path_factory.mktemp("distributed")
    before = Path.cwd()
    os.chdir(folder)
    write_study(folder)
    for dataset in mini.load().datasets.values():
        fetch.fetch(dataset)
        prepare.prepare(dataset)
        make_void(dataset.prepared / "labels/train")
        vouch_drawn(dataset)
    for way in WAYS:
        stage("train", way)
    yield folder
    os.chdir(before)


pytestmark = pytest.mark.slow


def records(project: Path, name: str) -> list[dict]:
    lines = (project / f"{name}.jsonl").read_text().splitlines()
    assert len(lines) == STEPS
    return [json.loads(line) for line in lines]


def test_two_processes_train_as_one_on_the_whole_batch(project):
    whole, parts = records(project, "one-"), both(project)
    for one, two in zip(whole, parts, strict=True):
        assert sorted(one["images"]) == sorted(two[0]["images"] + two[1]["images"])
        for name in ("decode.loss_ce", "sar.loss_aux_ce", "sar.loss_p2a", "loss"):
            mean = (two[0][name] + two[1][name]) / 2
            assert mean == pytest.approx(one[name], rel=0, abs=1e-7), name
    # The hard cases were among them: a gate that opens late, parts of the batch with unequal void,
    # and with void only.
    assert {one["sar.gate"] for one in whole} == {0.0, 1.0}
    pulled = [
        sorted(part["valid"] for part in two)
        for one, two in zip(whole, parts, strict=True)
        if one["sar.loss_p2a"] > 1e-3
    ]
    assert any(less == 0 < more for less, more in pulled)
    assert any(0 < less < more for less, more in pulled)


def test_all_weights_and_buffers_stay_the_same_in_both(project):
    for first, second in both(project):
        assert first["state"] == second["state"]


def test_the_curves_are_of_the_whole_batch(project):
    study = mini.load()
    one, two = (pd.read_csv(results(project, way) / "train/curves.csv") for way in WAYS)
    assert study.file.training.log_interval == 1 and len(one) == STEPS
    for name in ("loss", "decode.loss_ce", "sar.loss_aux_ce", "sar.loss_p2a", "sar.gate"):
        np.testing.assert_allclose(two[name], one[name], rtol=0, atol=1e-5)


def test_two_processes_evaluate_to_the_same_bytes(project):
    """Of five images in batches of two the first process has three, the second two."""
    alone, shared = (results(project, way) for way in ("one", "evaluated"))
    shutil.copytree(alone / "train", shared / "train")
    # As if it had been trained for that study, which asks for more processes.
    receipt = shared / "train/receipt.json"
    parameters = Study.load("mini@evaluated").run(RUN).parameters_hash("train")
    receipt.write_text(canonical_json(json.loads(receipt.read_text()) | {"parameters": parameters}))
    for way in ("one", "evaluated"):
        stage("evaluate", way)
    for name in RUN_STAGES["evaluate"]:
        assert (alone / "evaluate" / name).read_bytes() == (
            shared / "evaluate" / name
        ).read_bytes(), name
    metrics = json.loads((shared / "evaluate/metrics.json").read_text())
    assert metrics["num_images"] == 5
    with np.load(shared / "evaluate/analysis.npz") as analysis:
        assert analysis["stems"].tolist() == [f"{index:05d}" for index in range(5)]
        assert analysis["sample/feature"].size and not str(analysis["missing"])


@pytest.fixture
def hosts():
    """Two network namespaces, joined by a cable: their names, and the address of the first."""
    if shutil.which("ip") is None:
        pytest.skip("no command ip (Debian: iproute2): cannot make two hosts of this machine")
    names = [f"sar{os.getpid()}{end}" for end in "ab"]
    made = subprocess.run(["ip", "netns", "add", names[0]], capture_output=True, text=True)
    if made.returncode != 0:
        pytest.skip(f"cannot make network namespaces: {made.stderr.strip()}")
    try:
        ip("netns", "add", names[1])
        ip(
            "link",
            "add",
            names[0],
            "netns",
            names[0],
            "type",
            "veth",
            "peer",
            names[1],
            "netns",
            names[1],
        )
        for number, name in enumerate(names, start=1):
            ip("-n", name, "address", "add", f"10.231.77.{number}/24", "dev", name)
            for device in ("lo", name):
                ip("-n", name, "link", "set", device, "up")
        yield names, "10.231.77.1"
    finally:
        for name in names:
            subprocess.run(["ip", "netns", "del", name], capture_output=True)


def ip(*words: str) -> None:
    subprocess.run(["ip", *words], check=True, capture_output=True)


def test_two_hosts_train_as_one_with_two_processes(project, hosts):
    """As docs/gpus.md says to do it, with what the hosts see of each other: a cable."""
    names, address = hosts
    torchrun = [sys.executable, "-m", "torch.distributed.run", "--nnodes", "2"]
    torchrun += ["--nproc-per-node", "1", "--master-addr", address, "--master-port", "29500"]
    command = ["-m", "--", "pipelines.train", "--study", "mini@hosts", "--run", RUN]
    environment = os.environ | {"PYTHONPATH": str(mini.ROOT), "RECORD": "hosts-"}
    started = [
        subprocess.Popen(
            ["ip", "netns", "exec", name, *torchrun, "--node-rank", str(number), *command],
            env=environment | {"GLOO_SOCKET_IFNAME": name},
            stderr=subprocess.PIPE,
            text=True,
        )
        for number, name in enumerate(names)
    ]
    try:
        for process in started:
            _, errors = process.communicate(timeout=600)
            assert process.returncode == 0, errors[-4000:]
    finally:
        for process in started:
            process.kill()
    for name in ("weights.safetensors", "plugin.safetensors", "curves.csv"):
        there, here = (results(project, way) / "train" / name for way in ("hosts", "two"))
        assert there.read_bytes() == here.read_bytes(), name


def results(project: Path, way: str) -> Path:
    return project / f"results/mini@{way}/runs/{RUN}"


def both(project: Path) -> list[tuple[dict, dict]]:
    return list(zip(records(project, "two-0"), records(project, "two-1"), strict=True))


@pytest.mark.parametrize("world", [1, 2, 3, 4])
@pytest.mark.parametrize("length", [0, 1, 5, 6, 7, 12])
def test_every_image_is_in_one_share_and_its_batch_is_that_of_one_process(
    monkeypatch, world, length
):
    for name in ("LOCAL_RANK", "MASTER_ADDR", "MASTER_PORT"):
        monkeypatch.setenv(name, "0")
    monkeypatch.setenv("WORLD_SIZE", str(world))
    batches = []
    for rank in range(world):
        monkeypatch.setenv("RANK", str(rank))
        share = list(BatchShare(range(length), 3))
        batches += [tuple(share[start : start + 3]) for start in range(0, len(share), 3)]
    expected = [tuple(range(length))[start : start + 3] for start in range(0, length, 3)]
    assert sorted(batches) == expected
