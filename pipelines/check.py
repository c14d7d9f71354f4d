"""Check a whole study before any work is done: files, keys, numbers, names, models and plug-ins.

Each model with each method is built and takes a step on noise (`pipelines.train.trial`), without
data and without published weights; what was found good is not tried again until it changes. Refuses
claims that no result could reproduce, and prints how likely the others are to be decided. All that
is wrong is told at once. Snakemake calls this before its first job.
"""

from __future__ import annotations

import sys
from collections.abc import Iterator
from importlib.metadata import version
from pathlib import Path
from typing import Any

from tqdm import tqdm

from pipelines.base.artifacts import sha256_file, sha256_json
from pipelines.base.errors import Faults, PipelineError
from pipelines.base.frames import read_csv
from pipelines.base.receipts import read_receipt
from pipelines.compare.claims import smallest_adjusted_p
from pipelines.compare.inference import ALPHA
from pipelines.compare.power import WANTED, detectable_difference, pairs_needed, power
from pipelines.drivers import imports
from pipelines.drivers.code import code_hash
from pipelines.running.cli import guarded, stage_parser
from pipelines.study import Claimed, Dataset, Run, Study, params_file
from pipelines.study.own_code import own_modules
from pipelines.study.places import CHECKED


def check(study: Study) -> None:
    """Check the study's claims, names, variants and models.

    Raises:
        PipelineError: naming file and key of all that is wrong, a line each.
    """
    faults = Faults()
    for part in (check_claims, check_names, check_own_code, check_models):
        with faults.noted():
            part(study)
    for variant in study.file.variants if study.variant is None else ():
        with faults.noted():
            Study.load(f"{study.path}@{variant}")
    faults.raise_all()


def check_names(study: Study) -> None:
    """Refuse names that no figure can show: matplotlib takes what is between dollars for a formula.

    Raises:
        PipelineError: naming each of them.
    """
    from matplotlib.cbook import is_math_text
    from matplotlib.mathtext import MathTextParser

    parser, faults = MathTextParser("path"), Faults()
    for where, text in _names(study):
        try:
            if is_math_text(text):
                parser.parse(text)
        except ValueError as error:
            faults.add(
                f"{where}: {text!r} is no formula that matplotlib can draw "
                f"({str(error).splitlines()[-1]}); expected one, or \\$ for a dollar"
            )
    faults.raise_all()


def _names(study: Study) -> Iterator[tuple[str, str]]:
    """All that figures show, each with its file and key."""
    for name, method in study.file.methods.items():
        yield f"{study.path}: methods.{name}.label", method.label
    for dataset in study.datasets.values():
        yield f"{dataset.card_file}: title", dataset.card.title
        for index, name in enumerate(dataset.card.classes):
            yield f"{dataset.card_file}: classes.{index}", name
    for model, entry in study.models.items():
        yield f"{params_file('models', model)}: title", entry.title


def check_own_code(study: Study) -> None:
    """Refuse a model of the user's whose files are not all named: they go with the trained model.

    Raises:
        PipelineError: naming each file that is missing.
    """
    cwd, faults = Path.cwd(), Faults()
    for model, entry in study.models.items():
        listed = own_modules(entry)
        needed = imports.closure(listed, [cwd], skip=("pipelines", "sar"))
        named = [path.relative_to(cwd) for path in needed if path.read_bytes().strip()]
        missing = [path.as_posix() for path in named if path not in listed.values()]
        if missing:
            faults.add(
                f"{params_file('models', model)}: custom_imports: its files import "
                f"{', '.join(missing)}; expected these in the list too, since the trained model "
                "is used where they are not"
            )
    faults.raise_all()


def check_models(study: Study) -> None:
    """Build every model of the study with and without its plug-ins, and let each take a step.

    Raises:
        PipelineError: naming each that cannot.
    """
    from pipelines.train.trial import Trials
    from sar.packaged import register_mmseg

    register_mmseg()
    trials, faults, wrong = Trials(), Faults(), set()
    distinct = {(run.dataset.name, run.model, run.method): run for run in study.runs}
    # The bare models first: what is wrong with one need not be told of each method on it.
    ordered = sorted(distinct.values(), key=lambda run: run.spec.plugin is not None)
    for run in tqdm(ordered, desc="models", unit="model", disable=None):
        if (run.dataset.name, run.model) in wrong:
            continue
        try:
            _check_model(run, trials)
        except PipelineError as error:
            faults.add(str(error))
            if run.spec.plugin is None:
                wrong.add((run.dataset.name, run.model))
    faults.raise_all()


def _check_model(run: Run, trials: Any) -> None:
    from pipelines.configs.model import trained_model
    from pipelines.train import trial

    config = trained_model(run, _training_set(run.dataset))
    where = f"{params_file('models', run.model)}: model"
    if run.spec.plugin is not None:
        where = f"{run.study.path}: methods.{run.method} with {params_file('models', run.model)}"
    faults = Faults()
    for key, weights in _class_weights(config):
        expected = len(run.dataset.card.classes)
        if isinstance(weights, str) or len(weights) != expected:
            count = "the name of a file" if isinstance(weights, str) else f"{len(weights)} weights"
            faults.add(
                f"{where}.{key}: {count}, expected a list of {expected}, one for each of classes "
                f"in {run.dataset.card_file}"
            )
    faults.raise_all()
    card, training = run.dataset.card, run.training
    facts: list[Any] = [
        *(repr(config), len(card.classes), card.ignore_index, training.augmentation.crop_size),
        *(trial.images_of(run), run.entry.accumulate, run.entry.precision),
        *(code_hash("train", run), sha256_file(Path(trial.__file__))),
        *(
            version(name)
            for name in ("torch", "onedl-mmsegmentation", "onedl-mmcv", "onedl-mmengine")
        ),
    ]
    found_good = CHECKED / sha256_json(facts)
    if found_good.exists():
        return
    try:
        trials.step(run, config)
    except trial.NotTrainable as error:
        raise PipelineError(f"{where}: on {run.dataset.name}, {error}") from error
    CHECKED.mkdir(parents=True, exist_ok=True)
    found_good.touch()


def _class_weights(node: Any, key: str = "") -> Iterator[tuple[str, Any]]:
    """The weights of classes in a model's config, with their keys."""
    pairs: Any = ()
    if isinstance(node, dict):
        pairs = node.items()
    elif isinstance(node, list | tuple):
        pairs = enumerate(node)
    for name, value in pairs:
        place = f"{key}.{name}".removeprefix(".")
        if name == "class_weight" and value is not None:
            yield place, value
        else:
            yield from _class_weights(value, place)


def _training_set(dataset: Dataset) -> dict[str, Any] | None:
    """What a plug-in is given that asks for the training set's counts, before there are any."""
    prepared = dataset.receipt.is_file() and dataset.info.is_file()
    if prepared and read_receipt(dataset.receipt).parameters == dataset.parameters_hash("prepare"):
        return None
    count = len(dataset.card.classes)
    return {
        "pixel_share": [1 / count] * count,
        "image_count": [1] * count,
        "num_images": count,
        "num_pixels": 10**6,
    }


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
        print(
            f"{study.reference}: {len(study.runs)} runs, all of them can be built and take a step"
        )

    return guarded(command)


if __name__ == "__main__":
    sys.exit(main())
