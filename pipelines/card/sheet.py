"""The contact sheet of a data card: some images with their labels over them, and the classes."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from PIL import Image

from pipelines.card.look import Look
from pipelines.prepare.labels import read_label
from pipelines.prepare.orientation import turned
from pipelines.prepare.raster import read_image
from pipelines.prepare.splits import find_split
from pipelines.rendering import style
from pipelines.study.cards import DataCard
from pipelines.study.digits import Split

SHOWN = 6
"""Images."""

_COLUMNS = 3
_SIDE = 640
_OPACITY = 0.55
_BARS = 40
"""Classes of the histogram, the most frequent: more cannot be read."""


def choose(holds: np.ndarray, count: int = SHOWN) -> list[int]:
    """Images that together hold as many classes as so many can.

    Args:
        holds: (N, K) bool, whether an image holds a class.
    """
    chosen: list[int] = []
    lacking = np.ones(holds.shape[1], bool)
    # Not one after the other, of a sequence.
    chance = np.random.default_rng(0).random(len(holds))
    while len(chosen) < min(count, len(holds)):
        gains = (holds & lacking).sum(axis=1) + chance
        gains[chosen] = -1
        if gains.max() < 1 and not lacking.all():
            lacking[:] = True  # All classes are there: begin again.
            continue
        chosen.append(int(np.argmax(gains)))
        lacking &= ~holds[chosen[-1]]
    return chosen


def draw(
    card: DataCard, files: Path, looks: Sequence[tuple[Split, Look]], pixels: np.ndarray
) -> Figure:
    """The sheet; draw and save inside `style.drawing()`.

    Args:
        files: the folder of the raw files.
        looks: all images with their splits.
        pixels: (N, K) of each class in them.
    """
    chosen = choose(pixels > 0)
    rows = -(-len(chosen) // _COLUMNS)
    classes = min(len(card.classes), _BARS)
    figure = Figure(figsize=(11, 2.9 * rows + 1.2 + 0.22 * classes))
    heights = (2.9 * rows, 1.2 + 0.22 * classes)
    upper, lower = np.ravel(figure.subfigures(2, 1, height_ratios=heights, squeeze=False))
    grid = np.atleast_1d(upper.subplots(rows, _COLUMNS)).ravel()
    for axes in grid:
        axes.set_axis_off()
    for axes, place in zip(grid, chosen, strict=False):
        split, look = looks[place]
        axes.imshow(_over(card, files, split, look))
        axes.set_title(f"{split}: {Path(look.image).name}", fontsize=8, parse_math=False)
    _histogram(lower.subplots(), card, pixels)
    return figure


def _over(card: DataCard, files: Path, split: Split, look: Look) -> np.ndarray:
    """(h, w, 3) uint8: the image in grey under its classes' colours, void in stripes."""
    found, _ = find_split(files, split, card.files, card.classes)
    label = next(pair.label for pair in found if pair.image == look.image)
    picture = read_image(files / look.image, card.files.max_pixels).pixels
    ids = Image.fromarray(read_label(files, label, card))
    if (card.files.exif or look.tagged.says or "turn") == "turn":
        picture, ids = turned(picture, look.tag), turned(ids, look.label_tag)
    factor = min(1.0, _SIDE / max(picture.size))
    size = (max(1, round(picture.width * factor)), max(1, round(picture.height * factor)))
    small = np.asarray(ids.resize(size, Image.Resampling.NEAREST))
    info = {"palette": card.palette, "ignore_index": card.ignore_index}
    colours = Image.fromarray(style.painted(small, small, info))
    grey = picture.resize(size, Image.Resampling.BICUBIC).convert("L").convert("RGB")
    return np.asarray(Image.blend(grey, colours, _OPACITY))


def _histogram(axes: Axes, card: DataCard, pixels: np.ndarray) -> None:
    totals = pixels.sum(axis=0)
    images = (pixels > 0).sum(axis=0)
    order = np.argsort(-totals, kind="stable")[:_BARS]
    shares = 100 * totals[order] / totals.sum()
    places = np.arange(len(order))
    axes.barh(places, shares, color=[style.fixed(card.palette[i]) for i in order], edgecolor="0.4")
    names = [f"{card.classes[i]} ({images[i]} images)" for i in order]
    axes.set_yticks(places, [name.replace("$", r"\$") for name in names], fontsize=8)
    axes.invert_yaxis()
    axes.set_xscale("log")
    axes.set_xlim(shares.min() / 2, 200)
    for place, share in zip(places, shares, strict=True):
        axes.text(share * 1.05, float(place), f"{share:.2g} %", va="center", fontsize=7)
    more = len(card.classes) - len(order)
    axes.set_xlabel(
        "share of the labelled pixels of all splits in percent, logarithmic"
        + (f"; {more} rarer classes are not shown" if more else "")
    )
