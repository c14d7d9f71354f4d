"""Fetch raw data and published weights: `python -m pipelines.fetch`."""

from __future__ import annotations

import argparse
import sys

from pipelines.fetch import stage
from pipelines.fetch.stage import fetch, fetch_backbone
from pipelines.running.cli import chosen_datasets, guarded, stage_parser
from pipelines.study import Study, Weights
from pipelines.study.places import COMMANDS


def main(argv: list[str] | None = None) -> int:
    parser = stage_parser("fetch", stage.__doc__, datasets=True)
    parser.add_argument(
        "--weights",
        metavar="MODEL",
        help="the published weights of one model, whatever the study (default: all its)",
    )
    parser.add_argument(
        "--allow-commands",
        action="store_true",
        help=f"run what data cards name as commands, also where {COMMANDS} lacks it",
    )
    args = parser.parse_args(argv)

    def command() -> None:
        for dataset in [] if args.weights else chosen_datasets(args):
            fetch(dataset, allow_commands=args.allow_commands)
            print(f"fetched {dataset.name} into {dataset.raw}")
        for weights in _chosen_weights(args):
            fetch_backbone(weights)
            print(f"fetched weights of {weights.model} into {weights.folder()}")

    return guarded(command)


def _chosen_weights(args: argparse.Namespace) -> list[Weights]:
    if args.weights is not None:
        return [Weights.load(args.weights)]
    return [] if args.dataset else list(Study.load(args.study).weights.values())


if __name__ == "__main__":
    sys.exit(main())
