"""The figures of a report, as matplotlib figures: no files are read, no global state is changed.

A panel is a data set with a model; each figure stacks one row a panel. Methods differ in colour
(Okabe and Ito's, which colour-blind readers can tell apart) and in marker or line style; classes
have the colours of their data card. The HTML page shows neutral greys, black and white as its own
ink and paper, light or dark: a grey that has a meaning goes through `fixed`.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import NamedTuple

import matplotlib
import numpy as np
from matplotlib.figure import Figure
from matplotlib.lines import Line2D

_COLOURS = ("#000000", "#D55E00", "#0072B2", "#009E73", "#CC79A7", "#E69F00", "#56B4E9")


MARKERS = ("o", "s", "^", "D", "v", "P", "X")


_LINES = ("-", "--", "-.", ":")


_ABREAST = 3
"""Panes side by side, at most."""


@contextmanager
def drawing():
    """The style of all figures, whatever the user's matplotlibrc says; draw and save inside."""
    with matplotlib.rc_context():
        matplotlib.rcdefaults()
        matplotlib.rcParams.update(
            {
                "svg.hashsalt": "semantic-anchors",
                # Text that can be read out, searched and enlarged; Verdana has DejaVu's widths.
                "svg.fonttype": "none",
                "font.sans-serif": ["DejaVu Sans", "Verdana", "sans-serif"],
                "font.size": 9,
                "axes.titlesize": 10,
                "axes.spines.top": False,
                "axes.spines.right": False,
                "legend.frameon": False,
                "figure.constrained_layout.use": True,
            }
        )
        yield


def save(figure: Figure, folder: Path, stem: str) -> None:
    """Write `stem`.png and `stem`.svg without dates, so that equal figures give equal bytes."""
    figure.savefig(folder / f"{stem}.png", dpi=150, metadata={"Software": None})
    figure.savefig(folder / f"{stem}.svg", metadata={"Date": None})


def marker(index: int) -> dict:
    return {
        "color": _COLOURS[index % len(_COLOURS)],
        "marker": MARKERS[index % len(MARKERS)],
        "markersize": 5,
    }


def line_style(index: int) -> dict:
    return {
        "color": _COLOURS[index % len(_COLOURS)],
        "linestyle": _LINES[index % len(_LINES)],
        "linewidth": 1.3,
    }


class MethodStyle(NamedTuple):
    """How a method looks in all figures: keyword arguments of matplotlib's `plot`."""

    marker: dict
    line: dict


def method_style(index: int) -> MethodStyle:
    """Of the method at this place, the baseline at 0."""
    return MethodStyle(marker(index), line_style(index))


def fixed(colour: Sequence[int]) -> tuple[float, float, float]:
    """A colour (0..255) for matplotlib, that is never quite a neutral grey."""
    red, green, blue = colour
    if red == green == blue:
        blue += 1 if blue < 255 else -1
    return red / 255, green / 255, blue / 255


def painted(ids: np.ndarray, truth: np.ndarray, info: Mapping) -> np.ndarray:
    """Class ids (H, W) in the colours of the data card, (H, W, 3) uint8.

    Where the truth is void the map is striped: whatever is predicted there does not count.
    """
    palette = np.zeros((256, 3), np.uint8)
    palette[: len(info["palette"])] = info["palette"]
    stripes = np.add.outer(np.arange(ids.shape[0]), np.arange(ids.shape[1])) // 2 % 2
    void = (truth == info["ignore_index"])[..., None]
    return np.where(void, np.uint8(255) * stripes[..., None].astype(np.uint8), palette[ids])


def layout(panes: int) -> tuple[int, int]:
    """Columns and lines that a page can show of this many panes side by side."""
    columns = min(panes, _ABREAST)
    return columns, -(-panes // columns)


def legend(figure: Figure, handles: list[Line2D], methods: Mapping[str, str]) -> None:
    figure.legend(handles, methods.values(), loc="outside upper right", ncols=min(len(methods), 4))
