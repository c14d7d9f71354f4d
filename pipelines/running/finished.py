"""Which runs of a study are finished, and what there is to make (again)."""

from __future__ import annotations

import itertools
from collections.abc import Iterable, Iterator, Sequence

from pipelines.base.errors import PipelineError
from pipelines.base.receipts import read_receipt
from pipelines.running.custody import Made
from pipelines.study import DATASET_STAGES, RUN_STAGES, STUDY_STAGES, Run, Study

_READ = {"train": ("curves.csv",), "evaluate": RUN_STAGES["evaluate"]}
"""Of the outputs of a run those that the stages of a study read."""


def fault(run: Run) -> str | None:
    """Why the results of `run` are not those of its present parameters and data; None if they are.

    The bytes are checked of what the stages of a study read, as far as it is there: weights need
    not be, and a restored run keeps no predictions.
    """
    for stage, names in _READ.items():
        made = Made(stage, run)
        for first in made.faults():
            return first
        there = [path for name in names if (path := run.output(stage, name)).is_file()]
        for first in made.byte_faults(there):
            return first
    trained, evaluated = (read_receipt(run.output(stage, "receipt.json")) for stage in _READ)
    data = run.dataset.receipt.as_posix()
    if trained.inputs[data] != evaluated.inputs[data]:
        return (
            f"{run.output('evaluate', 'receipt.json')}: was evaluated on another {data} than it "
            f"was trained on: sha256 {evaluated.inputs[data]} and {trained.inputs[data]}; run "
            f"{Made('evaluate', run).command}"
        )
    return None


def finished(run: Run) -> bool:
    """Whether `run` is trained and evaluated with the parameters and data that it has now."""
    return fault(run) is None


def without_weights(run: Run) -> bool:
    """Whether `run` is finished and no tensor of its training is here: `restore` brought it back.

    No driver makes such a run again; deleting its folder makes it one that is missing. Where
    weights alone were deleted, they are missing.
    """
    tensors = [name for name in RUN_STAGES["train"] if name.endswith(".safetensors")]
    return not any(run.output("train", name).exists() for name in tensors) and finished(run)


def all_finished(study: Study) -> list[Run]:
    """All runs of the study.

    Raises:
        PipelineError: naming every run that is not finished, why, and how to finish them; before
            all, those that were trained on different data, or computed otherwise.
    """
    faults = {run.name: found for run in study.runs if (found := fault(run)) is not None}
    if not faults:
        require_comparable(study.runs)
        return study.runs
    missing = next(iter(faults))
    by_hand = " && ".join(Made(stage, study.run(missing)).command for stage in RUN_STAGES)
    raise PipelineError(
        "\n".join(
            [
                *_different(study.runs),
                f"study {study.name!r}: {len(faults)} of {len(study.runs)} runs are missing, or "
                "are not those of the present parameters and data:",
                *(f"  {name}\n    {why}" for name, why in faults.items()),
                f"make them all:     snakemake --cores all --config study={study.argument}",
                f"or one by one:     {by_hand}",
                f"or do without now: {study.command('report')} --partial",
            ]
        )
    )


def require_comparable(runs: Sequence[Run]) -> None:
    """Refuse to compare runs of one data set that were trained on different data, and runs of one
    model for which the machines chose to compute in different ways.

    Raises:
        PipelineError: naming a run of each.
    """
    different = _different(runs)
    if different:
        raise PipelineError("\n".join(different))


def _different(runs: Iterable[Run]) -> list[str]:
    """What was not the same for all runs that have it in common: a sentence each, with some runs
    of each kind."""
    seen: dict[tuple[str, str], dict[str, list[str]]] = {}
    for run in runs:
        data = run.dataset.receipt.as_posix()
        try:
            receipt = read_receipt(run.output("train", "receipt.json"))
            digest = receipt.inputs[data]
        except (PipelineError, KeyError):
            continue  # That run is not finished, which `fault` says.
        kinds = {("trained on different data", data): f"on {data} with sha256 {digest}"}
        if receipt.chosen:
            chosen = ", ".join(f"{key} {value}" for key, value in sorted(receipt.chosen.items()))
            place = run.dataset.name, run.model
            kinds["computed in different ways", "/".join(place)] = f"with {chosen}"
        for kind, how in kinds.items():
            seen.setdefault(kind, {}).setdefault(how, []).append(run.name)
    return [
        f"runs were {what}, so that they cannot be compared: "
        + "; ".join(
            f"{names[0]}{f' and {len(names) - 1} more' if names[1:] else ''} {how}"
            for how, names in found.items()
        )
        for (what, _), found in seen.items()
        if len(found) > 1
    ]


def to_make(study: Study) -> list[tuple[Made, str]]:
    """What a driver has to make (again), each with the reason: outputs that are missing, or were
    made or changed by hand and are not those of the present parameters.

    Data count only where they are there and of another card: they may be gone when all is made.
    """
    sets = study.datasets.values()
    given = [Made(stage, dataset) for dataset in sets for stage in DATASET_STAGES]
    given += [Made("weights", weights) for weights in study.weights.values()]
    results = [Made(stage, run) for run in study.runs for stage in RUN_STAGES]
    results += [Made(stage, study) for stage in STUDY_STAGES]
    faults = [(made, made.faults()) for made in given if made.receipt.is_file()]
    faults += [(made, _all_faults(made)) for made in results]
    return [(made, first) for made, found in faults for first in itertools.islice(found, 1)]


def _all_faults(made: Made) -> Iterator[str]:
    """As `Made.faults`, and what is missing or changed of its outputs."""
    yield from made.faults()
    yield from (f"{path}: not found" for path in made.declared if not path.exists())
    yield from made.byte_faults()
    yield from made.content_faults()
