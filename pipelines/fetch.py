"""Bring the raw data of a study's data sets into `data/raw/<dataset>/files/`.

Where they come from stands in the data card. Downloads are kept in `data/downloads/<dataset>/`, a
broken one is resumed, and what it must be is checked. SAR_MIRROR names a folder to take files from
instead, `<mirror>/<dataset>/<file>`. The embedded digits need no network: they come with
scikit-learn.
"""

from __future__ import annotations

import shutil
import sys

from pipelines import digits
from pipelines.artifacts import Stopwatch, sha256_folder, staged, write_receipt
from pipelines.cards import FilesSource
from pipelines.cli import chosen_datasets, guarded, stage_parser
from pipelines.fetching import locks
from pipelines.fetching.parts import fetch_parts
from pipelines.study import Dataset


def fetch(dataset: Dataset) -> None:
    """Write the raw files of `dataset` and a receipt with a digest of them all.

    Raises:
        PipelineError: naming what cannot be had and what to do.
    """
    watch, folder = Stopwatch(), dataset.folder("fetch")
    with locks.held(dataset.downloads.with_suffix(".lock")) as lock:
        # Raw data are large, and a killed process could not remove what it had.
        for left in folder.parent.glob(f".{folder.name}.*"):
            shutil.rmtree(left)
        _fetch(dataset, watch, lock)


def _fetch(dataset: Dataset, watch: Stopwatch, lock: int) -> None:
    with staged(dataset.folder("fetch")) as scratch:
        files = scratch / dataset.raw.name
        files.mkdir()
        if isinstance(dataset.card.source, FilesSource):
            fetch_parts(dataset, files, lock)
        else:
            digits.save_glyphs(files / "glyphs.npy", *digits.load_glyphs())
        write_receipt(
            scratch,
            stage="fetch",
            subject=dataset.name,
            parameters=dataset.parameters_hash("fetch"),
            inputs=[],
            digests={dataset.raw.name: sha256_folder(files)},
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
