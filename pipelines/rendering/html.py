"""A report as one HTML file that needs nothing besides itself."""

from __future__ import annotations

import base64
import io
import re
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from jinja2 import Environment, PackageLoader, StrictUndefined
from markdown_it import MarkdownIt
from markupsafe import Markup
from PIL import Image

from pipelines.rendering import files, numbers, svg
from pipelines.rendering.parts import Drawing, Picture, Report, Section, Table, Verdicts

# Names stand in what it reads: no HTML, no image that a name has brought from elsewhere.
_MARKDOWN = MarkdownIt("commonmark", {"html": False}).disable("image")
_HEADERS = ("method", "class", "claim")
"""Columns that name a row, before the first of all."""

# Roles too: a table that a phone shows as cards is none to a browser any more.
_HEADER, _CELL = Markup('th scope="row" role="rowheader"'), Markup('td role="cell"')

_SPREAD = re.compile(r"(?P<mean>[+-]?\d+(?:\.(?P<decimals>\d+))?) ± (?P<spread>\d+(?:\.\d+)?)")


def render(report: Report, folder: Path) -> str:
    """The page, with the figures that `files.write` wrote to `folder`."""
    environment = Environment(
        loader=PackageLoader("pipelines.rendering"),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    environment.filters |= {
        "markdown": _markdown,
        "phrase": _phrase,
        "slug": slug,
        "sentence": _sentence,
    }
    shown = [part for _, part in files.parts(report)]
    places = {key for part in shown if isinstance(part, Table) for key in part.ids if key}
    judged = [
        each
        for section in report.sections
        for part in section.parts
        if isinstance(part, Verdicts)
        for each in part.judged
    ]
    return environment.get_template("page.html.j2").render(
        report=report,
        judged=judged,
        kind=lambda part: type(part).__name__.lower(),
        links=files.links,
        rows=lambda table: _rows(table, places),
        columns=_columns,
        figure=lambda section, part: _figure(section, part, folder),
        picture=_picture,
    )


def slug(title: str) -> str:
    """A title, or a verdict, as an id."""
    return re.sub(r"[^a-z0-9]+", "-", title.lower()).strip("-")


def _markdown(text: str) -> Markup:
    # What can be scrolled has to be reached by keyboard.
    html = _MARKDOWN.render(text).replace("<pre>", '<pre tabindex="0">')
    return Markup(html)


def _phrase(text: str) -> Markup:
    return Markup(_MARKDOWN.renderInline(text))


def _sentence(text: str) -> str:
    return text[:1].upper() + text[1:]


def _columns(table: Table) -> list[tuple[str, bool]]:
    """The columns that the page shows, and whether they hold numbers.

    A data set or model that is the same in all rows only takes room; it is in the files.
    """
    pairs = zip(table.shown.columns, numbers.numeric(table.shown), strict=True)
    return [
        (name, number)
        for name, number in pairs
        if name not in ("data set", "model") or table.shown[name].nunique() > 1
    ]


def _rows(table: Table, places: set[str]) -> list[dict[str, Any]]:
    """Each row's id and cells, with the links that lead to a place in this page."""
    aligned = _aligned(table)
    numerical = dict(_columns(table))
    header = next((name for name in _HEADERS if name in numerical), next(iter(numerical), ""))
    rows = []
    for number in range(len(table.shown)):
        anchors = table.anchors[number] if number < len(table.anchors) else {}
        if isinstance(anchors, str):
            anchors = dict.fromkeys(table.shown.columns, anchors)
        cells = [
            {
                "tag": _HEADER if column == header else _CELL,
                "label": column,
                "html": aligned[column][number],
                "kind": _kind(column, table.shown[column].iloc[number], numerical[column]),
                "strong": (number, column) in table.strong,
                "anchor": anchor if (anchor := anchors.get(column)) in places else None,
            }
            for column in numerical
        ]
        rows.append({"id": table.ids[number] if number < len(table.ids) else "", "cells": cells})
    return rows


def _kind(column: str, text: str, number: bool) -> str:
    """How a cell looks: what it says counts for verdicts alone."""
    if number:
        return "number"
    if column == "verdict":
        return slug(text)
    return "wide" if len(text) > 40 else ""


def _aligned(table: Table) -> dict[str, Sequence[Markup]]:
    """The cells of each column; means and deviations stand below each other by their points."""
    columns: dict[str, Sequence[Markup]] = {}
    for column in table.shown:
        cells = [str(text) for text in table.shown[column]]
        found = [_SPREAD.match(text) for text in cells]
        most = max((len(each["decimals"] or "") for each in found if each), default=0)
        columns[column] = [
            _padded(text, each, most) for text, each in zip(cells, found, strict=True)
        ]
    return columns


def _padded(text: str, found: re.Match | None, most: int) -> Markup:
    if found is None:
        return Markup.escape(text)
    lacking = most - len(found["decimals"] or "")
    filler = ("." if lacking == most and most else "") + "0" * lacking
    pad = Markup('<span class="pad" aria-hidden="true">{}</span>').format(filler) if lacking else ""
    rest = text[found.end() :]
    return Markup("{}{} ± {}{}{}").format(found["mean"], pad, found["spread"], pad, rest)


def _figure(section: Section, part: Drawing, folder: Path) -> Markup:
    path = folder / files.place(section, part) / f"{part.name}.svg"
    text = path.read_text(encoding="utf-8")
    return Markup(svg.inline(text, f"figure-{part.name}", section.title, part.alternative))


def _picture(picture: Picture) -> Mapping[str, Any]:
    height, width = picture.pixels.shape[:2]
    return {"source": _source(picture), "width": width, "height": height}


def _source(picture: Picture) -> str:
    """The pixels inside the page."""
    image, data = Image.fromarray(np.ascontiguousarray(picture.pixels)), io.BytesIO()
    if picture.photo and max(image.size) > 128:
        image.save(data, "JPEG", quality=88)
        kind = "jpeg"
    else:
        image.save(data, "PNG", optimize=True)
        kind = "png"
    return f"data:image/{kind};base64,{base64.b64encode(data.getvalue()).decode()}"
