"""A report as one Markdown page, for those who read it where its files are kept."""

from __future__ import annotations

from functools import singledispatch

from pipelines.rendering import files
from pipelines.rendering.inert import inert
from pipelines.rendering.parts import Drawing, Pictures, Report, Section, Table, Text, Verdicts

_IN_BRACKETS = str.maketrans({"[": "(", "]": ")", "<": "(", ">": ")", "\\": "/", "`": "'"})
"""What would end an alternative text, or be more than text in it."""


def render(report: Report) -> str:
    """The page; it links to the files that lie beside it, and leaves out what no replay repeats."""
    sections = [section for section in report.sections if section.reproducible]
    blocks = [inert(f"# {report.title}"), *(inert(text.markdown.strip()) for text in report.lead)]
    summary = [
        f"- {judged.claim}: **{judged.verdict}** ({judged.numbers})"
        for section in sections
        for part in section.parts
        if isinstance(part, Verdicts)
        for judged in part.judged
    ]
    if summary:
        blocks += [
            "What became of the claims that were made before the runs:",
            inert("\n".join(summary)),
        ]
    for section in sections:
        blocks += [f"## {section.title}", *(_block(part, section) for part in section.parts)]
    left_out = [section.title for section in report.sections if not section.reproducible]
    more = f", and has more: {', '.join(left_out)}" if left_out else ""
    blocks.append(f"The same as a page to open in a browser: [index.html](index.html){more}.")
    return "\n\n".join(blocks) + "\n"


@singledispatch
def _block(part: object, section: Section) -> str:
    raise TypeError(f"{type(part).__name__} is no part of a section")


@_block.register
def _(part: Text, section: Section) -> str:
    return inert(part.markdown.strip())


@_block.register
def _(part: Table, section: Section) -> str:
    return f"{files.table_page(part).strip()} {_also(part, section)}"


@_block.register
def _(part: Drawing, section: Section) -> str:
    also = files.links(section, part)
    alternative = part.alternative.translate(_IN_BRACKETS)
    return f"![{alternative}]({also['PNG']})\n\n{inert(part.caption)} {_also(part, section)}"


@_block.register
def _(part: Pictures, section: Section) -> str:
    return _block(part.drawing, section)


@_block.register
def _(part: Verdicts, section: Section) -> str:
    # Good and bad news are told in the same words.
    return inert(
        "\n".join(
            f"- {judged.claim}: **{judged.verdict}**; {judged.claimed}. {judged.found}."
            for judged in part.judged
        )
    )


def _also(part: Table | Drawing, section: Section) -> str:
    also = [
        f"[{name}]({address})"
        for name, address in files.links(section, part).items()
        if name not in ("Markdown", "PNG")
    ]
    return f"Also as {' and '.join([', '.join(also[:-1]), also[-1]] if also[1:] else also)}."
