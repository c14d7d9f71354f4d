"""What a report is made of, before it is a page: sections of text, tables and drawings.

The stages' findings return these; `pipelines.rendering` shows them as Markdown and as an HTML page.
A table holds its numbers twice: as data, for the files beside the page, and as shown, for reading.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, field

import numpy as np
import pandas as pd
from matplotlib.figure import Figure


@dataclass(frozen=True)
class Text:
    markdown: str
    """Paragraphs, lists and quotes in Markdown, without headings."""


@dataclass(frozen=True)
class Table:
    name: str
    """Stem of its files: letters, digits, hyphens and underscores; unique within a report."""
    data: pd.DataFrame
    shown: pd.DataFrame
    """The same rows as text, numbers rounded by their uncertainty."""
    caption: str
    """Markdown in one paragraph."""
    anchors: Sequence[str | Mapping[str, str]] = ()
    """For each row the id of the place in the page that tells where its numbers come from, or such
    an id for each of some columns of `shown`. Shown as links in the HTML page, where there is such
    a place; "" for none."""
    ids: Sequence[str] = ()
    """For each row its own id in the HTML page, for others' `anchors`."""
    strong: Collection[tuple[int, str]] = ()
    """Cells (number of the row, column of `shown`) that are set in bold."""


@dataclass(frozen=True)
class Drawing:
    name: str
    """As of a table."""
    figure: Figure
    alternative: str
    """What the drawing shows, in words, for those who do not see it."""
    caption: str
    """Markdown in one paragraph."""


@dataclass(frozen=True)
class Picture:
    pixels: np.ndarray
    """(H, W, 3) uint8."""
    title: str
    alternative: str
    photo: bool = False
    """Whether a little loss is allowed: not in a map of classes, whose colours have a meaning."""


@dataclass(frozen=True)
class Pictures:
    """Rows of pictures; the HTML page shows them one by one, everything else as one drawing."""

    drawing: Drawing
    rows: Sequence[tuple[str, Sequence[Picture]]]
    """Title and pictures of each row."""
    legend: Mapping[str, tuple[int, int, int]]
    """What the colours stand for."""


@dataclass(frozen=True)
class Verdict:
    claim: str
    """Name of the claim, and what data and model it is about."""
    verdict: str
    claimed: str
    found: str
    """Both in sentences."""
    numbers: str
    """The difference that was found, for a card."""


@dataclass(frozen=True)
class Verdicts:
    """The judgements on a study's claims, good and bad ones alike."""

    judged: Sequence[Verdict]


Part = Text | Table | Drawing | Pictures | Verdicts


@dataclass(frozen=True)
class Section:
    title: str
    parts: Sequence[Part] = field(default_factory=list)
    reproducible: bool = True
    """Whether a replay of the study gives it again, byte by byte. What does not (times, machines)
    stands in the HTML page alone, its files in `runtime/`, and no receipt speaks of it."""


@dataclass(frozen=True)
class Report:
    title: str
    lead: Sequence[Text]
    sections: Sequence[Section]


def run_anchor(dataset: str, model: str, method: str) -> str:
    """The id of the place in the page that tells which runs of a method its numbers come from."""
    return f"runs-{dataset}-{model}-{method}"
