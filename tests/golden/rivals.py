"""Replay recorded traces of SAR's rivals, a line a file; fails above a relative error of 1e-4.

    python -m tests.golden.rivals FOLDER

The error of a quantity is its largest difference, divided by its largest recorded entry: small ones
carry the rounding of the large. The worst of a file is printed, with its name.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Callable
from pathlib import Path

import numpy as np
import torch

from tests.golden.replays import REPLAYS, Pairs, Trace

TOLERANCE = 1e-4


def find_replay(name: str) -> Callable[[Trace], Pairs] | None:
    """The replay of a file by the kind that its name begins with; None if nothing here computes it.

    Raises:
        ValueError: for a kind that is not known.
    """
    for kind, replay in REPLAYS.items():
        if name.startswith(kind):
            return replay
    raise ValueError(f"{name}: expected a name that begins with one of {', '.join(REPLAYS)}")


def replay_file(path: Path) -> tuple[float, str] | None:
    """The worst relative error of a trace and what has it; None if nothing here computes it."""
    replay = find_replay(path.name)
    if replay is None:
        return None
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
            result = replay_file(path)
        except (KeyError, ValueError) as error:
            print(f"{path.name}: cannot be replayed: {error}")
            failed = True
            continue
        if result is None:
            print(f"{path.name}: no implementation here")
            continue
        error, name = result
        failed |= not error <= TOLERANCE
        print(f"{path.name}: {error:.1e} ({name})" + (" FAILED" if error > TOLERANCE else ""))
    return int(failed)


if __name__ == "__main__":
    sys.exit(main())
