"""How often intervals hold the truth, and verdicts are false, at the numbers of pairs of a study.

Draws studies whose truth is known: paired differences of variance 1 from a normal, a skewed and a
heavy-tailed distribution, all with the same seed. Writes a row for each question, distribution and
number of pairs:

- `coverage`: how often the 95 % interval of the mean holds it: Student's t, the inverted sign-flip
  test, and the BCa bootstrap (scipy's).
- `false difference`: how often the sign-flip test and the t test reject where there is none.
- `false claim`: how often a claim by its rule is reproduced (`higher`, `within`), or not reproduced
  (`higher, refuted`), where the truth is just the margin; the rule is then never right.
- `false family`: how often any of four independent claims is reproduced where all are false, and
  how often any class of eleven has q at most 0.05 where none differs.
- `power`: how often a claim is reproduced whose truth is 1.5 standard deviations beyond its margin,
  or at the middle of margins 1.5 wide, and what `pipelines.compare.power` says.

The standard error of a rate r of n studies is sqrt(r (1 - r) / n): 0.005 at 0.05 of 2,000.
"""

from __future__ import annotations

import argparse
import csv
import itertools
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
from scipy import stats

from pipelines.compare.claims import NOT_REPRODUCED, REPRODUCED, claim_p, judge
from pipelines.compare.inference import (
    ALPHA,
    benjamini_hochberg,
    holm,
    sign_flip_p,
    smallest_p,
    t_interval,
    t_p,
)
from pipelines.compare.power import power

TABLE = Path(__file__).with_suffix(".csv")

PAIRS = (4, 6, 8, 12, 16)
DISTRIBUTIONS: dict[str, Callable[[np.random.Generator, tuple[int, ...]], np.ndarray]] = {
    "normal": lambda random, size: random.normal(size=size),
    # Of variance 1 and mean 0: an exponential one, and Student's t with 3 degrees of freedom.
    "skewed": lambda random, size: random.exponential(size=size) - 1,
    "heavy tails": lambda random, size: random.standard_t(3, size=size) / np.sqrt(3),
}

MARGIN = 1.0
EFFECT = 1.5
CLAIMS, CLASSES = 4, 11
_BCA_RESAMPLES = 999
_BATCH = 200  # studies whose resamples are held at once


def inverted_sign_flip(values: np.ndarray) -> tuple[float, float]:
    """The means that `sign_flip_p` does not reject: between order statistics of subset means.

    Of n differences there are 2^n - 1 means of subsets, and the true one is equally likely to lie
    anywhere among them (Hartigan 1969). Without an end where 2 / 2^n is above 0.05.
    """
    n = len(values)
    chosen = (np.arange(1, 2**n)[:, None] >> np.arange(n)) & 1
    means = np.sort(chosen @ values / chosen.sum(axis=1))
    left_out = int(ALPHA / 2 * 2**n)
    if not left_out:
        return -np.inf, np.inf
    return means[left_out - 1], means[-left_out]


def bca(studies: np.ndarray) -> np.ndarray:
    """(studies, 2) ends of scipy's BCa intervals of the means of (studies, n)."""
    found = []
    for part in np.array_split(studies, max(1, len(studies) // _BATCH)):
        interval = stats.bootstrap(
            (part,), np.mean, axis=1, n_resamples=_BCA_RESAMPLES, rng=np.random.default_rng(0)
        ).confidence_interval
        found.append(np.stack([interval.low, interval.high], axis=1))
    return np.concatenate(found)


def verdict(values: np.ndarray, direction: str, tests: int = 1) -> str:
    p = min(1.0, tests * claim_p(values, direction, MARGIN))
    return _judged(values, direction, p, tests)


def _judged(values: np.ndarray, direction: str, p_holm: float, tests: int) -> str:
    n = len(values)
    found, _ = judge(
        pairs=n,
        n=n,
        direction=direction,
        margin=MARGIN,
        mean=values.mean(),
        p_holm=p_holm,
        p_smallest=tests * smallest_p(n),
    )
    return found


def rates(distribution: str, n: int, studies: int) -> Iterator[tuple[str, str, float]]:
    """Each question with its contender and its rate."""
    random = np.random.default_rng(0)
    draw = DISTRIBUTIONS[distribution]
    drawn = draw(random, (studies, n))
    intervals = {
        "t": np.array([t_interval(values) for values in drawn]),
        "inverted sign-flip": np.array([inverted_sign_flip(values) for values in drawn]),
        "BCa bootstrap": bca(drawn),
    }
    for name, ends in intervals.items():
        yield "coverage", name, np.mean((ends[:, 0] <= 0) & (ends[:, 1] >= 0))
    for name, test in {"sign-flip": sign_flip_p, "t": t_p}.items():
        yield "false difference", name, np.mean([test(values) <= ALPHA for values in drawn])
    at_margin = [verdict(values + MARGIN, "higher") for values in drawn]
    yield "false claim", "higher", np.mean([found == REPRODUCED for found in at_margin])
    yield "false claim", "higher, refuted", np.mean([v == NOT_REPRODUCED for v in at_margin])
    yield (
        "false claim",
        "within",
        np.mean([verdict(v + MARGIN, "within") == REPRODUCED for v in drawn]),
    )
    families = draw(random, (studies, CLAIMS, n)) + MARGIN
    yield "false family", f"{CLAIMS} claims, Holm", np.mean([_any_reproduced(f) for f in families])
    families = draw(random, (studies // 4, CLASSES, n))
    explored = [
        bool((benjamini_hochberg([t_p(values) for values in family]) <= ALPHA).any())
        for family in families
    ]
    yield "false family", f"{CLASSES} classes, Benjamini-Hochberg", np.mean(explored)
    beyond = [verdict(values + MARGIN + EFFECT, "higher") == REPRODUCED for values in drawn]
    yield "power", "higher", np.mean(beyond)
    about = {"margin": MARGIN, "tests": 1}
    yield "power", "higher, by formula", power(MARGIN + EFFECT, 1, n, direction="higher", **about)
    inside = [verdict(values * MARGIN / EFFECT, "within") == REPRODUCED for values in drawn]
    yield "power", "within", np.mean(inside)
    formula = power(0, MARGIN / EFFECT, n, direction="within", **about)
    yield "power", "within, by formula", formula


def _any_reproduced(family: np.ndarray) -> bool:
    p_holm = holm([claim_p(values, "higher", MARGIN) for values in family])
    found = [_judged(v, "higher", p, len(family)) for v, p in zip(family, p_holm, strict=True)]
    return REPRODUCED in found


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--studies", type=int, default=2000, help="simulated for each row")
    parser.add_argument("--table", type=Path, default=TABLE)
    args = parser.parse_args()
    with args.table.open("w", encoding="utf-8", newline="") as file:
        writer = csv.writer(file, lineterminator="\n")
        writer.writerow(["question", "of", "distribution", "pairs", "studies", "rate"])
        for distribution, n in itertools.product(DISTRIBUTIONS, PAIRS):
            for question, name, rate in rates(distribution, n, args.studies):
                writer.writerow([question, name, distribution, n, args.studies, f"{rate:.4f}"])
            file.flush()


if __name__ == "__main__":
    main()
