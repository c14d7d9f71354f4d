"""What a command leaves in its log when it fails: `python -m pipelines.running.failure STATUS LOG`.

Snakemake's rules end with it, since a process that is killed cannot say so itself. One line at the
end of the log names the stage by its log, and the reason: the signal, or the last thing that the
command said. Snakemake shows it from there. The exit status is the command's.
"""

from __future__ import annotations

import signal
import sys
from collections.abc import Iterable
from pathlib import Path

_FIRST_SIGNAL = 128
"""Shells give 128 + N to what signal N ended."""

_SEARCHED = 2**16
"""Bytes of a log that are searched for its reason."""


def reason(status: int, lines: Iterable[str]) -> str:
    """Why a command ended with `status` after it printed `lines`."""
    if status == 0:
        return "it did its work, and its log could not be written"
    if status > _FIRST_SIGNAL:
        number = status - _FIRST_SIGNAL
        known = number in set(signal.Signals)
        name = signal.Signals(number).name if known else f"signal {number}"
        often = ", as where memory runs out" if name == "SIGKILL" else ""
        return f"ended by {name}{often}"
    said = [line.strip() for line in lines if line.strip()]
    errors = [line for line in said if line.startswith("error: ")]
    last = errors or said
    told = f": {last[-1].removeprefix('error: ')}" if last else " and said nothing"
    return f"exit status {status}{told}"


def main(argv: list[str]) -> int:
    status, log = int(argv[0]), Path(argv[1])
    text = f"{log.stem} failed ({log}): {reason(status, _tail(log))}"
    try:
        with log.open("a", encoding="utf-8") as file:
            print(text, file=file)
    except OSError:  # A full disk may be why it failed; then the terminal has the line.
        print(text, file=sys.stderr)
    return status or 1


def _tail(log: Path) -> list[str]:
    if not log.is_file():
        return []
    with log.open("rb") as file:
        file.seek(max(0, log.stat().st_size - _SEARCHED))
        return file.read().decode(errors="replace").splitlines()


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
