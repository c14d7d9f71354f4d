"""A training step of a whole model without loading, and its prediction of images.

Baseline and SAR share one backbone: it is built, and compiled, once. A CUDA graph is the same step
recorded and replayed: no kernel waits for Python to launch it.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterator
from contextlib import contextmanager

import torch
from mmengine.model import revert_sync_batchnorm
from mmengine.registry import MODELS
from torch import Tensor, nn

from benchmarks.cost import Batch, model_config
from benchmarks.on_gpu.bench import Bench
from benchmarks.on_gpu.pulls import kernel_serves
from pipelines.configs.numerics import allow_tf32
from pipelines.evaluate.class_ids import classes_only, pixel_counts
from sar import pull as pull_module
from sar.mmseg import apply_sar

STEPS = [("fcn_hr48", 8, (512, 1024), 1.02), ("fcn_hrnet_small", 8, (320, 416), 1.05)]
"""Model entry, images, their size, and the limit to SAR's step over the baseline's."""
TINY = [("fcn_hrnet_tiny", 2, (32, 64), 1.05)]

LARGE = "fcn_hr48"
"""Its compilation alone takes minutes, and in float32 three graphs of it would fill a GPU."""

MODES = [
    ("float32", False, False, torch.contiguous_format),
    ("TF32, channels_last", True, False, torch.channels_last),
    ("bf16, channels_last", True, True, torch.channels_last),
]
"""Name, whether float32 may be rounded to TF32, whether bf16 is used, and the memory format."""

EVALUATION_LIMIT = 1.05
"""Of the counts that an evaluation makes, over mmsegmentation's prediction."""

COMPILING = 60.0
"""Seconds that torch.compile takes for the backbone of the small model, seen on an H200."""


def time_steps(bench: Bench, cases: list, hows: Collection[str], backend: str) -> None:
    """Milliseconds of a step.

    Args:
        hows: of "eager", "graph" and "compiled".
        backend: of torch.compile.
    """
    for name, images, size, limit in cases:
        case = f"{name} {images}x{size[0]}x{size[1]}"
        wanted = [(mode, how) for mode in MODES for how in hows if _worth(name, mode[0], how)]
        if not wanted or not bench.left(f"step {case} {', '.join(hows)}"):
            continue
        models, batch = models_of(name, bench.device), Batch.random(images, size, 11, bench.device)
        for mode, how in wanted:
            what = f"step {case} {mode[0]}, {how}"
            if how == "graph" and bench.device == "cpu":
                bench.leave_out(what, "CUDA graphs need a CUDA device")
            elif bench.left(what, COMPILING if how == "compiled" and backend == "inductor" else 0):
                try:
                    with tf32(mode[1]):
                        _time_mode(bench, case, models, batch, mode, how, limit, backend)
                except torch.OutOfMemoryError:
                    bench.leave_out(what, "no memory for it")
            if bench.device != "cpu":
                torch.cuda.empty_cache()  # of graphs that are gone


def _worth(name: str, mode: str, how: str) -> bool:
    if how == "graph":
        return name != LARGE or mode.startswith("bf16")
    return how == "eager" or (name != LARGE and mode != "float32")


def _time_mode(
    bench: Bench,
    case: str,
    models: dict[str, nn.Module],
    batch: Batch,
    mode: tuple[str, bool, bool, torch.memory_format],
    how: str,
    limit: float,
    backend: str,
) -> None:
    kind, _, bf16, layout = mode
    batch = Batch(batch.inputs.contiguous(memory_format=layout), batch.samples)
    for model in models.values():
        model.to(memory_format=layout)
    if how == "compiled":
        models["baseline"].backbone.compile(backend=backend)
    steps: dict[str, Callable[[], object]] = {}
    for path in ("", "torch", *(["kernel"] if kernel_serves(bench.device) else [])):
        model = models["SAR" if path else "baseline"]
        step = step_of(model, batch, bf16, path or "torch")
        steps[f"SAR, {path}" if path else "baseline"] = as_graph(step) if how == "graph" else step
    found = bench.milliseconds(steps)
    for contender, ms in found.items():
        more = {"ratio": round(ms / found["baseline"], 3), "of": "baseline"}
        more["limit"] = None if contender == "baseline" else limit
        if how != "graph":  # whose memory is its own, and held
            more["peak_mib"] = bench.peak_mib(steps[contender])
        bench.add("step", case, f"{kind}, {how}", contender, ms, "ms", **more)


def models_of(name: str, device: str) -> dict[str, nn.Module]:
    """`baseline` and `SAR` of a model entry, with one backbone, the classes of the study default
    and random weights; the gate stands open, as in all but the first iterations of a training."""
    config = model_config(name)
    found = {}
    for method, plain in (("baseline", config), ("SAR", apply_sar(config, gated=False))):
        torch.manual_seed(0)
        found[method] = revert_sync_batchnorm(MODELS.build(plain))
    found["SAR"].backbone = found["baseline"].backbone
    return {method: model.to(device).train() for method, model in found.items()}


def step_of(model: nn.Module, batch: Batch, bf16: bool, path: str) -> Callable[[], Tensor]:
    """A training step: forward, backward, optimizer; it returns the loss."""
    optimizer = torch.optim.SGD(model.parameters(), lr=1e-4, momentum=0.9)
    device = batch.inputs.device.type

    def step() -> Tensor:
        with torch.autocast(device, dtype=torch.bfloat16, enabled=bf16), path_of_sar(path):
            loss = model.parse_losses(model.loss(batch.inputs, batch.samples))[0]
        optimizer.zero_grad(set_to_none=True)
        loss.backward()
        optimizer.step()
        return loss.detach()

    return step


def as_graph(step: Callable[[], Tensor]) -> Callable[[], Tensor]:
    """The step as a CUDA graph, which is replayed on the same batch and returns the same tensor."""
    side = torch.cuda.Stream()
    side.wait_stream(torch.cuda.current_stream())
    with accuracy_without_waiting():
        with torch.cuda.stream(side):
            for _ in range(3):  # libraries choose and allocate, the optimizer makes its state
                step()
        torch.cuda.current_stream().wait_stream(side)
        graph = torch.cuda.CUDAGraph()
        with torch.cuda.graph(graph):
            loss = step()

    def replay() -> Tensor:
        graph.replay()
        return loss

    return replay


@contextmanager
def accuracy_without_waiting() -> Iterator[None]:
    """mmsegmentation's accuracy picks the labelled pixels by a mask, and waits for their number,
    which no graph can record."""
    from mmseg.models.decode_heads import decode_head

    before = decode_head.accuracy
    decode_head.accuracy = accuracy
    try:
        yield
    finally:
        decode_head.accuracy = before


def accuracy(scores: Tensor, labels: Tensor, ignore_index: int | None = None) -> Tensor:
    """Per cent of the labelled pixels whose class has the highest score, (1,)."""
    valid = torch.ones_like(labels, dtype=torch.bool)
    if ignore_index is not None:
        valid = labels != ignore_index
    right = (scores.argmax(dim=1) == labels) & valid
    return (100.0 * right.sum() / valid.sum().clamp(min=1)).reshape(1)


@contextmanager
def path_of_sar(path: str) -> Iterator[None]:
    """Of the pull: torch or kernel."""
    before = pull_module._DEFAULT
    pull_module._DEFAULT = path
    try:
        yield
    finally:
        pull_module._DEFAULT = before


@contextmanager
def tf32(allowed: bool) -> Iterator[None]:
    before = torch.backends.cudnn.allow_tf32, torch.backends.cuda.matmul.allow_tf32
    allow_tf32(allowed)
    try:
        yield
    finally:
        torch.backends.cudnn.allow_tf32, torch.backends.cuda.matmul.allow_tf32 = before


def time_evaluation(bench: Bench, cases: list) -> None:
    """Images a second: their scores, what mmsegmentation predicts of them, and the counts of pixels
    by class that `pipelines.evaluate` makes of them; in float32 proper, as it evaluates."""
    for name, images, size, _ in cases:
        case = f"{name} {images}x{size[0]}x{size[1]}"
        if not bench.left(f"evaluation {case}"):
            continue
        batch = Batch.random(images, size, 11, bench.device)
        model = models_of(name, bench.device)["baseline"].eval()
        model.to(memory_format=torch.channels_last)
        inputs = batch.inputs.contiguous(memory_format=torch.channels_last)

        def counted(model=model, inputs=inputs, batch=batch) -> None:
            with classes_only(model):
                found = model.predict(inputs, batch.samples)
            for sample in found:
                pixel_counts(sample.gt_sem_seg.data[0], sample.pred_sem_seg.data[0], 11, 255)

        with torch.inference_mode(), tf32(False):
            found = bench.milliseconds(
                {
                    "logits": lambda: model(inputs, batch.samples, mode="tensor"),  # noqa: B023
                    "predicted": lambda: model.predict(inputs, batch.samples),  # noqa: B023
                    "counted": counted,
                }
            )
        for contender, ms in found.items():
            more = {"ratio": round(ms / found["predicted"], 3), "of": "predicted"}
            more["limit"] = EVALUATION_LIMIT if contender == "counted" else None
            kind = "float32, channels_last"
            bench.add("evaluation", case, kind, contender, images / ms * 1e3, "images/s", **more)
