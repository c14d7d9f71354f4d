"""Bring the raw data of a study's data sets into `data/raw/<dataset>/`.

The embedded digits need no network: they come with scikit-learn.
"""

from __future__ import annotations

import sys

from pipelines import digits
from pipelines.artifacts import Stopwatch, staged, write_receipt
from pipelines.cli import chosen_datasets, guarded, stage_parser
from pipelines.study import Dataset


def fetch(dataset: Dataset) -> None:
    """Write the raw files of `dataset` and a receipt of their sha256."""
    watch = Stopwatch()
    with staged(dataset.raw) as scratch:
        digits.save_glyphs(scratch / "glyphs.npy", *digits.load_glyphs())
        write_receipt(
            scratch,
            stage="fetch",
            subject=dataset.name,
            parameters=dataset.parameters_hash("fetch"),
            inputs=[],
        )
        watch.write(scratch)


def main(argv: list[str] | None = None) -> int:
    args = stage_parser(__doc__, datasets=True).parse_args(argv)

    def command() -> None:
        for dataset in chosen_datasets(args):
            fetch(dataset)
            print(f"fetched {dataset.name} into {dataset.raw}")

    return guarded(command)


if __name__ == "__main__":
    sys.exit(main())
