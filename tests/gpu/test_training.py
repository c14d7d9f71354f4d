"""What runs on a CUDA device: the regularised model, mixed precision, SyncBN, a whole tiny run.

    make test-gpu

The same on a CPU is in `tests/sar` and `tests/pipelines`.
"""

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
import torch
import torch.distributed as dist
import torch.multiprocessing as mp
from mmengine.registry import MODELS, init_default_scope
from mmseg.utils import register_all_modules
from torch import nn
from torch.nn.parallel import DistributedDataParallel

from pipelines.base.artifacts import read_json
from pipelines.evaluate.stage import evaluate
from pipelines.fetch.stage import fetch
from pipelines.prepare.stage import prepare
from pipelines.train.stage import train
from sar import SemanticAnchorRegularizer
from sar.mmseg import apply_sar
from tests.pipelines import mini
from tests.sar.sar_cases import head, sample, segmentor

pytestmark = [
    pytest.mark.gpu,
    pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA device"),
]

DEVICE = "cuda"
K = 5


@pytest.fixture(autouse=True)
def exact():
    """Convolutions and products in float32 proper, not in TF32."""
    before = torch.backends.cudnn.allow_tf32, torch.backends.cuda.matmul.allow_tf32
    torch.backends.cudnn.allow_tf32 = torch.backends.cuda.matmul.allow_tf32 = False
    yield
    torch.backends.cudnn.allow_tf32, torch.backends.cuda.matmul.allow_tf32 = before


def model() -> nn.Module:
    """A small segmentor with SAR, whose classifier knows the anchors: L_p2a acts at once."""
    register_all_modules()
    init_default_scope("mmseg")
    torch.manual_seed(0)
    config = segmentor(head("FCNHead", K, in_channels=128, dropout_ratio=0.0))
    built = MODELS.build(apply_sar(config, update_confidence=0.2))
    built.init_weights()
    knows_the_anchors(built.regularizer, built.decode_head.conv_seg)
    return built.train()


def knows_the_anchors(regularizer: SemanticAnchorRegularizer, classifier: nn.Conv2d) -> None:
    with torch.no_grad():
        embedded = regularizer.embedding(regularizer.anchors).flatten(1)
        classifier.weight.copy_(3 * torch.linalg.pinv(embedded).T[:, :, None, None])
        classifier.bias.zero_()


def batch(device: str) -> tuple[torch.Tensor, list]:
    generator = torch.Generator().manual_seed(1)
    images = torch.randn(2, 3, 64, 64, generator=generator)
    labels = torch.randint(0, K, (2, 64, 64), generator=generator)
    labels[0, :20] = 255
    return images.to(device), [sample(each).to(device) for each in labels]


def losses_of(net: nn.Module, device: str) -> dict[str, torch.Tensor]:
    return {name: value for name, value in net.loss(*batch(device)).items() if "loss" in name}


@pytest.mark.parametrize("memory_format", [torch.contiguous_format, torch.channels_last])
def test_losses_and_gradients_are_those_of_the_cpu(memory_format):
    """Losses within 1e-4, gradients within 1e-3 of the largest."""
    plain, other = model(), model().to(DEVICE, memory_format=memory_format)
    expected, losses = losses_of(plain, "cpu"), losses_of(other, DEVICE)
    assert plain.regularizer.gate and other.regularizer.gate
    for name, value in expected.items():
        torch.testing.assert_close(losses[name].cpu(), value, rtol=1e-4, atol=1e-5, msg=name)
    sum(expected.values()).backward()
    sum(losses.values()).backward()
    for (name, one), two in zip(plain.named_parameters(), other.parameters(), strict=True):
        assert (one.grad is None) == (two.grad is None), name
        if one.grad is not None:
            largest = one.grad.abs().max().item()
            torch.testing.assert_close(
                two.grad.cpu(), one.grad, rtol=1e-3, atol=1e-3 * largest + 1e-7, msg=name
            )


@pytest.mark.parametrize(("dtype", "tolerance"), [(torch.bfloat16, 0.05), (torch.float16, 0.01)])
def test_mixed_precision_follows_float32_and_its_steps_are_finite(dtype, tolerance):
    """Each loss within 5 % (bf16) or 1 % (fp16)."""
    plain, cast = model().to(DEVICE), model().to(DEVICE)
    expected = losses_of(plain, DEVICE)
    with torch.autocast(DEVICE, dtype=dtype):
        losses = losses_of(cast, DEVICE)
    for name, value in expected.items():
        assert name.startswith("decode.") or losses[name].dtype == torch.float32
        torch.testing.assert_close(losses[name].float(), value, rtol=tolerance, atol=1e-3, msg=name)
    scaler = torch.amp.GradScaler(DEVICE, enabled=dtype == torch.float16, init_scale=2.0**12)
    optimizer = torch.optim.SGD(cast.parameters(), lr=0.01, fused=True)
    before = cast.decode_head.conv_seg.weight.detach().clone()
    scaler.scale(sum(losses.values())).backward()
    scaler.step(optimizer)
    scaler.update()
    assert not torch.equal(cast.decode_head.conv_seg.weight, before)
    assert all(torch.isfinite(parameter).all() for parameter in cast.parameters())
    if dtype == torch.float16:
        assert scaler.get_scale() == 2.0**12  # nothing overflowed


@pytest.fixture
def study(tmp_path, monkeypatch):
    """A function: the study `mini`, prepared, with these options of its model entry."""
    monkeypatch.chdir(tmp_path)
    # Four images: a part of two leaves batch norm two values a channel where the map is one pixel.
    training = mini.study_file()["training"] | {"batch_size": 4}
    mini.write_params(tmp_path, training=training)
    entry = tmp_path / f"params/models/{mini.MODEL}.yaml"
    text = entry.read_text()

    def prepared(**options):
        lines = "".join(f"{name}: {json.dumps(value)}\n" for name, value in options.items())
        entry.write_text(text + lines)
        loaded = mini.load()
        for dataset in loaded.datasets.values():
            fetch(dataset)
            prepare(dataset)
        return loaded

    return prepared


@pytest.mark.parametrize(
    "options",
    [{}, {"precision": "bf16"}, {"precision": "fp16"}, {"accumulate": 2}, {"compile": True}],
    ids=lambda options: "-".join(map(str, options.values())) or "plain",
)
def test_a_tiny_run_from_training_to_scores(study, options):
    """Its first loss is that of a CPU within 1 % (5 % for a reduced precision): the weights are
    drawn on the CPU, and nothing of this model is dropped."""
    loaded = study(**options)
    runs = {run.method: run for run in loaded.runs}
    for run in runs.values():
        train(run)
        evaluate(run)
        assert read_json(run.output("train", "runtime.json"))["device"] != "cpu"
        metrics = read_json(run.output("evaluate", "metrics.json"))
        assert 0 <= metrics["mIoU"] <= 100
        confusion = pd.read_csv(run.output("evaluate", "confusion.csv"), index_col="truth")
        assert confusion.to_numpy().sum() == 5 * 32 * 32
    run = runs["sar"]
    curves = pd.read_csv(run.output("train", "curves.csv"))
    assert np.isfinite(curves["loss"]).all()
    study()  # float32, in one part
    assert command_of(run, CUDA_VISIBLE_DEVICES="").wait() == 0
    on_cpu = pd.read_csv(run.output("train", "curves.csv"))
    tolerance = 0.05 if options else 0.01
    np.testing.assert_allclose(curves["loss"][0], on_cpu["loss"][0], rtol=tolerance)


def command_of(run, **environment: str) -> subprocess.Popen:
    """`python -m pipelines.train` of a run, begun."""
    # The packages may be on an inherited path, and the project in no site-packages.
    path = os.pathsep.join([str(mini.ROOT), *filter(None, [os.environ.get("PYTHONPATH")])])
    words = ["pipelines.train", "--study", run.study.name, "--run", run.name]
    environment = os.environ | {"PYTHONPATH": path} | environment
    return subprocess.Popen([sys.executable, "-m", *words], env=environment)


def test_two_runs_on_one_device_at_once(study):
    """Both finish there, and neither waits for the other: each is begun before the other's end."""
    study()
    path = Path("params/studies/mini.yaml")
    file = json.loads(path.read_text())
    file["training"]["iterations"] = 300  # longer than one process starts after the other
    path.write_text(json.dumps(file | {"runs_per_gpu": 2, "gpus": True}))
    runs = mini.load().runs[:2]
    device = f"GPU-{torch.cuda.get_device_properties(0).uuid}"
    begun = [command_of(run, CUDA_VISIBLE_DEVICES=device) for run in runs]
    assert [process.wait(timeout=120) for process in begun] == [0, 0]
    facts = [read_json(run.output("train", "runtime.json")) for run in runs]
    assert len({fact["device"] for fact in facts}) == 1 and facts[0]["device"] != "cpu"
    times = [sorted(fact["logged"]["times"].values()) for fact in facts]
    assert max(each[0] for each in times) < min(each[-1] for each in times)


@pytest.mark.parametrize("workers", [0, 2])
def test_images_kept_in_memory_give_the_first_loss_of_images_that_are_not(study, workers):
    """To the digit, with workers and pinned memory as well."""
    study()
    path = Path("params/studies/mini.yaml")
    plain = json.loads(path.read_text())
    losses = []
    for changes in ({"workers": 0, "image_cache": 0}, {"workers": workers, "image_cache": 64}):
        path.write_text(json.dumps(plain | changes))
        run = next(run for run in mini.load().runs if run.method == "sar")
        for made in (run.folder("train"), run.study.work):
            shutil.rmtree(made, ignore_errors=True)
        train(run)
        losses.append(pd.read_csv(run.output("train", "curves.csv"))["loss"][0])
    assert losses[0] == losses[1]


class Small(nn.Module):
    """A stem with batch norm, and the regularizer on top."""

    def __init__(self) -> None:
        super().__init__()
        torch.manual_seed(0)
        self.stem = nn.Sequential(nn.Conv2d(3, 16, 1), nn.BatchNorm2d(16))
        self.classifier = nn.Conv2d(16, K, 1)
        self.regularizer = SemanticAnchorRegularizer(
            K, 16, update_confidence=0.2, filter_confidence=1.0
        )
        knows_the_anchors(self.regularizer, self.classifier)

    def forward(self, images: torch.Tensor, labels: torch.Tensor) -> torch.Tensor:
        losses = self.regularizer(self.stem(images), labels, self.classifier)
        assert self.regularizer.gate
        return sum(losses.values())


def small_batch() -> tuple[torch.Tensor, torch.Tensor]:
    generator = torch.Generator().manual_seed(2)
    images = torch.randn(4, 3, 9, 9, generator=generator)
    labels = torch.randint(0, K, (4, 9, 9), generator=generator)
    labels[0, :7] = 255  # the processes have unequal void
    return images.to(DEVICE), labels.to(DEVICE)


def steps(net: nn.Module, images: torch.Tensor, labels: torch.Tensor) -> list[float]:
    optimizer = torch.optim.SGD(net.parameters(), lr=0.05)
    losses = []
    for _ in range(5):
        loss = net(images, labels)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        losses.append(loss.item())
    return losses


def process(rank: int, folder: str) -> None:
    # Not nccl, which refuses two processes on one device.
    dist.init_process_group("gloo", init_method=f"file://{folder}/meet", rank=rank, world_size=2)
    torch.backends.cudnn.allow_tf32 = False
    images, labels = small_batch()
    net = nn.SyncBatchNorm.convert_sync_batchnorm(Small().to(DEVICE))
    assert type(net.stem[1]) is nn.SyncBatchNorm
    part = slice(2 * rank, 2 * rank + 2)
    losses = steps(DistributedDataParallel(net), images[part], labels[part])
    torch.save({"losses": losses, "state": net.cpu().state_dict()}, f"{folder}/{rank}.pt")
    dist.destroy_process_group()


def test_two_processes_with_synchronised_norm_are_one_with_the_whole_batch(tmp_path):
    """Losses and weights within 1e-4 over 5 steps; both processes hold the same anchors."""
    mp.spawn(process, (str(tmp_path),), nprocs=2)
    first, second = (torch.load(tmp_path / f"{rank}.pt") for rank in range(2))
    whole = Small().to(DEVICE)
    losses = steps(whole, *small_batch())
    means = np.mean([first["losses"], second["losses"]], axis=0)
    np.testing.assert_allclose(means, losses, rtol=1e-4)
    for name, value in whole.cpu().state_dict().items():
        assert torch.equal(first["state"][name], second["state"][name]), name
        torch.testing.assert_close(first["state"][name], value, rtol=1e-4, atol=1e-5, msg=name)
