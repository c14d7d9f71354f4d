"""The simulation of coverage: its own interval, and that the page shows the committed figures."""

import re
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from benchmarks import coverage
from pipelines.compare.inference import sign_flip_p

PAGE = Path(coverage.__file__).parents[1] / "docs/claims.md"


@pytest.mark.parametrize("n", [6, 8, 11])
def test_the_inverted_interval_is_what_the_test_does_not_reject(n):
    values = np.random.default_rng(n).normal(size=n)
    low, high = coverage.inverted_sign_flip(values)
    for end, outwards in ((low, -1e-6), (high, 1e-6)):
        assert sign_flip_p(values - end - outwards) <= 0.05 < sign_flip_p(values - end + outwards)


def test_five_pairs_have_no_such_interval():
    assert coverage.inverted_sign_flip(np.arange(5.0)) == (-np.inf, np.inf)


def test_rates_are_shares_and_the_bootstrap_is_too_narrow():
    found = {(question, of): rate for question, of, rate in coverage.rates("normal", 8, 200)}
    assert all(0 <= rate <= 1 for rate in found.values())
    assert found["coverage", "BCa bootstrap"] < found["coverage", "t"]
    assert found["false claim", "higher"] <= 0.06
    assert found["power", "higher"] == pytest.approx(found["power", "higher, by formula"], abs=0.08)


def test_the_page_shows_the_committed_figures():
    table = pd.read_csv(coverage.TABLE)
    assert set(table["pairs"]) == set(coverage.PAIRS)
    rates = table.groupby(["distribution", "question", "of"])["rate"].apply(list)
    shown = {tuple(f"{100 * rate:.1f}" for rate in row) for row in rates}
    rows = re.findall(
        r"^\| .* \| (?:normal|skewed|heavy tails) \| (.*) \|$", PAGE.read_text("utf-8"), re.M
    )
    assert len(rows) == 27
    for row in rows:
        assert tuple(row.split(" | ")) in shown
