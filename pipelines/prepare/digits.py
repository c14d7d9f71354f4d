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

import math
from functools import lru_cache

import numpy as np

from pipelines.prepare import painting
from pipelines.study.digits import SPLITS, DigitsSpec, Split

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
# One more than there are slots, for the number of digits.
_PRIMES = (2, 3, 5, 7, 11, 13, 17, 19, 23, 29, 31, 37, 41)
_MASK = (1 << 64) - 1
_STEPS = tuple(math.isqrt(prime << 128) & _MASK for prime in _PRIMES)


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
    image = painting.background(rng, spec.size)
    label = np.zeros((spec.size, spec.size), np.uint8)

    pool = labels[indices]
    boxes: list[tuple[int, int, int, int]] = []
    for digit in digits:
        choices = indices[pool == digit]
        if not len(choices):
            raise ValueError(f"split {split} has no glyph of digit {digit}")
        side = int(rng.integers(spec.digit_size[0], spec.digit_size[1] + 1))
        alpha = painting.stroke(rng, glyphs[choices[rng.integers(len(choices))]], side)
        height, width = alpha.shape
        top, left = painting.place(rng, height, width, spec.size, boxes)
        boxes.append((top, left, top + height, left + width))
        window = np.s_[top : top + height, left : left + width]
        ink = alpha >= 128
        painting.blend(image[window], alpha, painting.ink(rng))
        label[window][ink] = digit + 1

    gain = int(rng.integers(205, 282))  # brightness in 1/256
    noise = rng.integers(-9, 10, image.shape, dtype=np.int8)
    image *= gain
    image >>= 8
    image += noise
    return np.clip(image, 0, 255).astype(np.uint8), label


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
