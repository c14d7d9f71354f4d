"""The files beside a page: every table in four formats, every drawing in two.

What a replay gives again lies in `tables/` and `figures/`, all else in `runtime/`.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

from pipelines.base.frames import write_csv
from pipelines.rendering import style, tables
from pipelines.rendering.inert import inert
from pipelines.rendering.parts import Drawing, Part, Pictures, Report, Section, Table

TABLES, FIGURES, RUNTIME = "tables", "figures", "runtime"

TABLE_FORMATS = {"csv": "CSV", "parquet": "Parquet", "tex": "LaTeX", "md": "Markdown"}
FIGURE_FORMATS = {"svg": "SVG", "png": "PNG"}


def place(section: Section, part: Table | Drawing) -> str:
    """The folder of a part's files, below that of the report."""
    if not section.reproducible:
        return RUNTIME
    return TABLES if isinstance(part, Table) else FIGURES


def links(section: Section, part: Table | Drawing) -> dict[str, str]:
    """The addresses of a part's files, by the name of their format."""
    formats = TABLE_FORMATS if isinstance(part, Table) else FIGURE_FORMATS
    stem = f"{place(section, part)}/{part.name}"
    return {name: f"{stem}.{suffix}" for suffix, name in formats.items()}


def write(report: Report, folder: Path) -> None:
    """Write the files of all tables and drawings below `folder`; call inside `style.drawing()`.

    Raises:
        ValueError: when two tables or two drawings have the same name.
    """
    for name in (TABLES, FIGURES, RUNTIME):
        (folder / name).mkdir()
    seen = set()
    for section, part in parts(report):
        if (type(part), part.name) in seen:
            raise ValueError(f"two tables or two drawings of the report are named {part.name!r}")
        seen.add((type(part), part.name))
        target = folder / place(section, part)
        if isinstance(part, Table):
            _write_table(part, target)
        else:
            style.save(part.figure, target, part.name)


def parts(report: Report) -> Iterator[tuple[Section, Table | Drawing]]:
    """All tables and drawings with their sections, in order."""
    for section in report.sections:
        for part in section.parts:
            found = drawing_of(part)
            if found is not None:
                yield section, found


def drawing_of(part: Part) -> Table | Drawing | None:
    """What of a part has files."""
    if isinstance(part, Pictures):
        return part.drawing
    return part if isinstance(part, Table | Drawing) else None


def table_page(table: Table) -> str:
    """A table as Markdown with its caption, to stand on its own anywhere."""
    return inert(f"{tables.markdown(table.shown, table.strong)}\n{table.caption}\n")


def _write_table(table: Table, folder: Path) -> None:
    write_csv(table.data, folder / f"{table.name}.csv")
    table.data.to_parquet(folder / f"{table.name}.parquet", engine="pyarrow", index=False)
    latex = tables.latex(table.shown, table.strong)
    for suffix, text in (("md", table_page(table)), ("tex", latex)):
        path = folder / f"{table.name}.{suffix}"
        path.write_text(text, encoding="utf-8", newline="\n")
