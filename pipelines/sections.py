"""What a report is made of, before it is a page: sections of text, tables and drawings.

The stages' findings return these; `pages` and the HTML page show them. A table holds its numbers
twice: as data, for the files beside the page, and as shown, for reading.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field

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
    anchors: Sequence[str] = ()
    """For each row the id of the place in the page that tells where its numbers come from."""


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
class Section:
    title: str
    parts: Sequence[Text | Table | Drawing] = field(default_factory=list)
