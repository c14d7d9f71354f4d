"""Bring the raw data of a study's data sets into `data/raw/<dataset>/files/`, and the published
weights that its models start from into `data/weights/<model>/`.

Where they come from stands in the data card, or in the model entry. Downloads are kept in
`data/downloads/<dataset>/` and `data/downloads/weights/`, a broken one is resumed, and what it must
be is checked. SAR_MIRROR names a folder to take files from instead, `<mirror>/<dataset>/<file>` and
`<mirror>/weights/<file>`. The embedded digits need no network: they come with
scikit-learn.
"""

from __future__ import annotations

import argparse
import shutil
import sys
from pathlib import Path

from pipelines import digits
from pipelines.artifacts import Stopwatch, sha256_folder, staged, write_receipt
from pipelines.cards import FilesSource
from pipelines.cli import chosen_datasets, guarded, stage_parser
from pipelines.fetching import locks
from pipelines.fetching.parts import fetch_parts
from pipelines.fetching.weights import fetch_weights
from pipelines.study import Dataset, Study, Weights


def fetch(dataset: Dataset) -> None:
    """Write the raw files of `dataset` and a receipt with a digest of them all.

    Raises:
        PipelineError: naming what cannot be had and what to do.
    """
    watch, folder = Stopwatch(), dataset.folder("fetch")
    with locks.held(dataset.downloads.with_suffix(".lock")) as lock:
        _clear(folder)
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


def fetch_backbone(weights: Weights) -> None:
    """Write the backbone's weights and a receipt of them.

    Raises:
        PipelineError: when they cannot be had, naming the file, its addresses and where to put it
            by hand; or when they are not what the model entry says.
    """
    watch, file = Stopwatch(), weights.pretrained.file
    with locks.held(weights.downloads / f"{file}.lock") as lock:
        _clear(weights.folder)
        with staged(weights.folder) as scratch:
            fetch_weights(weights, scratch / weights.backbone.name, lock)
            write_receipt(
                scratch,
                stage="weights",
                subject=weights.model,
                parameters=weights.parameters_hash(),
                inputs=[],
            )
            watch.write(scratch)


def _clear(folder: Path) -> None:
    """Remove the scratch that a killed process left: these files are large."""
    for left in folder.parent.glob(f".{folder.name}.*"):
        shutil.rmtree(left)


def main(argv: list[str] | None = None) -> int:
    parser = stage_parser(__doc__, datasets=True)
    parser.add_argument(
        "--weights",
        metavar="MODEL",
        help="the published weights of one model, whatever the study (default: all its)",
    )
    args = parser.parse_args(argv)

    def command() -> None:
        for dataset in [] if args.weights else chosen_datasets(args):
            fetch(dataset)
            print(f"fetched {dataset.name} into {dataset.raw}")
        for weights in _chosen_weights(args):
            fetch_backbone(weights)
            print(f"fetched weights of {weights.model} into {weights.folder}")

    return guarded(command)


def _chosen_weights(args: argparse.Namespace) -> list[Weights]:
    if args.weights is not None:
        return [Weights.load(args.weights)]
    return [] if args.dataset else list(Study.load(args.study).weights.values())


if __name__ == "__main__":
    sys.exit(main())
