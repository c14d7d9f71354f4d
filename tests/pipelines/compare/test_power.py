"""Power against simulation, and what planning by it promises."""

from __future__ import annotations

import math

import numpy as np
import pytest

from pipelines.compare.claims import claim_p
from pipelines.compare.power import WANTED, detectable_difference, pairs_needed, power

HIGHER = {"direction": "higher", "margin": 0.5, "tests": 2}
WITHIN = {"direction": "within", "margin": 1.0, "tests": 1}


@pytest.mark.parametrize(
    ("difference", "sd", "n", "about"),
    [(2.0, 1.0, 8, HIGHER), (1.2, 1.0, 16, HIGHER), (0.0, 0.8, 12, WITHIN)],
)
def test_power_is_nearly_that_of_the_exact_test(difference, sd, n, about):
    random = np.random.default_rng(0)
    found = 0
    for values in random.normal(difference, sd, (400, n)):
        p = about["tests"] * claim_p(values, about["direction"], about["margin"])
        side = abs(values.mean()) < about["margin"]
        found += p <= 0.05 and side == (about["direction"] == "within")
    # Two standard deviations of that share are at most 0.05.
    assert found / 400 == pytest.approx(power(difference, sd, n, **about), abs=0.07)


def test_directions_mirror_each_other():
    lower = HIGHER | {"direction": "lower"}
    assert power(-2.0, 1.0, 8, **lower) == power(2.0, 1.0, 8, **HIGHER)
    least = detectable_difference(1.0, 8, **HIGHER)
    assert detectable_difference(1.0, 8, **lower) == -least
    assert power(least, 1.0, 8, **HIGHER) == pytest.approx(WANTED)
    assert power(-0.3, 1.0, 12, **WITHIN) == pytest.approx(power(0.3, 1.0, 12, **WITHIN))


def test_pairs_are_the_least_that_suffice():
    n = pairs_needed(1.5, 1.0, **HIGHER)
    assert power(1.5, 1.0, n, **HIGHER) >= WANTED > power(1.5, 1.0, n - 1, **HIGHER)
    # As many as the exact test needs for any verdict at all, however large the effect.
    assert pairs_needed(90.0, 0.1, **HIGHER) == 7
    assert pairs_needed(0.5, 1.0, **HIGHER) is None


def test_too_few_pairs_have_no_power():
    assert power(90.0, 0.1, 6, **HIGHER) == 0
    assert math.isnan(detectable_difference(0.1, 6, **HIGHER))
