"""What evaluate keeps of a run beside its scores, so that later questions need no training.

One file, `analysis.npz`: pixel counts of every image; of the feature map that the model classifies,
each class's mean and scatter over all labelled pixels and a stratified sample of pixels; the
classifier; and a method's semantic anchors with their log. `collector` gathers it, `read`
gives it back.

A file has at most `budget(K)` bytes, even where nothing can be compressed: 300 kB up to 30 classes,
10 kB a class beyond. Each part has its share. Per-image counts fall back from confusion matrices to
per-class counts, then to scores, then to nothing (`form` says which); tables of (K, C) numbers go
down to float16, and what then has no room is named in `dropped`: first the classifier, then the
anchors, then the means. The sample has up to `sample_size(K, C)` pixels a class, the same for all
runs of a study; the log is thinned.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from pipelines.base.reading import broken, read_npz, reading
from pipelines.study import Run

FORMAT = 1
SEED = 0
"""Of the sample of pixels: the same pixels in every run whose feature maps have the same size."""

_SAMPLE_LIMIT = 256  # pixels a class, however small they are
_IMAGES, _LOG = 0.2, 0.04  # shares of the budget
_WIDE = 0.25  # of the budget: means that take more are kept in float16
TABLES = ("mean", "anchors", "weight")
"""Those that are dropped last come first."""


def budget(classes: int) -> int:
    """The most bytes that the file of a run with this many classes may have."""
    return max(300_000, 10_000 * classes)


def table_types(classes: int, channels: int) -> dict[str, str]:
    """The types of the (K, C) tables that have room; a table without room is left out."""
    table = classes * channels
    wide = 4 * table <= _WIDE * budget(classes)
    types, room = {}, _room(classes)
    for name in TABLES:
        dtype = "float32" if wide and name == "mean" else "float16"
        room -= table * np.dtype(dtype).itemsize
        if room >= 0:
            types[name] = dtype
    return types


def sample_size(classes: int, channels: int) -> int:
    """How many pixels of each class are sampled at most."""
    types = table_types(classes, channels)
    taken = sum(classes * channels * np.dtype(dtype).itemsize for dtype in types.values())
    # Of a pixel: float16 features, class (2 bytes), image (4) and position (4).
    return min(_SAMPLE_LIMIT, (_room(classes) - taken) // (classes * (2 * channels + 10)))


def images_room(classes: int) -> int:
    """Bytes for what is kept of each image, and the images' names."""
    return int(_IMAGES * budget(classes))


def log_room(classes: int) -> int:
    """Bytes for the log of the anchors."""
    return int(_LOG * budget(classes))


def _room(classes: int) -> int:
    """Bytes for tables and sample: what counts, log, names and the file's own structure leave."""
    return budget(classes) - images_room(classes) - log_room(classes) - 12_000 - 128 * classes


@dataclass(frozen=True)
class Analysis:
    """What `analysis.npz` holds. What is not in the file is None, or empty.

    Attributes:
        classes: the K names.
        stems: names of the N images of the split, in order.
        form: what is known of each image: "confusion", "counts", "scores" or "none".
        images: the arrays of that form; use the methods.
        missing: why there is nothing about features; empty where there is.
        dropped: what the budget left out: of "images", "mean", "anchors", "weight", "sample",
            "log".
        stride: (rows, columns) of the input for a pixel of the feature map, of the first image.
        pixels: (K,) labelled pixels at the feature maps' resolution.
        mean: (K, C), over all of them; NaN for a class without one.
        scatter: (K,), their mean squared Euclidean distance to the mean, float64.
        sample: `feature` (S, C) float16, `class` (S,), `image` (S,), `position` (S, 2) as row and
            column. Ordered by class; any first m of a class are a random sample too.
        weight, bias: (K, C) and (K,) of a classifier that is a 1x1 convolution.
        anchors: (K, C) semantic anchors; zero where the gate never opened.
        log: `iteration` (T,), and (T, n) by name.
    """

    format: int
    seed: int
    classes: list[str]
    stems: list[str]
    form: str
    images: dict[str, np.ndarray]
    missing: str
    dropped: list[str]
    stride: np.ndarray | None
    pixels: np.ndarray | None
    mean: np.ndarray | None
    scatter: np.ndarray | None
    sample: dict[str, np.ndarray]
    weight: np.ndarray | None
    bias: np.ndarray | None
    anchors: np.ndarray | None
    log: dict[str, np.ndarray]

    def confusion(self, image: int) -> np.ndarray:
        """Pixel counts (K, K) of one image, rows truth, columns prediction.

        Raises:
            ValueError: where the file's form is another.
        """
        self._needs("confusion")
        of_image = self.images["image"] == image
        matrix = np.zeros((len(self.classes), len(self.classes)), np.int64)
        truth, prediction = self.images["truth"][of_image], self.images["prediction"][of_image]
        matrix[truth, prediction] = self.images["count"][of_image]
        return matrix

    def counts(self) -> np.ndarray:
        """Pixels (N, K, 3) of every image and class: intersection, truth, prediction.

        Raises:
            ValueError: where the file's form is "scores" or "none".
        """
        self._needs("confusion", "counts")
        table = self.images
        if self.form == "confusion":
            names = ("image", "truth", "prediction", "count")
            pairs = np.stack([table[name].astype(np.int64) for name in names])
            table = image_tables(pairs, len(self.stems), len(self.classes))["counts"]
        counts = np.zeros((len(self.stems), len(self.classes), 3), np.int64)
        for index, name in enumerate(("intersection", "truth", "prediction")):
            counts[table["image"], table["label"], index] = table[name]
        return counts

    def image_miou(self) -> np.ndarray:
        """mIoU (N,) of each image in percent, over the classes that its truth has.

        Raises:
            ValueError: where the file's form is "none".
        """
        self._needs("confusion", "counts", "scores")
        return self.images["miou"] if self.form == "scores" else _image_miou(self.counts())

    def _needs(self, *forms: str) -> None:
        if self.form not in forms:
            raise ValueError(f"the form is {self.form!r}, expected {' or '.join(forms)}")


def of(run: Run) -> Analysis:
    """What evaluate kept of `run`; raises as `read`."""
    return read(run.output("evaluate", "analysis.npz"), run.again("evaluate"))


def read(path: Path, again: str = "run python -m pipelines.evaluate again") -> Analysis:
    """The analysis at `path`.

    Args:
        again: what to do about a broken file.

    Raises:
        PipelineError: when the file is missing, broken or of another format.
    """
    arrays = read_npz(path, again)
    if arrays.get("format") != FORMAT:
        raise broken(path, f"format {arrays.get('format')}, expected {FORMAT}", again)
    with reading(path, "analysis", again):
        return _analysis(arrays)


def _analysis(arrays: Mapping[str, np.ndarray]) -> Analysis:
    values: dict[str, Any] = {}
    for group in ("image", "sample", "log"):
        values[group] = {
            name.removeprefix(f"{group}/"): array
            for name, array in arrays.items()
            if name.startswith(f"{group}/")
        }
    values["images"] = values.pop("image")
    for name in ("format", "seed", "form", "missing"):
        values[name] = arrays[name].item()
    for name in ("classes", "stems", "dropped"):
        values[name] = arrays[name].tolist()
    for name in ("stride", "pixels", "scatter", "bias", *TABLES):
        values[name] = arrays.get(name)
    return Analysis(**values)


def image_tables(pairs: np.ndarray, images: int, classes: int) -> dict[str, dict[str, np.ndarray]]:
    """The forms of what is kept of each image, the fullest first."""
    image, truth, prediction, count = pairs
    counts = np.zeros((images, classes, 3), np.int64)
    same = truth == prediction
    np.add.at(counts, (image[same], truth[same], 0), count[same])
    np.add.at(counts, (image, truth, 1), count)
    np.add.at(counts, (image, prediction, 2), count)
    which, label = np.nonzero(counts.any(axis=2))
    intersection, labelled, predicted = counts[which, label].T
    return {
        "confusion": dict(image=image, truth=truth, prediction=prediction, count=count),
        "counts": {
            "image": which,
            "label": label,
            "intersection": intersection,
            "truth": labelled,
            "prediction": predicted,
        },
        "scores": {"miou": _image_miou(counts), "aacc": _image_aacc(counts)},
    }


def _image_miou(counts: np.ndarray) -> np.ndarray:
    """Percent, over the classes that an image has; NaN for an image without a labelled pixel."""
    hits, truth, prediction = np.moveaxis(counts.astype(np.float64), 2, 0)
    here = truth > 0
    iou = np.divide(100 * hits, truth + prediction - hits, out=np.zeros_like(hits), where=here)
    number = here.sum(axis=1)
    return iou.sum(axis=1) / np.where(number, number, np.nan)


def _image_aacc(counts: np.ndarray) -> np.ndarray:
    hits, truth, _ = counts.sum(axis=1, dtype=np.float64).T
    return 100 * hits / np.where(truth, truth, np.nan)
