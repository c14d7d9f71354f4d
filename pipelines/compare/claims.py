"""The verdict on each claim of a study, by one rule that was written down before.

`RULE` is that rule; `judge` applies it, and nothing else decides. Holm's correction goes over all
tests of the study, also those that are not run: they count as p = 1, so that a partial report never
says more than the whole one.
"""

from __future__ import annotations

import math

import numpy as np
import pandas as pd

from pipelines.compare.inference import ALPHA, holm, sign_flip_p, smallest_p, t_interval
from pipelines.study import Claimed, Study

REPRODUCED, NOT_REPRODUCED = "reproduced", "not reproduced"
INCONCLUSIVE, NOT_RUN = "inconclusive", "not run"

RULE = {
    NOT_RUN: "a run of the study is missing, or one of the claim has no such score; nothing is "
    "tested.",
    REPRODUCED: "the mean difference is beyond the margin in the claimed direction, and p after "
    f"Holm is at most {ALPHA}. The test is against the margin: of the differences less the margin. "
    "Of a claim within a margin, the mean is nearer to 0 than the margin, and p is the greater one "
    "of the tests against the margin on either side.",
    NOT_REPRODUCED: "the mean difference is on the other side of the margin, and the same p after "
    f"Holm is at most {ALPHA}.",
    INCONCLUSIVE: "all else; also whatever the numbers are, where the pairs are too few for any p "
    "to pass Holm's correction.",
}
"""When each verdict is given."""


def assess(study: Study, scores: pd.DataFrame, missing: int = 0) -> pd.DataFrame:
    """Test and judge the claims of `study`.

    Args:
        scores: one row a finished run and metric: dataset, model, method, seed, metric, value.
        missing: how many runs of the study are not finished; with any, no claim is judged, so that
            nobody stops a study at what it looks like on the way.

    Returns:
        One row a test, in study order: claim, dataset, model, method, against, metric, direction,
        margin, pairs (that the study has), n (of them with both scores), mean_difference (method
        minus against), std_difference, low and high (95 % t interval), p (of `claim_p`), p_holm,
        p_smallest (the least that p_holm can be with so many pairs), verdict and reason. What is
        not run has no numbers after n but p_smallest: a test is made once, on all its pairs.
    """
    rows = [_measured(claimed, scores, whole=not missing) for claimed in study.claims]
    table = pd.DataFrame(rows, columns=_COLUMNS)
    table["p_holm"] = holm(table["p"])
    table["p_smallest"] = smallest_adjusted_p(study)
    lacking = f"{missing} of the study's {len(study.runs)} runs are missing"
    judged = [
        (NOT_RUN, lacking)
        if missing
        else judge(
            pairs=row.pairs,
            n=row.n,
            direction=row.direction,
            margin=row.margin,
            mean=row.mean_difference,
            p_holm=row.p_holm,
            p_smallest=row.p_smallest,
        )
        for row in table.itertuples()
    ]
    table[["verdict", "reason"]] = pd.DataFrame(judged, columns=["verdict", "reason"])
    return table


def smallest_adjusted_p(study: Study) -> np.ndarray:
    """The least p after Holm that each test of `study` can give, known before its runs."""
    return holm([smallest_p(len(claimed.seeds)) for claimed in study.claims])


def claim_p(differences: np.ndarray, direction: str, margin: float) -> float:
    """p of the two-sided sign-flip test of the differences (n,) against a claim's margin.

    Within a margin that is the greater one of two tests, against the margin on either side: both
    have to reject. With the mean on the claimed side these are two one-sided tests (Schuirmann
    1987), each at half of `ALPHA`, so that "equal" takes as much evidence as "better" does.
    """
    if direction == "within":
        return max(sign_flip_p(differences - margin), sign_flip_p(differences + margin))
    return sign_flip_p(differences - (margin if direction == "higher" else -margin))


def judge(
    *,
    pairs: int,
    n: int,
    direction: str,
    margin: float,
    mean: float,
    p_holm: float,
    p_smallest: float,
) -> tuple[str, str]:
    """Verdict and reason by `RULE`.

    Args:
        pairs, n: how many pairs the claim needs, and how many have both scores.
        direction, margin: "higher" or "lower" by more than the margin, or "within" it; in points.
        mean: the difference, method minus the other.
        p_holm, p_smallest: `claim_p` after Holm, and the least that it can be with so many pairs.
    """
    if n < pairs:
        return NOT_RUN, f"{n} of {pairs} pairs have both scores"
    if p_smallest > ALPHA:
        return INCONCLUSIVE, "too few pairs to reject anything"
    if direction == "within":
        holds, where = abs(mean) < margin, ("within the margin", "outside the margin")
    else:
        holds = (mean if direction == "higher" else -mean) > margin
        where = ("beyond the margin", "short of the margin")
    side = where[0] if holds else where[1]
    if p_holm > ALPHA:
        return INCONCLUSIVE, f"the mean is {side}, but not significantly"
    return REPRODUCED if holds else NOT_REPRODUCED, f"significantly {side}"


_COLUMNS = [
    *("claim", "dataset", "model", "method", "against", "metric", "direction", "margin"),
    *("pairs", "n", "mean_difference", "std_difference", "low", "high", "p"),
]


def _measured(claimed: Claimed, scores: pd.DataFrame, *, whole: bool) -> tuple:
    claim = claimed.claim
    differences = _differences(claimed, scores)
    stated = (
        *(claimed.name, claimed.dataset, claimed.model, claim.method, claimed.against),
        *(claim.metric, claim.direction, claim.margin, len(claimed.seeds), len(differences)),
    )
    if not whole or len(differences) < len(claimed.seeds):
        return (*stated, *[math.nan] * 5)
    std = np.std(differences, ddof=1) if len(differences) > 1 else math.nan
    p = claim_p(differences, claim.direction, claim.margin)
    return (*stated, np.mean(differences), std, *t_interval(differences), p)


def _differences(claimed: Claimed, scores: pd.DataFrame) -> np.ndarray:
    """Method minus the other, for the seeds that have both scores."""
    here = (
        (scores["dataset"] == claimed.dataset)
        & (scores["model"] == claimed.model)
        & (scores["metric"] == claimed.claim.metric)
    )
    wide = scores[here].pivot(index="seed", columns="method", values="value")
    wide = wide.reindex(columns=[claimed.claim.method, claimed.against])
    return (wide[claimed.claim.method] - wide[claimed.against]).dropna().to_numpy()


def says_better(claims: pd.DataFrame, dataset: str, model: str, metric: str, best: str) -> bool:
    """Whether a claim is reproduced by which `best` is better in `metric` than another method."""
    held = claims[
        (claims["verdict"] == REPRODUCED)
        & (claims["direction"] != "within")
        & (claims["dataset"] == dataset)
        & (claims["model"] == model)
        & (claims["metric"] == metric)
    ]
    higher = held["method"].where(held["direction"] == "higher", held["against"])
    return bool((higher == best).any())
