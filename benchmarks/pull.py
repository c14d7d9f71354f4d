"""Time and peak memory of the pixel-to-anchor pull on a CPU, as ratios to its floor, in one run.

    python benchmarks/pull.py [--threads 1] [--repeats 15]

Forward and backward, best of several rounds. The contenders take turns within a round, so that a
busy machine slows all of them. The floor reads the features once and writes something of their size
once, as a gradient is, into memory fresh from the allocator. Prints a row a contender and writes
them to `pull.csv`; where a goal sets a limit to the ratio it stands beside it. The ratios of one
call are the result, not the times. (For GPUs: `benchmarks/gpu.py`.)
"""

from __future__ import annotations

import argparse
import contextlib
import csv
import ctypes
import time
from collections.abc import Callable
from pathlib import Path

import torch
import torch.nn.functional as F
from torch import Tensor

from sar import SemanticAnchorRegularizer
from sar.pull import pixel_to_anchor_pull

TABLE = Path(__file__).with_suffix(".csv")
GOALS = {"pull": 1.3}
VOID = 255
LAYOUTS = {"contiguous": torch.contiguous_format, "channels_last": torch.channels_last}
CASES = [
    (19, 270, 2, 45, 60),
    (11, 240, 8, 80, 104),
    (19, 720, 2, 64, 128),
    (150, 720, 2, 128, 128),
]


def floor(features: Tensor, labels: Tensor, anchors: Tensor) -> None:
    """The features read once, what is as large written once."""
    torch.mul(features.detach(), 0.5)


def gather_and_mse(features: Tensor, labels: Tensor, anchors: Tensor) -> Tensor:
    """The definition written out: gather, subtract, square, mask, mean."""
    valid = labels != VOID
    target = anchors[torch.where(valid, labels, 0)].permute(0, 3, 1, 2)
    return ((features - target) ** 2 * valid[:, None]).sum() / (valid.sum() * features.shape[1])


def mse_loss(features: Tensor, labels: Tensor, anchors: Tensor) -> Tensor:
    """torch's own loss, which cannot leave out void pixels."""
    target = anchors[labels.clamp(max=len(anchors) - 1)].permute(0, 3, 1, 2)
    return F.mse_loss(features, target)


def pull(features: Tensor, labels: Tensor, anchors: Tensor) -> Tensor:
    """With its weight, as the regularizer calls it: the gradient is written during forward."""
    return pixel_to_anchor_pull(features, labels, anchors, factor=0.1)


def both_terms(classes: int, channels: int, *, gated: bool) -> Callable[..., Tensor]:
    """The whole regularizer, without its gate or with one that never opens."""
    regularizer = SemanticAnchorRegularizer(classes, channels, gated=gated, update_confidence=1.0)
    scores = torch.zeros(classes, classes)[:, :, None, None]

    def run(features: Tensor, labels: Tensor, anchors: Tensor) -> Tensor:
        terms = regularizer(features, labels, lambda e: scores + 0 * e.sum())
        return terms["loss_aux_ce"] + terms["loss_p2a"]

    return run


class PeakMemory:
    """Peak memory of a block above what was held before, in MiB; None where it cannot be read."""

    mib: float | None = None

    def __enter__(self) -> PeakMemory:
        if Path("/proc/self/clear_refs").exists():
            Path("/proc/self/clear_refs").write_text("5")  # resets the peak below
            self.before = self._status("VmRSS")
        return self

    def __exit__(self, *_: object) -> None:
        if Path("/proc/self/clear_refs").exists():
            self.mib = self._status("VmHWM") - self.before

    @staticmethod
    def _status(field: str) -> float:
        for line in Path("/proc/self/status").read_text().splitlines():
            if line.startswith(field):
                return int(line.split()[1]) / 1024
        return float("nan")


def measure(case: tuple[int, int, int, int, int], layout: str, repeats: int) -> list[dict]:
    """The rows of one case in one memory format."""
    classes, channels, batch, height, width = case
    generator = torch.Generator().manual_seed(0)
    features = torch.randn(batch, channels, height, width, generator=generator)
    features = features.contiguous(memory_format=LAYOUTS[layout]).requires_grad_()
    # Labels lie in patches, as in images, and a tenth of them is void.
    patches = torch.randint(0, classes, (batch, 1, height // 4, width // 4), generator=generator)
    patches[torch.rand(patches.shape, generator=generator) < 0.1] = VOID
    labels = F.interpolate(patches.float(), size=(height, width))[:, 0].long()
    anchors = torch.randn(classes, channels, generator=generator)
    contenders: dict[str, Callable[..., Tensor | None]] = {
        "floor": floor,
        "gather and MSE": gather_and_mse,
        "F.mse_loss(m[label])": mse_loss,
        "pull": pull,
        "both SAR terms": both_terms(classes, channels, gated=False),
        "both SAR terms, gate closed": both_terms(classes, channels, gated=True),
    }
    best = dict.fromkeys(contenders, float("inf"))
    peak: dict[str, float | None] = {}
    for turn in range(repeats + 1):
        for name, contender in contenders.items():
            features.grad = None
            with PeakMemory() as memory:
                start = time.perf_counter()
                loss = contender(features, labels, anchors)
                if loss is not None:
                    loss.backward()
                seconds = time.perf_counter() - start
            if turn:  # the first round warms up
                best[name] = min(best[name], seconds)
                peak[name] = memory.mib
    mib = features.numel() * features.element_size() / 2**20
    return [
        {
            **dict(zip("KCNhw", case, strict=True)),
            "memory_format": layout,
            "features_mib": round(mib, 1),
            "contender": name,
            "ms": round(1e3 * seconds, 2),
            "ratio": round(seconds / best["floor"], 2),
            "goal": GOALS.get(name, ""),
            "peak_of_features": "" if peak[name] is None else round(peak[name] / mib, 2),
        }
        for name, seconds in best.items()
    ]


def main(argv: list[str] | None = None) -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument(
        "--case",
        type=int,
        nargs=5,
        action="append",
        metavar=("K", "C", "N", "H", "W"),
        help="classes, channels, batch, height and width; may be repeated (default: four cases)",
    )
    parser.add_argument("--repeats", type=int, default=15, help="rounds, best counts (default 15)")
    parser.add_argument("--threads", type=int, default=1, help="CPU threads (default 1)")
    parser.add_argument("--output", type=Path, default=TABLE, help="default: %(default)s")
    args = parser.parse_args(argv)
    torch.set_num_threads(args.threads)
    with contextlib.suppress(OSError, AttributeError):
        # glibc would raise the size from which memory is fresh each time, M_MMAP_THRESHOLD, to what
        # was freed last: whoever came next would reuse it, and the others not.
        ctypes.CDLL(None).mallopt(-3, 1 << 20)
    rows = []
    for case in args.case or CASES:
        for layout in LAYOUTS:
            found = measure(tuple(case), layout, args.repeats)
            rows += found
            for row in found:
                print(" ".join(f"{value!s:>{max(7, len(key))}}" for key, value in row.items()))
    on = {
        "threads": args.threads,
        "instructions": torch.backends.cpu.get_cpu_capability(),
        "torch": torch.__version__,
    }
    with args.output.open("w", newline="", encoding="utf-8") as stream:
        writer = csv.DictWriter(stream, list(rows[0] | on), lineterminator="\n")
        writer.writeheader()
        writer.writerows(row | on for row in rows)


if __name__ == "__main__":
    main()
