"""The embedded data set: handwritten digits on textured backgrounds, long-tailed in training.

The glyphs are the 1797 images of 8x8 pixels that scikit-learn carries (``load_digits``); nothing is
downloaded. A scene is a square RGB image with a few digits on it and a label map with 11 classes:
0 is the background and class ``d + 1`` is the digit ``d``. Every scene is a pure function of the
specification, the split and the scene's index, so scenes can be rendered in any order, in parallel,
and a short split is a prefix of a longer one.

Frequencies follow the digits themselves: in training, digit 0 is the most and digit 9 the least
frequent, on the exponential profile that long-tailed variants of CIFAR use. In val and test all
digits are equally frequent, so that the tail is measured as well as the head.
"""

from __future__ import annotations

import hashlib
import math
from collections.abc import Iterable
from functools import lru_cache
from pathlib import Path
from typing import Annotated, Literal

import numpy as np
from pydantic import BaseModel, ConfigDict, Field, field_validator, model_validator

from pipelines import drawing

Split = Literal["train", "val", "test"]

SPLITS: tuple[Split, ...] = ("train", "val", "test")

CLASSES: tuple[str, ...] = ("background", *(str(digit) for digit in range(10)))

# After Paul Tol's "muted" scheme, which stays apart under the common colour-vision deficiencies,
# with a lighter indigo and an orange; the background is dark so that digits stand out in a map.
PALETTE: tuple[tuple[int, int, int], ...] = (
    (48, 48, 48),
    (136, 204, 238),
    (204, 102, 119),
    (221, 204, 119),
    (17, 119, 51),
    (102, 85, 204),
    (170, 68, 153),
    (68, 170, 153),
    (153, 153, 51),
    (238, 119, 51),
    (221, 221, 221),
)

#: Digits from the most to the least frequent in training.
FREQUENCY_ORDER: tuple[int, ...] = tuple(range(10))

# The square roots of distinct primes are linearly independent over the rationals: the slots of a
# scene then take their digits from sequences that are even on their own and also in combination.
_PRIMES = (2, 3, 5, 7, 11, 13, 17, 19, 23, 29, 31, 37, 41)
_MASK = (1 << 64) - 1
_STEPS = tuple(math.isqrt(prime << 128) & _MASK for prime in _PRIMES)
_MAX_DIGITS = len(_STEPS) - 1


class DigitsSpec(BaseModel):
    """What the data set is made of; two equal specifications give the same arrays.

    Attributes:
        seed: Non-negative; decides the split of the glyphs and everything drawn.
        size: Side of a scene in pixels, 32 to 512.
        digits_per_scene: Least and greatest number of digits in a scene, at most 12.
        digit_size: Least and greatest side in pixels of the square that a glyph's 8x8 cells cover.
        imbalance: Ratio (at least 1) between the most and the least frequent digit in training; the
            digit of rank ``r`` in `FREQUENCY_ORDER` has a frequency proportional to
            ``imbalance ** (-r / 9)``. Val and test are uniform.
        scenes: Number of scenes for each of ``train``, ``val`` and ``test``.

    Raises:
        pydantic.ValidationError: On an unknown key, a wrong type or a value out of range; the error
            names the field.
    """

    model_config = ConfigDict(strict=True, frozen=True, extra="forbid")

    seed: Annotated[int, Field(ge=0)] = 0
    size: Annotated[int, Field(ge=32, le=512)] = 64
    # Not strict for the container only: YAML has lists and no tuples.
    digits_per_scene: Annotated[tuple[int, int], Field(strict=False)] = (2, 5)
    digit_size: Annotated[tuple[int, int], Field(strict=False)] = (16, 26)
    imbalance: Annotated[float, Field(ge=1.0, le=1e4, allow_inf_nan=False)] = 30.0
    scenes: dict[str, int] = Field(default_factory=lambda: {"train": 800, "val": 200, "test": 400})

    @field_validator("digits_per_scene")
    @classmethod
    def _check_digits_per_scene(cls, value: tuple[int, int]) -> tuple[int, int]:
        low, high = value
        if not 1 <= low <= high <= _MAX_DIGITS:
            raise ValueError(
                f"digits_per_scene must be (least, greatest) with 1 <= least <= greatest <= "
                f"{_MAX_DIGITS}, got {value}"
            )
        return value

    @field_validator("digit_size")
    @classmethod
    def _check_digit_size(cls, value: tuple[int, int]) -> tuple[int, int]:
        low, high = value
        if not 8 <= low <= high:
            raise ValueError(
                f"digit_size must be (least, greatest) in pixels with 8 <= least <= greatest, "
                f"got {value}"
            )
        return value

    @field_validator("scenes")
    @classmethod
    def _check_scenes(cls, value: dict[str, int]) -> dict[str, int]:
        if set(value) != set(SPLITS):
            raise ValueError(
                f"scenes must have exactly the keys {', '.join(SPLITS)}, got "
                f"{', '.join(map(str, value)) or 'none'}"
            )
        for split, count in value.items():
            if count < 1:
                raise ValueError(f"scenes must be at least 1 for every split, got {split}: {count}")
        return value

    @model_validator(mode="after")
    def _check_room(self) -> DigitsSpec:
        if 4 * self.digit_size[1] > 3 * self.size:
            raise ValueError(
                f"digit_size: the greatest, {self.digit_size[1]}, must be at most three quarters "
                f"of size, {self.size}"
            )
        mean_side = sum(self.digit_size) / 2
        if self.digits_per_scene[1] * mean_side**2 > self.size**2:
            raise ValueError(
                f"digits_per_scene: {self.digits_per_scene[1]} digits of {mean_side:g} pixels do "
                f"not fit into a scene of size {self.size}"
            )
        return self


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


def read_glyphs(path: str | Path) -> tuple[np.ndarray, np.ndarray]:
    """Read what `save_glyphs` wrote; returns the same as `load_glyphs`.

    Raises:
        ValueError: If the file does not hold a uint8 array ``(n, 65)`` of glyphs and digits.
    """
    rows = np.load(path, allow_pickle=False)
    if not isinstance(rows, np.ndarray) or rows.dtype != np.uint8 or rows.shape[1:] != (65,):
        raise ValueError(f"{path} is not a file of glyphs: expected a uint8 array of shape (n, 65)")
    glyphs, labels = rows[:, 1:].reshape(-1, 8, 8), rows[:, 0].astype(np.int64)
    try:
        _check_glyphs(glyphs, labels)
    except ValueError as error:
        raise ValueError(f"{path} is not a file of glyphs: {error}") from error
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


def split_glyphs(labels: np.ndarray, seed: int) -> dict[Split, np.ndarray]:
    """Divide the glyphs 60/20/20 into train, val and test, each digit on its own.

    Args:
        labels: ``(n,)`` digits 0 to 9, at least five glyphs of each.
        seed: Non-negative.

    Returns:
        For each split the sorted int64 indices into ``labels``; disjoint, together all of them.

    Raises:
        ValueError: If a digit has fewer than five glyphs, so that a split would lack it.
    """
    parts: dict[Split, list[np.ndarray]] = {split: [] for split in SPLITS}
    for digit in range(10):
        found = np.flatnonzero(np.asarray(labels) == digit)
        if len(found) < 5:
            raise ValueError(
                f"digit {digit} has {len(found)} glyphs; splitting takes at least five of each"
            )
        # The first word keeps this stream apart from those of the scenes.
        order = _generator(1, seed, digit).permutation(found)
        held = len(found) // 5
        parts["test"].append(order[:held])
        parts["val"].append(order[held : 2 * held])
        parts["train"].append(order[2 * held :])
    return {split: np.sort(np.concatenate(chunks)) for split, chunks in parts.items()}


def digit_frequencies(spec: DigitsSpec, split: Split) -> np.ndarray:
    """Expected share of each digit among the instances of a split.

    Returns:
        ``(10,)`` float64 by digit, summing to one: exponential in train, uniform elsewhere.
    """
    _check_split(split)
    share = np.full(10, 0.1)
    if split == "train":
        for rank, digit in enumerate(FREQUENCY_ORDER):
            share[digit] = spec.imbalance ** (-rank / 9)
    return share / share.sum()


def scene_digits(spec: DigitsSpec, split: Split, index: int) -> tuple[int, ...]:
    """The digits that scene ``index`` of a split holds, in the order in which they are drawn.

    The digits of successive scenes follow additive recurrences instead of independent draws, so
    that the frequencies of even a short split stay close to `digit_frequencies`, and the rarest
    digit does not vanish by bad luck.
    """
    _check_split(split)
    if index < 0:
        raise ValueError(f"index must not be negative, got {index}")
    low, high = spec.digits_per_scene
    starts = _slot_starts(spec.seed, SPLITS.index(split))
    turns = [(start + index * step) & _MASK for start, step in zip(starts, _STEPS, strict=True)]
    count = low + (turns[-1] * (high - low + 1) >> 64)
    # Shares are rounded to 32 bits: the last bit of a power may differ between machines.
    bounds = np.rint(np.cumsum(digit_frequencies(spec, split)) * 2.0**32)[:-1]
    return tuple(int(np.searchsorted(bounds, turn >> 32, side="right")) for turn in turns[:count])


def render_scene(
    glyphs: np.ndarray,
    labels: np.ndarray,
    indices: np.ndarray,
    spec: DigitsSpec,
    split: Split,
    index: int,
) -> tuple[np.ndarray, np.ndarray]:
    """Draw one scene.

    Args:
        glyphs: ``(n, 8, 8)`` uint8, values 0 to 16.
        labels: ``(n,)`` digits 0 to 9.
        indices: The glyphs that this split may use, from `split_glyphs`.
        spec: The specification; ``spec.scenes`` has no influence.
        split: ``train``, ``val`` or ``test``.
        index: The scene's number, from 0.

    Returns:
        Image ``(size, size, 3)`` uint8 RGB, and label ``(size, size)`` uint8 with values 0 to 10.

    Raises:
        ValueError: If the split is unknown, the index negative, or a digit has no glyph.
    """
    digits = scene_digits(spec, split, index)
    rng = _generator(2, spec.seed, SPLITS.index(split), index)
    image = drawing.background(rng, spec.size)
    label = np.zeros((spec.size, spec.size), np.uint8)

    pool = labels[indices]
    boxes: list[tuple[int, int, int, int]] = []
    for digit in digits:
        choices = indices[pool == digit]
        if not len(choices):
            raise ValueError(f"split {split} has no glyph of digit {digit}")
        side = int(rng.integers(spec.digit_size[0], spec.digit_size[1] + 1))
        alpha = drawing.stroke(rng, glyphs[choices[rng.integers(len(choices))]], side)
        height, width = alpha.shape
        top, left = drawing.place(rng, height, width, spec.size, boxes)
        boxes.append((top, left, top + height, left + width))
        window = np.s_[top : top + height, left : left + width]
        ink = alpha >= 128
        drawing.blend(image[window], alpha, drawing.ink(rng))
        label[window][ink] = digit + 1

    gain = int(rng.integers(205, 282))  # brightness in 1/256
    noise = rng.integers(-9, 10, image.shape, dtype=np.int8)
    image *= gain
    image >>= 8
    image += noise
    return np.clip(image, 0, 255).astype(np.uint8), label


def digest(pairs: Iterable[tuple[np.ndarray, np.ndarray]]) -> str:
    """SHA-256 over decoded scenes, in order, as 64 hexadecimal digits.

    It covers each array's shape, type and values and not an encoded file, whose bytes would depend
    on the compression library.

    Args:
        pairs: ``(image, label)`` arrays, as `render_scene` returns them.
    """
    sha = hashlib.sha256()
    for pair in pairs:
        for array in pair:
            # Little-endian whatever the machine, so that the digest is the same on all of them.
            array = np.ascontiguousarray(array, dtype=array.dtype.newbyteorder("<"))
            sha.update(f"{array.shape}{array.dtype.str};".encode())
            sha.update(array.tobytes())
    return sha.hexdigest()


def _check_split(split: str) -> None:
    if split not in SPLITS:
        raise ValueError(f"split must be one of {', '.join(SPLITS)}, got {split!r}")


def _generator(*words: int) -> np.random.Generator:
    # PCG64 by name: what default_rng stands for may change with numpy.
    return np.random.Generator(np.random.PCG64(np.random.SeedSequence(words)))


@lru_cache(maxsize=64)
def _slot_starts(seed: int, split: int) -> tuple[int, ...]:
    state = np.random.SeedSequence((3, seed, split)).generate_state(len(_STEPS), np.uint64)
    return tuple(int(word) for word in state)
