"""Replay recorded traces of SAR's rivals, a line a file; fails above a relative error of 1e-4.

    python -m tests.golden.rivals FOLDER

The error of a quantity is its largest difference, divided by its largest recorded entry: small ones
carry the rounding of the large. The worst of a file is printed, with its name. Where no code here
computes the whole of a trace, its line says "in part" and what is left out: that is no pass.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Callable
from pathlib import Path

import numpy as np
import torch

from tests.golden.replays import LEFT_OUT, REPLAYS, Pairs, Trace

TOLERANCE = 1e-4


def find_replay(name: str) -> tuple[Callable[[Trace], Pairs], str]:
    """The replay of a file by the kind that its name begins with, and what it leaves out, if
    anything.

    Raises:
        ValueError: for a kind that is not known.
    """
    for kind, replay in REPLAYS.items():
        if name.startswith(kind):
            return replay, LEFT_OUT.get(kind, "")
    raise ValueError(f"{name}: expected a name that begins with one of {', '.join(REPLAYS)}")


def replay_file(path: Path) -> tuple[float, str]:
    """The worst relative error of a trace, as far as it is replayed, and what has it."""
    replay, _ = find_replay(path.name)
    with np.load(path) as file:
        trace = dict(file)
    errors = [(relative_error(*pair), name) for name, *pair in replay(trace)]
    if not errors:
        raise ValueError(f"{path}: expected a trace, found nothing to compare")
    return max(errors)


def relative_error(computed: torch.Tensor, recorded: torch.Tensor) -> float:
    """Infinite where the shapes differ or a number is not finite."""
    computed, recorded = computed.detach().double(), recorded.double()
    if computed.shape != recorded.shape or not computed.isfinite().all():
        return float("inf")
    scale = max(recorded.abs().max().item(), 1e-12) if recorded.numel() else 1.0
    return (computed - recorded).abs().max().item() / scale if recorded.numel() else 0.0


def main(argv: list[str] | None = None) -> int:
    parser = argparse.ArgumentParser(
        prog="python -m tests.golden.rivals",
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("folder", type=Path, metavar="FOLDER", help="holds the .npz files")
    folder = parser.parse_args(argv).folder
    paths = sorted(folder.glob("*.npz"))
    if not paths:
        print(f"{folder}: expected a folder with .npz files", file=sys.stderr)
        return 2
    failed = False
    for path in paths:
        try:
            error, name = replay_file(path)
        except (KeyError, ValueError, RuntimeError) as reason:
            print(f"{path.name}: cannot be replayed: {reason}")
            failed = True
            continue
        failed |= not error <= TOLERANCE
        _, left_out = find_replay(path.name)
        print(
            f"{path.name}: {'in part ' if left_out else ''}{error:.1e} ({name})"
            + (" FAILED" if error > TOLERANCE else "")
            + (f"; not replayed: {left_out}" if left_out else "")
        )
    return int(failed)


if __name__ == "__main__":
    sys.exit(main())
