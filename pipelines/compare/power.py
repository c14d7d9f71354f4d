"""How likely a claim is to be reproduced, before its runs, from the spread of the differences.

By the noncentral t distribution, in place of the sign-flip test whose power has no formula, at the
level that this test can reach: its p come in steps of 2 / 2^n. How far the two are apart is in
`benchmarks/coverage.py`. The level is that of Holm's first step: the worst case, in which no other
claim of the study is decided.
"""

from __future__ import annotations

import math

from scipy import optimize, stats

from pipelines.compare.inference import ALPHA, smallest_p

WANTED = 0.8
"""The power that pairs are planned for."""

_MOST_PAIRS = 1000


def power(
    difference: float, sd: float, n: int, *, direction: str, margin: float, tests: int
) -> float:
    """Probability that a claim is reproduced.

    Args:
        difference: the true one, in points.
        sd: standard deviation of the paired difference, in points, above 0.
        n: pairs.
        direction, margin: of the claim.
        tests: how many the study makes.

    Returns:
        0 where so few pairs cannot reproduce anything. Within a margin it is a lower bound, close
        where it is high: of both tests together at least the sum of their powers less 1.
    """
    steps = math.floor(ALPHA / tests / smallest_p(n))
    if not steps:
        return 0.0
    freedom, scale = n - 1, math.sqrt(n) / sd
    limit = stats.t.isf(steps * smallest_p(n) / 2, freedom)

    def beyond(distance: float) -> float:
        return float(stats.nct.sf(limit, freedom, distance * scale))

    if direction == "within":
        return max(0.0, beyond(margin + difference) + beyond(margin - difference) - 1)
    return beyond((difference if direction == "higher" else -difference) - margin)


def detectable_difference(sd: float, n: int, *, direction: str, margin: float, tests: int) -> float:
    """The true difference at which a claim "higher" or "lower" has the power `WANTED`.

    Returns:
        In points, signed; NaN where so few pairs cannot reproduce anything.
    """
    if tests * smallest_p(n) > ALPHA:
        return math.nan
    sign = 1 if direction == "higher" else -1

    def lacking(beyond: float) -> float:
        found = power(
            sign * (margin + beyond), sd, n, direction=direction, margin=margin, tests=tests
        )
        return found - WANTED

    return sign * (margin + optimize.brentq(lacking, 0, 20 * sd / math.sqrt(n)))


def pairs_needed(
    difference: float, sd: float, *, direction: str, margin: float, tests: int
) -> int | None:
    """The least number of pairs with the power `WANTED`; None above a thousand."""
    for n in range(2, _MOST_PAIRS + 1):
        if power(difference, sd, n, direction=direction, margin=margin, tests=tests) >= WANTED:
            return n
    return None
