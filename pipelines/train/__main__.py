"""Train runs of a study: `python -m pipelines.train`."""

from __future__ import annotations

import sys

from pipelines.running.cli import chosen_runs, guarded, stage_parser
from pipelines.running.launch import in_processes
from pipelines.running.processes import rank
from pipelines.study import Run
from pipelines.track.push import push_when_due
from pipelines.train import stage
from pipelines.train.stage import train


def main(argv: list[str] | None = None) -> int:
    args = stage_parser("train", stage.__doc__, runs=True, verify=True).parse_args(argv)

    def command(run: Run) -> None:
        train(run)
        if rank() == 0:
            print(f"trained {run.name} into {run.folder('train')}")
            push_when_due(run)

    return guarded(
        lambda: in_processes("pipelines.train", argv, chosen_runs(args), command, "model")
    )


if __name__ == "__main__":
    sys.exit(main())
