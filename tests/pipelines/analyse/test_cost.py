import math

import numpy as np
import pandas as pd
import pytest

from pipelines.analyse.cost import ratios


def table(**values):
    rows = [
        ("x", "m", method, seed, device, "wall_ms", value)
        for method, given in values.items()
        for seed, (value, device) in enumerate(given)
    ]
    names = ["dataset", "model", "method", "seed", "device", "metric", "value"]
    return pd.DataFrame(rows, columns=names)


def test_the_ratio_is_the_geometric_mean_over_pairs():
    base = [(10.0, "cpu"), (20.0, "cpu"), (40.0, "cpu")]
    sar = [(10.0, "cpu"), (40.0, "cpu"), (160.0, "cpu")]
    (row,) = ratios(table(base=base, sar=sar), "base").itertuples()
    assert row.pairs == 3
    assert row.ratio == pytest.approx(2)
    assert row.low < 2 < row.high


def test_equal_costs_have_a_ratio_of_one():
    base = [(10.0, "cpu"), (20.0, "cpu")]
    (row,) = ratios(table(base=base, sar=base), "base").itertuples()
    assert (row.ratio, row.low, row.high) == (1, 1, 1)


def test_another_device_is_no_pair():
    found = ratios(
        table(base=[(10.0, "cpu"), (10.0, "cpu")], sar=[(1.0, "gpu"), (9.0, "cpu")]), "base"
    )
    (row,) = found.itertuples()
    assert row.pairs == 1
    assert row.ratio == pytest.approx(0.9)
    assert math.isnan(row.low) and np.isnan(row.high)
