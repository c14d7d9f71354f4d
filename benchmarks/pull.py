"""Time and peak memory of the pixel-to-anchor pull, as ratios to plain torch, in one run.

Forward and backward, best of several rounds. The contenders take turns within a round, so that a
busy machine slows all of them.
"""

from __future__ import annotations

import argparse
import time
from collections.abc import Callable
from pathlib import Path

import torch
import torch.nn.functional as F
from torch import Tensor

from sar import SemanticAnchorRegularizer
from sar.pull import pixel_to_anchor_pull

VOID = 255


def gather_and_mse(features: Tensor, labels: Tensor, anchors: Tensor) -> Tensor:
    """The definition written out: gather, subtract, square, mask, mean."""
    valid = labels != VOID
    target = anchors[torch.where(valid, labels, 0)].permute(0, 3, 1, 2)
    return ((features - target) ** 2 * valid[:, None]).sum() / (valid.sum() * features.shape[1])


def mse_loss(features: Tensor, labels: Tensor, anchors: Tensor) -> Tensor:
    """torch's own loss, which cannot leave out void pixels."""
    target = anchors[labels.clamp(max=len(anchors) - 1)].permute(0, 3, 1, 2)
    return F.mse_loss(features, target)


def both_terms(classes: int, channels: int, device: str) -> Callable[..., Tensor]:
    """The whole regularizer, with its gate open."""
    regularizer = SemanticAnchorRegularizer(classes, channels).to(device)
    # A classifier that is sure and right about every anchor keeps the gate open.
    scores = (100 * torch.eye(classes, device=device))[:, :, None, None]

    def run(features: Tensor, labels: Tensor, anchors: Tensor) -> Tensor:
        terms = regularizer(features, labels, lambda e: scores + 0 * e.sum())
        return terms["loss_aux_ce"] + terms["loss_p2a"]

    return run


class PeakMemory:
    """Peak memory of a block above what was held before, in MiB; None where it cannot be read."""

    def __init__(self, device: str) -> None:
        self.device = device
        self.mib: float | None = None

    def __enter__(self) -> PeakMemory:
        if self.device == "cuda":
            torch.cuda.reset_peak_memory_stats()
            self.before = torch.cuda.memory_allocated() / 2**20
        elif Path("/proc/self/clear_refs").exists():
            Path("/proc/self/clear_refs").write_text("5")  # resets the peak below
            self.before = self._status("VmRSS")
        return self

    def __exit__(self, *_: object) -> None:
        if self.device == "cuda":
            self.mib = torch.cuda.max_memory_allocated() / 2**20 - self.before
        elif Path("/proc/self/clear_refs").exists():
            self.mib = self._status("VmHWM") - self.before

    @staticmethod
    def _status(field: str) -> float:
        for line in Path("/proc/self/status").read_text().splitlines():
            if line.startswith(field):
                return int(line.split()[1]) / 1024
        return float("nan")


def measure(case: tuple[int, int, int, int, int], args: argparse.Namespace) -> None:
    """Print one table."""
    classes, channels, batch, height, width = case
    device = args.device
    generator = torch.Generator().manual_seed(0)
    features = torch.randn(batch, channels, height, width, generator=generator).to(device)
    if args.channels_last:
        features = features.contiguous(memory_format=torch.channels_last)
    features.requires_grad_()
    # Labels lie in patches, as in images, and a tenth of them is void.
    patches = torch.randint(0, classes, (batch, 1, height // 4, width // 4), generator=generator)
    patches[torch.rand(patches.shape, generator=generator) < 0.1] = VOID
    labels = F.interpolate(patches.float(), size=(height, width))[:, 0].long().to(device)
    anchors = torch.randn(classes, channels, generator=generator).to(device)
    contenders = {
        "gather and MSE": gather_and_mse,
        "F.mse_loss(m[label])": mse_loss,
        "pull": pixel_to_anchor_pull,
        "both SAR terms": both_terms(classes, channels, device),
    }

    best = dict.fromkeys(contenders, float("inf"))
    peak: dict[str, float | None] = {}
    for turn in range(args.repeats + 1):
        for name, loss in contenders.items():
            features.grad = None
            with PeakMemory(device) as memory:
                start = time.perf_counter()
                loss(features, labels, anchors).backward()
                if device == "cuda":
                    torch.cuda.synchronize()
                seconds = time.perf_counter() - start
            if turn:  # the first round warms up
                best[name] = min(best[name], seconds)
                peak[name] = memory.mib
    size = features.numel() * features.element_size() / 2**20
    print(f"\nK={classes} C={channels} {batch}x{height}x{width}, features {size:.0f} MiB, {device}")
    print(
        f"{'forward + backward':<22}{'ms':>9}{'time ratio':>12}{'peak MiB':>10}{'/ features':>12}"
    )
    plain = best["gather and MSE"]
    for name, seconds in best.items():
        mib = peak[name]
        memory_columns = "       n/a" if mib is None else f"{mib:>10.0f}{mib / size:>12.2f}"
        print(f"{name:<22}{seconds * 1e3:>9.1f}{seconds / plain:>12.2f}{memory_columns}")


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument(
        "--case",
        type=int,
        nargs=5,
        action="append",
        metavar=("K", "C", "N", "H", "W"),
        help="classes, channels, batch, height and width; may be repeated (default: three cases)",
    )
    parser.add_argument("--repeats", type=int, default=5, help="rounds, best counts (default 5)")
    parser.add_argument("--threads", type=int, help="CPU threads (default: torch's choice)")
    parser.add_argument("--device", choices=("cpu", "cuda"), default="cpu")
    parser.add_argument("--channels-last", action="store_true", help="features in channels_last")
    args = parser.parse_args()
    if args.threads:
        torch.set_num_threads(args.threads)
    cases = args.case or [(19, 270, 2, 45, 60), (19, 720, 2, 64, 128), (150, 720, 2, 128, 128)]
    for case in cases:
        measure(tuple(case), args)


if __name__ == "__main__":
    main()
