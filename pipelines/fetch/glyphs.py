"""The handwritten digits that scikit-learn carries, as a raw file of a data set."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from pipelines.base.reading import broken, read_npy


def load_glyphs() -> tuple[np.ndarray, np.ndarray]:
    """Read the handwritten digits that scikit-learn carries; no network.

    Returns:
        Glyphs ``(1797, 8, 8)`` uint8 with values 0 (paper) to 16 (ink), and their digits
        ``(1797,)`` int64, 0 to 9.
    """
    # Imported here: only fetching needs scikit-learn, rendering does not.
    from sklearn.datasets import load_digits

    bunch = load_digits()
    return bunch.images.astype(np.uint8), bunch.target.astype(np.int64)


def save_glyphs(path: str | Path, glyphs: np.ndarray, labels: np.ndarray) -> None:
    """Write glyphs and labels to one ``.npy`` file whose bytes depend on their values only.

    Args:
        path: File to write, under exactly this name.
        glyphs: ``(n, 8, 8)``, values 0 to 16.
        labels: ``(n,)``, 0 to 9.

    Raises:
        ValueError: If the shapes or values are not those.
    """
    glyphs, labels = np.asarray(glyphs), np.asarray(labels)
    _check_glyphs(glyphs, labels)
    rows = np.concatenate([labels.reshape(-1, 1), glyphs.reshape(len(glyphs), 64)], axis=1)
    # A file object, because np.save appends ".npy" to a name that lacks it (a temporary one, say).
    with open(path, "wb") as file:
        np.save(file, np.ascontiguousarray(rows.astype(np.uint8)), allow_pickle=False)


def read_glyphs(path: Path, remedy: str | None = None) -> tuple[np.ndarray, np.ndarray]:
    """Read what `save_glyphs` wrote; returns the same as `load_glyphs`.

    Raises:
        PipelineError: If the file does not hold a uint8 array ``(n, 65)`` of glyphs and digits.
    """
    rows = read_npy(path, remedy)
    if rows.dtype != np.uint8 or rows.shape[1:] != (65,):
        raise broken(path, "no glyphs: expected a uint8 array of shape (n, 65)", remedy)
    glyphs, labels = rows[:, 1:].reshape(-1, 8, 8), rows[:, 0].astype(np.int64)
    try:
        _check_glyphs(glyphs, labels)
    except ValueError as error:
        raise broken(path, f"no glyphs: {error}", remedy) from error
    return glyphs, labels


def _check_glyphs(glyphs: np.ndarray, labels: np.ndarray) -> None:
    if glyphs.ndim != 3 or glyphs.shape[1:] != (8, 8) or labels.shape != glyphs.shape[:1]:
        raise ValueError(
            f"expected glyphs (n, 8, 8) and labels (n,), got {glyphs.shape} and {labels.shape}"
        )
    if not len(glyphs):
        raise ValueError("expected at least one glyph")
    if glyphs.min() < 0 or glyphs.max() > 16:
        raise ValueError("expected glyph values from 0 to 16")
    if labels.min() < 0 or labels.max() > 9:
        raise ValueError("expected labels from 0 to 9")
