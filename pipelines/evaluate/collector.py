"""Gather what evaluate keeps while the images of a split go by, and write it.

The format of `analysis.npz`, and how its parts share the budget, stand in
`pipelines.evaluate.kept`.
"""

from __future__ import annotations

import io
import zipfile
import zlib
from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np

from pipelines.evaluate import kept
from pipelines.evaluate.feature_statistics import FeatureStatistics, ImageFeatures

_ANCHORS = "semantic_anchors"


class Collector:
    """Gathers the analysis of one run; the images come in the order of the split.

    Args:
        classes: names of the K classes.
        seed: of the sample.
    """

    def __init__(self, classes: Sequence[str], seed: int = kept.SEED) -> None:
        self._classes, self._seed = list(classes), seed
        self._stems: list[str] = []
        self._pairs: list[np.ndarray] = []
        self._features: FeatureStatistics | None = None
        self._missing = ""
        self._stride = np.zeros(2)

    def add(self, stem: str, confusion: np.ndarray) -> None:
        """Pixel counts (K, K) of the next image, rows truth, columns prediction."""
        truth, prediction = np.nonzero(confusion)
        image = np.full(truth.size, len(self._stems))
        self._stems.append(stem)
        self._pairs.append(np.stack([image, truth, prediction, confusion[truth, prediction]]))

    def add_features(
        self, features: np.ndarray, labels: np.ndarray, stride: Sequence[float]
    ) -> None:
        """The feature map (C, h, w) of the image that was added last, and its labels (h, w).

        Args:
            labels: class ids; others are left out.
            stride: rows and columns of the model's input for a pixel of the map.
        """
        self.join_features(self.of_image(len(self._stems) - 1, features, labels, stride))

    def of_image(
        self, index: int, features: np.ndarray, labels: np.ndarray, stride: Sequence[float]
    ) -> ImageFeatures:
        """What `join_features` needs of an image, as `add_features`, and its index in the split.

        Another process may do this part, and have another collector for it.
        """
        if self._features is None:
            shape = len(self._classes), features.shape[0]
            self._features = FeatureStatistics(
                shape[0], shape[1], kept.sample_size(*shape), self._seed
            )
            self._stride = np.array(stride, np.float64)
        return self._features.of_image(index, features, labels)

    def join_features(self, found: ImageFeatures) -> None:
        """Add the features of the image that was added last, unless nothing of them is kept."""
        if self._missing or self._features is None:
            return  # Of an image before there is no map; perhaps of none that this process had.
        self._features.join(found)

    def without_features(self, reason: str) -> None:
        """Keep nothing about features, since of some image there is no map."""
        self._missing = reason

    def write(
        self,
        path: Path,
        classifier: Mapping[str, np.ndarray],
        state: Mapping[str, np.ndarray],
        log: Mapping[str, np.ndarray],
    ) -> None:
        """Write the file; equal contents give equal bytes.

        Args:
            classifier: `weight` (K, C) and perhaps `bias` (K,), or nothing.
            state: a plug-in's state by name; (K, C) anchors are the one `*semantic_anchors`.
            log: `iteration` (T,) and values (T, n) by name, as the diagnostics of a training.
        """
        dropped: list[str] = []
        arrays: dict[str, np.ndarray] = {
            "format": np.array(kept.FORMAT, np.int64),
            "seed": np.array(self._seed, np.int64),
            "classes": np.array(self._classes),
            "missing": np.array(self._missing),
            **self._image_arrays(dropped),
            **_log_arrays(log, kept.log_room(len(self._classes)), dropped),
        }
        if self._features is not None and not self._missing:
            arrays |= self._feature_arrays(self._features, classifier, state, dropped)
        arrays["dropped"] = np.array(sorted(dropped), dtype=np.str_)
        np.savez_compressed(path, allow_pickle=False, **arrays)

    def _image_arrays(self, dropped: list[str]) -> dict[str, np.ndarray]:
        room = kept.images_room(len(self._classes))
        pairs = np.concatenate(self._pairs, axis=1) if self._pairs else np.zeros((4, 0), np.int64)
        stems = np.array(self._stems, dtype=np.str_)
        tables = kept.image_tables(pairs, len(stems), len(self._classes))
        for form, table in tables.items():
            arrays = {f"image/{name}": _narrow(values) for name, values in table.items()}
            arrays["stems"] = stems
            if sum(len(zlib.compress(values.tobytes())) for values in arrays.values()) <= room:
                return {"form": np.array(form), **arrays}
        dropped.append("images")
        return {"form": np.array("none"), "stems": stems[:0]}

    def _feature_arrays(
        self,
        found: FeatureStatistics,
        classifier: Mapping[str, np.ndarray],
        state: Mapping[str, np.ndarray],
        dropped: list[str],
    ) -> dict[str, np.ndarray]:
        shape = found.mean.shape
        with np.errstate(invalid="ignore"):
            scatter = found.squares / np.where(found.pixels, found.pixels, np.nan)
        tables = {"mean": np.where(found.pixels[:, None], found.mean, np.nan)}
        if "weight" in classifier:
            tables["weight"] = classifier["weight"]
        anchors = [v for name, v in state.items() if name.split(".")[-1] == _ANCHORS]
        if len(anchors) == 1:
            tables["anchors"] = anchors[0]
        types = kept.table_types(*shape)
        arrays = {}
        for name, table in tables.items():
            # Of another map than the one that was watched, or of classes of another kind.
            if table.ndim != 2 or table.shape[1] != shape[1] or len(table) > shape[0]:
                continue
            if name in types:
                with np.errstate(over="ignore"):
                    arrays[name] = table.astype(types[name])
            else:
                dropped.append(name)
        if "weight" in arrays and "bias" in classifier:
            arrays["bias"] = classifier["bias"].astype(np.float32)
        sample = {name: values for name, values in found.sample.items() if name != "key"}
        if not found.size:
            dropped.append("sample")
        return {
            **arrays,
            "stride": self._stride,
            "pixels": found.pixels,
            "scatter": scatter,
            **{f"sample/{name}": _narrow(values) for name, values in sample.items()},
        }


class KeptPredictions:
    """The predicted class ids of all images, or of none, compressed as they come."""

    def __init__(self, keep: bool) -> None:
        self._keep = keep
        self._bytes = io.BytesIO()
        self._file = zipfile.ZipFile(self._bytes, "w", zipfile.ZIP_DEFLATED)

    def add(self, stem: str, prediction: np.ndarray) -> None:
        """Class ids (H, W) uint8 of an image."""
        if self._keep:
            # Members opened by name, as numpy does, have a date that never changes.
            with self._file.open(f"{stem}.npy", "w", force_zip64=True) as member:
                np.lib.format.write_array(member, prediction, allow_pickle=False)

    def write(self, path: Path) -> None:
        """Write the file, for `numpy.load`; call once, at the end. Equal contents, equal bytes."""
        self._file.close()
        path.write_bytes(self._bytes.getvalue())


def _log_arrays(
    log: Mapping[str, np.ndarray], room: int, dropped: list[str]
) -> dict[str, np.ndarray]:
    """`log/<name>`, thinned evenly with the first and the last record in it."""
    if len(log) < 2 or not len(log["iteration"]):
        return {}
    records = len(log["iteration"])
    # 400 bytes for each array's own headers.
    room -= 400 * len(log)
    fitting = min(records, room // (sum(values[0].nbytes for values in log.values())))
    if fitting < 2 <= records:
        dropped.append("log")
        return {}
    chosen = np.linspace(0, records - 1, fitting).round().astype(int)
    return {f"log/{name}": values[chosen] for name, values in sorted(log.items())}


def _narrow(values: np.ndarray) -> np.ndarray:
    """Non-negative integers in the smallest type that holds them; others as they are."""
    if values.dtype.kind != "i":
        return values
    return values.astype(np.min_scalar_type(int(values.max(initial=0))))
