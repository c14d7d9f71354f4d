"""Which runs of a study are finished."""

from __future__ import annotations

from pipelines.base.artifacts import read_json
from pipelines.base.errors import PipelineError
from pipelines.study import Run, Study


def finished(run: Run) -> bool:
    """Whether `run` is trained and evaluated with the parameters that it has now."""
    for stage in ("train", "evaluate"):
        receipt = run.output(stage, "receipt.json")
        if not receipt.is_file():
            return False
        if read_json(receipt)["parameters"] != run.parameters_hash(stage):
            return False
    return True


def all_finished(study: Study) -> list[Run]:
    """All runs of the study.

    Raises:
        PipelineError: naming every run that is not finished, and how to finish them.
    """
    missing = [run.name for run in study.runs if not finished(run)]
    if not missing:
        return study.runs
    by_hand = " && ".join(
        f"python -m pipelines.{stage} --study {study.argument} --run {missing[0]}"
        for stage in ("train", "evaluate")
    )
    raise PipelineError(
        f"study {study.name!r}: {len(missing)} of {len(study.runs)} runs are missing, or were made "
        "with other parameters:\n  " + "\n  ".join(missing) + "\n"
        f"make them all:     snakemake --cores all --config study={study.argument}\n"
        f"or one by one:     {by_hand}\n"
        f"or do without now: python -m pipelines.report --study {study.argument} --partial"
    )
