"""Tables of text as Markdown and LaTeX."""

from __future__ import annotations

from collections.abc import Collection

import pandas as pd

from pipelines.rendering.numbers import NUMBER, numeric


def markdown(shown: pd.DataFrame, strong: Collection[tuple[int, str]] = ()) -> str:
    """A Markdown table of text columns; numbers are aligned to the right.

    Args:
        strong: cells (number of the row, column) in bold.
    """
    escaped = shown.map(_escape_markdown)
    for row, column in strong:
        escaped.iloc[row, escaped.columns.get_loc(column)] = f"**{escaped[column].iloc[row]}**"
    escaped = escaped.rename(columns=_escape_markdown)
    align = ["right" if number else "left" for number in numeric(shown)]
    text = escaped.to_markdown(index=False, disable_numparse=True, colalign=align)
    return f"{text}\n"


def latex(shown: pd.DataFrame, strong: Collection[tuple[int, str]] = ()) -> str:
    """The same as a LaTeX tabular; needs the package booktabs."""
    numbers = numeric(shown)
    cells = shown.map(_latex)
    for row, column in strong:
        place = row, cells.columns.get_loc(column)
        cells.iloc[place] = rf"{{\boldmath\textbf{{{cells.iloc[place]}}}}}"
    styler = cells.style.hide(axis="index").format_index(_latex_text, axis="columns")
    return "% \\usepackage{booktabs}\n" + styler.to_latex(
        hrules=True, column_format="".join("r" if number else "l" for number in numbers)
    )


def _escape_markdown(text: str) -> str:
    return text.replace("|", r"\|")


def _latex(text: str) -> str:
    """A cell: numbers in maths, all else as it reads."""
    found = NUMBER.fullmatch(text)
    if not found or text[0] not in "<+-[0123456789":
        return _latex_text(text)
    return f"${found['number'].replace('±', chr(92) + 'pm')}$" + _latex_text(found["note"] or "")


_LATEX = str.maketrans(
    {
        **{character: f"\\{character}" for character in "&%$#_{}"},
        "\\": r"\textbackslash{}",
        "~": r"\textasciitilde{}",
        "^": r"\textasciicircum{}",
        "<": r"\textless{}",
        ">": r"\textgreater{}",
        "–": "--",
        "−": r"\textminus{}",
        "±": r"\textpm{}",
        "×": r"\texttimes{}",
        "≤": r"$\leq$",
        "≥": r"$\geq$",
    }
)


def _latex_text(text: str) -> str:
    return text.translate(_LATEX)
