"""CSV without pandas: the bytes that pandas writes."""

from __future__ import annotations

import subprocess
import sys

import numpy as np
import pandas as pd
import pytest
from hypothesis import given
from hypothesis import strategies as st

from pipelines.base.rows import write_rows, write_series

numbers = st.one_of(st.integers(-(10**9), 10**9), st.floats())
names = st.sampled_from(["a", "b,c", 'd"', "é"])


@given(st.dictionaries(st.integers(0, 99), st.dictionaries(names, numbers, min_size=1), min_size=1))
def test_series_are_written_as_a_data_frame_is(tmp_path_factory, series):
    path = tmp_path_factory.mktemp("rows") / "table.csv"
    frame = pd.DataFrame.from_dict(series, orient="index").sort_index()
    frame[sorted(frame.columns)].to_csv(path, index_label="at", lineterminator="\n")
    expected = path.read_bytes()
    write_series(path, "at", series)
    assert path.read_bytes() == expected


def test_a_confusion_matrix_is_written_as_a_data_frame_is(tmp_path):
    classes = ["ground", "one, two", "9"]
    confusion = np.arange(9).reshape(3, 3)
    table = pd.DataFrame(confusion, index=classes, columns=classes)
    table.to_csv(tmp_path / "expected", index_label="truth", lineterminator="\n")
    rows = zip(classes, *confusion.T.tolist(), strict=True)
    write_rows(tmp_path / "found", ["truth", *classes], rows)
    assert (tmp_path / "found").read_bytes() == (tmp_path / "expected").read_bytes()


@pytest.mark.parametrize(
    ("module", "spared"),
    [
        ("pipelines.train.__main__", ("torch", "pandas", "mlflow", "pipelines.evaluate")),
        ("pipelines.evaluate.__main__", ("torch", "pandas", "mlflow", "pipelines.train")),
        ("sar.cli", ("torch", "mmseg", "numpy")),
    ],
)
def test_a_command_says_its_usage_without_what_it_works_with(module, spared):
    program = f"""
import sys
from {module} import main
try:
    main(["--help"])
except SystemExit:
    print([name for name in {spared} if name in sys.modules], file=sys.stderr)
"""
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True)
    assert done.stderr.splitlines()[-1] == "[]", done.stderr
