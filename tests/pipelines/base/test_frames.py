"""Tables as CSV come back as they were, and no cell of them is a formula."""

from __future__ import annotations

import csv

import pandas as pd
import pytest

from pipelines.base.frames import read_csv, write_csv

HOSTILE = ["=1+1", "+cmd", "-cmd", "@sum", "'=1", "''-a", "\t=1", '=HYPERLINK("x")']
HARMLESS = ["a=1", "-1", "+2.5", "9", "null", "'quoted'", "'", "", "-inf", "1e5"]


@pytest.mark.parametrize("names", [HOSTILE, HARMLESS])
def test_text_comes_back_and_only_formulas_have_an_apostrophe(tmp_path, names):
    values = [-0.5 * number for number in range(len(names))]
    table = pd.DataFrame({"class": names, "@mean": values, "seed": range(len(names))})
    write_csv(table, tmp_path / "table.csv")
    with (tmp_path / "table.csv").open(newline="") as file:
        head, *rows = csv.reader(file)
    assert head == ["class", "'@mean", "seed"]
    assert [row[0] for row in rows] == [f"'{name}" if names is HOSTILE else name for name in names]
    assert [row[1] for row in rows] == [f"{value:.10g}" for value in values]  # As numbers are.
    pd.testing.assert_frame_equal(read_csv(tmp_path / "table.csv"), table)
