"""What is wrong with which raw file, and how all of it is told at once."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from pipelines.base.errors import PipelineError

SHOWN = 20


@dataclass(frozen=True)
class Fault:
    file: str
    """Its path below `files/`."""
    reason: str
    fatal: bool = False
    """Whether it stops prepare even where the card says `faulty: skip`."""


class Unusable(Exception):
    """A raw image or label cannot be used; the message is the reason alone."""


def few_enough(sides: tuple[int, int], most: int, what: str = "") -> None:
    """Refuse an image of these sides that has more than `most` pixels.

    Args:
        what: of what, where it is not the file itself.

    Raises:
        Unusable: naming both numbers and the key that raises the limit.
    """
    if sides[0] * sides[1] > most:
        raise Unusable(
            f"has {what}{sides[0]} x {sides[1]} pixels, more than {most} in all; "
            "source.max_pixels in the card raises the limit"
        )


def error(where: str, faults: Sequence[Fault]) -> PipelineError:
    """One error for all `faults`, of which the first 20 are named; `where` begins its message."""
    lines = [f"  {fault.file}: {fault.reason}" for fault in faults[:SHOWN]]
    if len(faults) > SHOWN:
        lines.append(f"  and {len(faults) - SHOWN} more")
    count = "1 fault" if len(faults) == 1 else f"{len(faults)} faults"
    if not any(fault.fatal for fault in faults):
        lines.append("  source.faulty: skip in the card leaves such files out and names them")
    return PipelineError("\n".join([f"{where}: {count}", *lines]))
