"""Published tables on the pages: between `<!-- table:S -->` and `<!-- /table:S -->`."""

from __future__ import annotations

import re
from collections.abc import Mapping
from pathlib import Path

from pipelines.base.errors import PipelineError
from pipelines.study import REPORTS, params_names

README = Path("README.md")
DOCS = Path("docs")

# A marker stands alone on its line, so that a text may speak of markers.
_MARKER = re.compile(r"^<!-- (/?)table:(\S+) -->[ \t]*$", re.MULTILINE)


def fill(text: str, tables: Mapping[str, str], only: str | None = None, page: Path = README) -> str:
    """`text` with each study's table between `<!-- table:S -->` and `<!-- /table:S -->`.

    Args:
        tables: Markdown by study; empty for a study that has nothing published.
        only: fill this study's markers and leave the others.
        page: where `text` stands, for errors.

    Raises:
        PipelineError: for a marker without its partner or with a study that `tables` lacks.
    """
    parts, end = [], 0
    markers = list(_MARKER.finditer(text))
    for opening, closing in zip(markers[::2], [*markers[1::2], None], strict=False):
        name = opening[2]
        if opening[1]:
            raise PipelineError(f"{page}: {opening[0].strip()} closes nothing")
        if closing is None or closing.groups() != ("/", name):
            raise PipelineError(
                f"{page}: {opening[0].strip()} is not followed by <!-- /table:{name} -->"
            )
        if name not in tables:
            known = ", ".join(sorted(tables)) or "none"
            raise PipelineError(
                f"{page}: {opening[0].strip()}: unknown study {name!r}; params/studies has: {known}"
            )
        if only in (None, name):
            body = f"\n{tables[name].strip()}\n\n" if tables[name] else ""
            parts += [text[end : opening.end()], "\n", body]
            end = closing.start()
    return "".join([*parts, text[end:]])


def published_tables() -> dict[str, str]:
    """The published table of every study in `params/studies`, empty where there is none."""
    return {
        name: table_of(REPORTS / name) if (REPORTS / name / "table.md").is_file() else ""
        for name in params_names("studies")
    }


def table_of(folder: Path) -> str:
    """The comparison table, as Markdown, of the report in `folder`."""
    return (folder / "table.md").read_text(encoding="utf-8")


def read() -> dict[Path, str]:
    """The text of README.md and of each page of docs/.

    Raises:
        PipelineError: when README.md is not there.
    """
    if not README.is_file():
        raise PipelineError(f"{README}: not found; run this in the root of the project")
    return {page: page.read_text(encoding="utf-8") for page in (README, *sorted(DOCS.glob("*.md")))}


def faults() -> list[str]:
    """Each study whose table on a page is not the published one.

    Raises:
        PipelineError: when README.md cannot be read or a page has a marker that cannot be filled.
    """
    tables = published_tables()
    return [
        f"{page}: the table of {name} is not the one in {REPORTS}/; expected {_first(text, want)}"
        f"; mend it with: make publish STUDY={name}"
        for page, text in read().items()
        for name in tables
        if (want := fill(text, tables, name, page)) != text
    ]


def _first(text: str, want: str) -> str:
    """The first line of `want` that is not in its place in `text`."""
    pairs = zip(want.splitlines(), [*text.splitlines(), "", ""], strict=False)
    return next((repr(line) for line, found in pairs if line != found), "no more lines")
