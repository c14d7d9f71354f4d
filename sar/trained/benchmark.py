"""What a trained model costs to use: parameters, operations, time and memory of a pass.

Operations are counted by ``torch.utils.flop_counter``: those of convolutions, matrix products and
attention, a multiplication and an addition as two, of one image. Times are of
`TrainedModel.forward`, normalisation included, on images that lie on the device already: no
reading, no resizing.
"""

from __future__ import annotations

import statistics
import sys
import time
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import Any

import torch
from torch.utils.flop_counter import FlopCounterMode

from sar.errors import SarError
from sar.trained.export import random_images
from sar.trained.model import TrainedModel

__all__ = ["Cost", "benchmark", "table"]


@dataclass(frozen=True)
class Cost:
    """Of passes over random images."""

    device: str
    threads: int
    batch: int
    height: int
    width: int
    passes: int
    """Measured, after those of the warm-up."""
    parameters: int
    flops: int
    """Of one image."""
    latency_ms: float
    """Median of a pass, a batch of images."""
    latency_p90_ms: float
    """Nine of ten passes took no longer."""
    images_per_second: float
    """Of all passes together."""
    peak_memory_mib: float | None
    """None where the system does not tell."""
    peak_memory_of: str
    """What the peak is of: tensors on a GPU, or the whole process on a CPU."""

    def values(self) -> dict[str, Any]:
        """Plain values, for JSON."""
        return asdict(self)


def benchmark(
    model: TrainedModel,
    *,
    size: tuple[int, int],
    batch: int = 1,
    passes: int = 20,
    warm_up: int = 3,
) -> Cost:
    """Measure ``passes`` forward passes over ``batch`` images of ``size`` (height, width).

    Raises:
        SarError: when the model cannot be run on such images.
    """
    device = next(model.parameters()).device
    images = random_images((batch, *size), seed=0).to(device)
    if device.type == "cuda":
        torch.cuda.reset_peak_memory_stats(device)
    try:
        with torch.inference_mode():
            counter = FlopCounterMode(display=False)
            with counter:
                model(images[:1])
            for _ in range(warm_up):
                model(images)
            seconds = [_seconds(model, images) for _ in range(passes)]
    except RuntimeError as error:  # torch's own, out of memory included.
        raise SarError(
            f"the model does not run on {batch} images of {size[0]}x{size[1]} on {device}: "
            f"{str(error).splitlines()[0]}"
        ) from error
    memory, of = _peak(device)
    return Cost(
        device=torch.cuda.get_device_name(device) if device.type == "cuda" else "cpu",
        threads=torch.get_num_threads(),
        batch=batch,
        height=size[0],
        width=size[1],
        passes=passes,
        parameters=sum(parameter.numel() for parameter in model.parameters()),
        flops=counter.get_total_flops(),
        latency_ms=1e3 * statistics.median(seconds),
        latency_p90_ms=1e3 * _quantile(seconds, 0.9),
        images_per_second=batch * passes / sum(seconds),
        peak_memory_mib=memory,
        peak_memory_of=of,
    )


def table(cost: Cost) -> str:
    """The same for a person, a line a quantity."""
    memory = "not told" if cost.peak_memory_mib is None else f"{cost.peak_memory_mib:.0f} MiB"
    rows = [
        ("device", f"{cost.device}, {cost.threads} CPU threads"),
        ("images", f"{cost.batch} x 3 x {cost.height} x {cost.width}, {cost.passes} passes"),
        ("parameters", f"{cost.parameters / 1e6:.3f} M"),
        ("operations", f"{cost.flops / 1e9:.3f} GFLOP an image"),
        ("latency", f"{cost.latency_ms:.2f} ms (median), {cost.latency_p90_ms:.2f} ms (90 %)"),
        ("throughput", f"{cost.images_per_second:.2f} images/s"),
        ("peak memory", f"{memory} of {cost.peak_memory_of}"),
    ]
    return "\n".join(f"{name:<12} {value}" for name, value in rows)


def _seconds(model: TrainedModel, images: torch.Tensor) -> float:
    if images.device.type == "cuda":
        torch.cuda.synchronize(images.device)
    begun = time.perf_counter()
    model(images)
    if images.device.type == "cuda":
        torch.cuda.synchronize(images.device)
    return time.perf_counter() - begun


def _quantile(values: Sequence[float], share: float) -> float:
    """The least of the values that ``share`` of them do not exceed."""
    ordered = sorted(values)
    return ordered[max(0, -(-len(ordered) * round(100 * share) // 100) - 1)]


def _peak(device: torch.device) -> tuple[float | None, str]:
    """MiB, and of what."""
    if device.type == "cuda":
        return torch.cuda.max_memory_allocated(device) / 2**20, "tensors on the GPU"
    of = "the process, libraries included"
    try:
        import resource
    except ImportError:  # Windows
        return None, of
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    # Kilobytes on Linux, bytes on macOS.
    return peak / (2**20 if sys.platform == "darwin" else 2**10), of
