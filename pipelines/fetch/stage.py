"""Bring the raw data of a study's data sets into `data/raw/<dataset>/files/`, and the published
weights that its models start from into `data/weights/<model>/`.

Where they come from stands in the data card, or in the model entry. Downloads are kept in
`data/downloads/<dataset>/` and `data/downloads/weights/`, a broken one is resumed, and what it must
be is checked. SAR_MIRROR names a folder to take files from instead, `<mirror>/<dataset>/<file>` and
`<mirror>/weights/<file>`. The embedded digits need no network: they come with
scikit-learn.
"""

from __future__ import annotations

import shutil
from pathlib import Path

from pipelines.base.artifacts import Stopwatch, sha256_folder
from pipelines.fetch import glyphs, locks
from pipelines.fetch.parts import fetch_parts
from pipelines.fetch.weights import fetch_weights
from pipelines.running.stage import writing
from pipelines.study import Dataset, Weights
from pipelines.study.cards import FilesSource


def fetch(dataset: Dataset) -> None:
    """Write the raw files of `dataset` and a receipt with a digest of them all.

    Raises:
        PipelineError: naming what cannot be had and what to do.
    """
    watch = Stopwatch()
    with locks.held(dataset.downloads.with_suffix(".lock")) as lock:
        _clear(dataset.folder("fetch"))
        with writing("fetch", dataset, [], watch=watch) as outputs:
            files = outputs.folder / dataset.raw.name
            files.mkdir()
            if isinstance(dataset.card.source, FilesSource):
                fetch_parts(dataset, files, lock)
            else:
                glyphs.save_glyphs(files / "glyphs.npy", *glyphs.load_glyphs())
            outputs.digests[files.name] = sha256_folder(files)


def fetch_backbone(weights: Weights) -> None:
    """Write the backbone's weights and a receipt of them.

    Raises:
        PipelineError: when they cannot be had, naming the file, its addresses and where to put it
            by hand; or when they are not what the model entry says.
    """
    watch, file = Stopwatch(), weights.pretrained.file
    with locks.held(weights.downloads / f"{file}.lock") as lock:
        _clear(weights.folder())
        with writing("weights", weights, [], name=weights.model, watch=watch) as outputs:
            fetch_weights(weights, outputs.folder / weights.backbone.name, lock)


def _clear(folder: Path) -> None:
    """Remove the scratch that a killed process left: these files are large."""
    for left in folder.parent.glob(f".{folder.name}.*"):
        shutil.rmtree(left)
