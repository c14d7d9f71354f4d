"""Evaluate trained runs or a checkpoint: `python -m pipelines.evaluate`."""

from __future__ import annotations

import sys

from pipelines.base.errors import PipelineError
from pipelines.base.reading import read_json
from pipelines.evaluate import checkpoint, stage
from pipelines.evaluate.stage import evaluate
from pipelines.running.cli import chosen_runs, guarded, stage_parser
from pipelines.running.devices import claimed
from pipelines.running.finished import without_weights
from pipelines.running.launch import in_processes
from pipelines.running.processes import rank
from pipelines.study import Run, made
from pipelines.track.push import push_when_due


def main(argv: list[str] | None = None) -> int:
    parser = stage_parser("evaluate", stage.__doc__, runs=True, verify=True)
    checkpoint.add_arguments(parser)
    args = parser.parse_args(argv)

    def test() -> None:
        with claimed(1, key="--checkpoint"):
            tested = checkpoint.evaluate_checkpoint(args)
        miou = read_json(args.output / "metrics.json")["mIoU"]
        print(f"{tested.name}: mIoU {miou:.2f} % on {tested.evaluation.split}")

    def command(run: Run) -> None:
        if without_weights(run):
            raise PipelineError(
                f"{run.output('train', 'weights.safetensors')}: not found; {run.name} was brought "
                "back without its weights, so its scores stay what they are. To evaluate it anew "
                f"train it: {run.command('train')}"
            )
        evaluate(run)
        if rank() == 0:
            miou = made.metrics(run)["mIoU"]
            print(f"{run.name}: mIoU {miou:.2f} % on {run.evaluation.split}")
            push_when_due(run)

    def work() -> None:
        checkpoint.check_arguments(args)
        if args.checkpoint is not None:
            test()
        else:
            in_processes("pipelines.evaluate", argv, chosen_runs(args), command, "objects")

    return guarded(work)


if __name__ == "__main__":
    sys.exit(main())
