"""Contenders in turns, rows of one table, and a clock that says what is still begun."""

from __future__ import annotations

import platform
import statistics
import time
from collections.abc import Callable
from dataclasses import dataclass, field

import pandas as pd
import torch

from benchmarks.cost import in_turns, peak_memory

COLUMNS = ("part", "case", "type", "contender", "value", "unit", "ratio", "of", "limit", "met")


@dataclass
class Bench:
    """The rows of the table, and how much time is left."""

    device: str
    """cpu or cuda."""
    turns: int
    """That are counted, of all contenders."""
    until: float
    """When nothing more is begun, by `time.monotonic`."""
    rows: list[dict] = field(default_factory=list)

    def left(self, what: str, needs: float = 0.0) -> bool:
        """Whether there is time for it, which takes about `needs` seconds; if not, it is said."""
        if time.monotonic() + needs < self.until:
            return True
        self.leave_out(what, "no time for it")
        return False

    def leave_out(self, what: str, why: str) -> None:
        print(f"left out, {why}: {what}", flush=True)

    def add(self, part: str, case: str, kind: str, contender: str, value: float, unit: str, **more):
        """One row, which is printed, too; a `limit` is that of the `ratio`."""
        row = {"part": part, "case": case, "type": kind, "contender": contender}
        row |= {"value": float(f"{value:.4g}"), "unit": unit, **more}
        self.rows.append(row)
        print(" | ".join(f"{name} {value}" for name, value in row.items()), flush=True)

    def milliseconds(self, contenders: dict[str, Callable[[], object]]) -> dict[str, float]:
        """Median milliseconds of each, in turns; the first turn warms up and is not counted."""
        times = in_turns(contenders, self.turns, self.device)
        return {name: statistics.median(found) for name, found in times.items()}

    def peak_mib(self, work: Callable[[], object]) -> float | None:
        """Peak of allocated memory above what was held before; None on a CPU."""
        if self.device == "cpu":
            return None
        with peak_memory(self.device) as peak:
            work()
        return round(peak[0], 1)

    def table(self) -> pd.DataFrame:
        """The rows, whether each limit is met, and the device and versions they are of."""
        found = pd.DataFrame(self.rows, columns=[*COLUMNS, "peak_mib"])
        met = found["ratio"].astype(float) <= found["limit"].astype(float)
        found["met"] = met.map({True: "yes", False: "no"}).where(found["limit"].notna(), None)
        found["device"] = torch.cuda.get_device_name() if self.device != "cpu" else "cpu"
        found["torch"], found["python"] = torch.__version__, platform.python_version()
        found["cuda"], found["triton"] = torch.version.cuda or "none", _triton()
        return found


def _triton() -> str:
    try:
        import triton
    except ImportError:
        return "none"
    return triton.__version__
