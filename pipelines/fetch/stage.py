"""Bring the raw data of a study's data sets into `data/raw/<dataset>/files/`, and the published
weights that its models start from into `data/weights/<model>/`.

Where they come from stands in the data card, or in the model entry. Downloads are kept in
`data/downloads/<dataset>/` and `data/downloads/weights/`, a broken one is resumed, and what it must
be is checked. SAR_MIRROR names a folder to take files from instead, `<mirror>/<dataset>/<file>` and
`<mirror>/weights/<file>`. The embedded digits need no network: they come with
scikit-learn.
"""

from __future__ import annotations

from pipelines.base import locks
from pipelines.base.artifacts import Stopwatch, sha256_folder
from pipelines.fetch import glyphs
from pipelines.fetch.parts import fetch_parts
from pipelines.fetch.weights import fetch_weights
from pipelines.running.stage import writing
from pipelines.study import Dataset, Weights
from pipelines.study.cards import FilesSource


def fetch(dataset: Dataset, *, allow_commands: bool = False) -> None:
    """Write the raw files of `dataset` and a receipt with a digest of them all.

    Args:
        allow_commands: whether programs that the card names may run although no list has them.

    Raises:
        PipelineError: naming what cannot be had and what to do.
    """
    watch = Stopwatch()
    with (
        locks.held(dataset.downloads.with_suffix(".lock")) as lock,
        writing("fetch", dataset, [], watch=watch) as outputs,
    ):
        files = outputs.folder / dataset.raw.name
        files.mkdir()
        if isinstance(dataset.card.source, FilesSource):
            fetch_parts(dataset, files, lock, allow_commands)
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
    with (
        locks.held(weights.downloads / f"{file}.lock") as lock,
        writing("weights", weights, [], name=weights.model, watch=watch) as outputs,
    ):
        fetch_weights(weights, outputs.folder / weights.backbone.name, lock)
