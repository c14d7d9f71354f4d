"""Check a whole study before any work is done: files, keys, models, plug-ins and their options.

Refuses claims that no result could reproduce, and prints how likely the others are to be decided.
Snakemake calls this before its first job; it takes seconds, most of them to import mmsegmentation.
"""

from __future__ import annotations

import sys

from pipelines.base.errors import PipelineError
from pipelines.base.frames import read_csv
from pipelines.compare.claims import smallest_adjusted_p
from pipelines.compare.inference import ALPHA
from pipelines.compare.power import WANTED, detectable_difference, pairs_needed, power
from pipelines.running.cli import guarded, stage_parser
from pipelines.study import Claimed, Study


def check(study: Study) -> None:
    """Build every model config of the study, with and without its plug-ins.

    Raises:
        PipelineError: naming the file and key of the first thing that is wrong, or each claim that
            no result could reproduce.
    """
    from mmseg.utils import register_all_modules

    from pipelines.configs.model import trained_model

    check_claims(study)
    register_all_modules()
    for run in {(run.dataset.name, run.model, run.method): run for run in study.runs}.values():
        trained_model(run)


def check_claims(study: Study) -> None:
    """Refuse claims that no result could reproduce with the seeds that they have.

    Raises:
        PipelineError: naming each of them.
    """
    tests = zip(study.claims, smallest_adjusted_p(study), strict=True)
    hopeless = [
        f"{study.path}: claims.{claimed.name}: {len(claimed.seeds)} paired seeds are too few: over "
        f"the study's {len(study.claims)} tests Holm's p is never below {p:.4f}, expected at most "
        f"{ALPHA}; give it more seeds or the study fewer claims"
        for claimed, p in tests
        if p > ALPHA
    ]
    if hopeless:
        raise PipelineError("\n".join(hopeless))


def prospects(study: Study) -> list[str]:
    """For each claim in a sentence what its pairs can find, and how many pairs it takes."""
    return [_prospect(study, claimed) for claimed in study.claims]


def _prospect(study: Study, claimed: Claimed) -> str:
    claim, n = claimed.claim, len(claimed.seeds)
    what = f"claims.{claimed.name} ({claimed.dataset}, {claimed.model}): {n} pairs"
    sd, source = _spread(study, claimed)
    if sd is None:
        return f"{what}; power unknown: no assumed_sd, and nothing was measured yet"
    direction, margin, tests = claim.direction, claim.margin, len(study.claims)
    told = [f"{what}, sd of the difference {sd:.2f} ({source})"]
    if direction != "within":
        least = detectable_difference(sd, n, direction=direction, margin=margin, tests=tests)
        told.append(f"a true difference of {least:+.2f} points has {WANTED:.0%} power")
    difference = claim.assumed_difference
    if difference is None and direction == "within":
        difference = 0.0
    if difference is not None:
        found = power(difference, sd, n, direction=direction, margin=margin, tests=tests)
        pairs = (
            pairs_needed(difference, sd, direction=direction, margin=margin, tests=tests)
            or "more than 1000"
        )
        told.append(
            f"{difference:+.2f} points have {found:.0%}, and {WANTED:.0%} take {pairs} pairs"
        )
    return "; ".join(told)


def _spread(study: Study, claimed: Claimed) -> tuple[float | None, str]:
    """The assumed standard deviation, else the one of the study's last or published comparison."""
    if claimed.claim.assumed_sd is not None:
        return claimed.claim.assumed_sd, "assumed_sd"
    for path in (study.output("compare", "claims.csv"), study.published / "compare/claims.csv"):
        if path.is_file():
            table = read_csv(path)
            found = table.loc[
                (table["claim"] == claimed.name)
                & (table["dataset"] == claimed.dataset)
                & (table["model"] == claimed.model)
                & (table["std_difference"] > 0),
                "std_difference",
            ]
            if len(found):
                return float(found.iloc[0]), f"measured, {path}"
    return None, ""


def main(argv: list[str] | None = None) -> int:
    args = stage_parser("check", __doc__).parse_args(argv)

    def command() -> None:
        study = Study.load(args.study)
        check(study)
        for line in prospects(study):
            print(line)
        print(f"{study.reference}: {len(study.runs)} runs, all of them can be built")

    return guarded(command)


if __name__ == "__main__":
    sys.exit(main())
