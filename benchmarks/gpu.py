"""What a GPU is given to do, in at most five minutes: pull, step, evaluation, whole trainings.

    python benchmarks/gpu.py            # writes benchmarks/gpu.csv
    python benchmarks/gpu.py --tiny     # on a CPU: that the program works, and no more

- *pull*, forward and backward: the path in torch, the kernel (`sar.pull_kernel`), the formula
  written out (gather, subtract, square), the same under torch.compile, and the floor: two reads of
  the features and one of their gradient written, at the speed of a copy in the same run.
- *evaluation*: images predicted a second.
- *step* of a whole model, without loading: the baseline and SAR with an open gate on either path,
  in three precisions, launched one kernel after the other (eager), as a CUDA graph, and with a
  compiled backbone.
- *training*: iterations a second of `python -m pipelines.train`, by workers, with and without
  images kept in memory, and by runs that share the GPU; and what of an iteration is waiting.

Contenders of the first three take turns, and the median of the turns counts; `ratio` is to what
`of` names. Where a goal sets a limit to a ratio it stands beside it. Each part has a share of the
time; what that did not reach, and what this machine has not got, is named.
"""

from __future__ import annotations

import argparse
import sys
import tempfile
import time
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
sys.path.insert(0, str(ROOT))

import torch  # noqa: E402

from benchmarks.cost import made_ready  # noqa: E402
from benchmarks.on_gpu import pulls, steps, trainings  # noqa: E402
from benchmarks.on_gpu.bench import Bench  # noqa: E402
from pipelines.base.artifacts import write_whole  # noqa: E402

TABLE = Path(__file__).with_suffix(".csv")


def measure(bench: Bench, minutes: float, tiny: bool, tiles: bool) -> None:
    """All parts, in an order and with shares of the time by which each has its telling cases."""
    backend = "aot_eager" if tiny else "inductor"
    compiled = torch.compile(pulls.plain, dynamic=False, backend=backend)
    cases = steps.TINY if tiny else steps.STEPS
    start = time.monotonic()

    def within(share: float) -> Bench:
        bench.until = start + 60 * minutes * share
        return bench

    pulls.time_pulls(within(0.3), pulls.TINY if tiny else pulls.PULLS, tiles, compiled)
    steps.time_evaluation(within(0.35), cases)
    steps.time_steps(within(0.55), cases, ("eager", "graph"), backend)
    steps.time_steps(within(0.68), cases, ("compiled",), backend)
    case = trainings.TINY if tiny else trainings.CASE
    phases = trainings.TINY_PHASES if tiny else trainings.PHASES
    torch.cuda.empty_cache()  # other processes need it now
    with tempfile.TemporaryDirectory() as folder:
        trainings.time_trainings(within(1.0), case, phases, Path(folder))


def main(argv: list[str] | None = None) -> int:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--tiny", action="store_true", help="tiny sizes, on a CPU")
    parser.add_argument("--tiles", action="store_true", help="also the kernel with each tile")
    parser.add_argument("--turns", type=int, default=12, help="counted turns (default 12)")
    parser.add_argument("--minutes", type=float, default=4.5, help="start nothing after (4.5)")
    parser.add_argument("--out", type=Path, help=f"the table (default {TABLE.name}; tiny: none)")
    args = parser.parse_args(argv)
    if not args.tiny and not torch.cuda.is_available():
        print("no CUDA device is visible: expected one, or --tiny", file=sys.stderr)
        return 2
    bench = Bench("cpu" if args.tiny else "cuda", args.turns, until=0.0)
    made_ready(bench.device, torch.get_num_threads())
    out = args.out or (None if args.tiny else TABLE)
    try:
        measure(bench, args.minutes, args.tiny, args.tiles)
    finally:  # what was measured before an error took a GPU's time
        if bench.rows:
            found = bench.table()
            print(found.to_markdown(index=False))
            if out is not None:
                write_whole(out, found.to_csv(index=False, lineterminator="\n"))
    return 0


if __name__ == "__main__":
    sys.exit(main())
