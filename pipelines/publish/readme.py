"""Published tables on the pages: between `<!-- table:S -->` and `<!-- /table:S -->`.

S is a study, or a benchmark whose table a page shows.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from pathlib import Path

from pipelines.base.errors import PipelineError
from pipelines.base.frames import read_csv
from pipelines.base.reading import read_text
from pipelines.rendering import tables as text_tables
from pipelines.study import REPORTS, params_names, published_names

README = Path("README.md")
DOCS = Path("docs")

BENCHMARKS = {"benchmarks/models": Path("benchmarks/models.csv")}
"""Tables of benchmarks that pages show."""

_OF_MODELS = {
    "model": "entry",
    "title": "model",
    "parameters": "parameters, M",
    "gflops": "GFLOPs",
    "crop": "crop",
    "step_ms": "step, ms",
    "peak_mib": "memory, MiB",
}
"""Columns of that of the models, and their headings."""

_TEXT_OF_MODELS = ("model", "title", "device", "python", "torch", "mmsegmentation")

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
                f"{page}: {opening[0].strip()}: unknown study {name!r}; known are: {known}"
            )
        if only in (None, name):
            body = f"\n{tables[name].strip()}\n\n" if tables[name] else ""
            parts += [text[end : opening.end()], "\n", body]
            end = closing.start()
    return "".join([*parts, text[end:]])


def published_tables() -> dict[str, str]:
    """The table of every study that is or may be published and of `BENCHMARKS`, empty where there
    is none."""
    studies = {
        name: table_of(REPORTS / name) if (REPORTS / name / "table.md").is_file() else ""
        for name in [*params_names("studies"), *published_names()]
    }
    measured = {
        name: models_table(path) if path.is_file() else "" for name, path in BENCHMARKS.items()
    }
    return studies | measured


def models_table(path: Path) -> str:
    """What `benchmarks/models.py` measured, as Markdown, the smallest model first.

    Raises:
        PipelineError: when the file is not such a table.
    """
    table = read_csv(
        path, _TEXT_OF_MODELS, needs=_OF_MODELS, remedy="run python -m benchmarks.models"
    ).sort_values("parameters")
    shown = table[list(_OF_MODELS)].astype(str)
    shown["model"] = [f"`{name}`" for name in table["model"]]
    shown["parameters"] = [f"{count / 1e6:.2f}" for count in table["parameters"]]
    shown["gflops"] = [f"{count:.1f}" for count in table["gflops"]]
    return text_tables.markdown(shown.rename(columns=_OF_MODELS))


def table_of(folder: Path) -> str:
    """The comparison table, as Markdown, of the report in `folder`."""
    return read_text(folder / "table.md")


def read() -> dict[Path, str]:
    """The text of README.md and of each page of docs/.

    Raises:
        PipelineError: when README.md is not there.
    """
    if not README.is_file():
        raise PipelineError(f"{README}: not found; run this in the root of the project")
    pages = (README, *sorted(DOCS.glob("*.md")))
    return {page: read_text(page, "save it as UTF-8") for page in pages}


def faults() -> list[str]:
    """Each study whose table on a page is not the published one.

    Raises:
        PipelineError: when README.md cannot be read or a page has a marker that cannot be filled.
    """
    tables = published_tables()
    return [
        f"{page}: the table of {name} is not the one in {_source(name)}; expected "
        f"{_first(text, want)}; mend it with: {_remedy(name)}"
        for page, text in read().items()
        for name in tables
        if (want := fill(text, tables, name, page)) != text
    ]


def _source(name: str) -> str:
    return BENCHMARKS[name].as_posix() if name in BENCHMARKS else f"{REPORTS}/"


def _remedy(name: str) -> str:
    if name in BENCHMARKS:
        return f"python -m {name.replace('/', '.')}"
    return f"make publish STUDY={name}"


def _first(text: str, want: str) -> str:
    """The first line of `want` that is not in its place in `text`."""
    pairs = zip(want.splitlines(), [*text.splitlines(), "", ""], strict=False)
    return next((repr(line) for line, found in pairs if line != found), "no more lines")
