"""Bring finished runs back into `results/`, from a publication or from archives of `pack`.

A run is accepted when its training and evaluation were made with the parameters that the study has
now, of the data that lies here. The code may have changed since: the run keeps the commit that made
it, and what differs is told. Weights and predictions are not kept of a run, so it cannot be
evaluated again, and no driver makes it anew: Snakemake takes it as it is, and DVC after `--dvc`.

    python -m pipelines.restore --study default             # what reports/default holds
    python -m pipelines.restore --study default part*.zip   # what another machine computed
    snakemake --cores all                                   # trains only what is missing

With DVC, which has to know the data first:

    dvc repro params/datasets/dvc.yaml
    python -m pipelines.restore --study default --dvc
    dvc repro --allow-missing
"""

from __future__ import annotations

import contextlib
import shutil
import sys
import tempfile
import threading
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from pipelines.base.artifacts import sha256_file, staged
from pipelines.base.durable import copy_tree
from pipelines.base.errors import PipelineError
from pipelines.base.receipts import read_receipt
from pipelines.drivers.code import changed_since
from pipelines.drivers.dvc_yaml import run_stage_names, study_file
from pipelines.fetch.unpack import unpack
from pipelines.publish import manifest
from pipelines.running.cli import guarded, stage_parser
from pipelines.running.finished import finished, without_weights
from pipelines.study import (
    REPORTS,
    RUN_STAGES,
    STUDY_STAGES,
    WORK,
    Run,
    Study,
    made,
    published_names,
)

_UNPACKED = 200 * 2**20
"""Bytes that an archive may hold, unpacked: many times what `pack` puts into one."""


@dataclass
class Restored:
    """What became of the runs that were looked at."""

    runs: list[Run] = field(default_factory=list)
    """Those that are here now, also those that were here before and are the same."""
    refused: dict[str, str] = field(default_factory=dict)
    """Why a run of the study was not taken, by its name."""


def restore(study: Study, source: Path) -> Restored:
    """Copy what a publication, or an unpacked archive, holds of the present runs of `study`.

    Raises:
        PipelineError: when `results/` has other results of one of these runs; nothing is copied.
    """
    found = Restored()
    folders = []
    for run in study.runs:
        places = [(source / "runs" / run.name / stage, run.folder(stage)) for stage in RUN_STAGES]
        if all((old / "receipt.json").is_file() for old, _ in places):
            if reason := _refusal(run, source):
                found.refused[run.name] = reason
            else:
                found.runs.append(run)
                folders += places
    for stage in STUDY_STAGES:
        receipt = source / stage / "receipt.json"
        if receipt.is_file() and read_receipt(receipt).parameters == study.parameters_hash(stage):
            folders.append((source / stage, study.folder(stage)))
    for old, new in folders:
        there = new / "receipt.json"
        if there.is_file() and sha256_file(there) != sha256_file(old / "receipt.json"):
            raise PipelineError(
                f"{there}: other results than those in {old}; move {study.name}'s results away "
                f"first: mv {study.results} {study.results}.mine"
            )
    for old, new in folders:
        # What is there already is the same, and may be more than was published.
        if not (new / "receipt.json").is_file():
            with staged(new) as scratch:
                copy_tree(old, scratch)
    shown, gallery = source / "gallery.npz", study.output("report", "gallery.npz")
    if shown.is_file() and not gallery.exists():
        # The next report takes its images from there.
        gallery.parent.mkdir(parents=True, exist_ok=True)
        shutil.copyfile(shown, gallery)
    return found


def _refusal(run: Run, source: Path) -> str:
    """Why what `source` holds of `run` is not the run that the study asks for; empty if it is."""
    for stage in RUN_STAGES:
        receipt = read_receipt(source / "runs" / run.name / stage / "receipt.json")
        if receipt.parameters != run.parameters_hash(stage):
            return f"{stage} was made with other parameters"
        for name, digest in receipt.inputs.items():
            path = Path(name)
            if path.parts[0] == "data" and path.is_file() and sha256_file(path) != digest:
                return f"{stage} read another {name}"
    return ""


def missing_outputs(study: Study) -> list[Path]:
    """The declared outputs of the stages before the report that are not here."""
    of_runs = [
        run.output(stage, name)
        for run in study.runs
        for stage, names in RUN_STAGES.items()
        for name in names
    ]
    whole = [
        study.output(stage, name)
        for stage, names in STUDY_STAGES.items()
        if stage != "report"
        for name in names
    ]
    return [path for path in (*of_runs, *whole) if not path.exists()]


@contextlib.contextmanager
def opened(source: Path) -> Iterator[Path]:
    """The folder of a publication, or what an archive holds, unpacked and checked.

    Raises:
        PipelineError: when there is no such file, or it is no archive of `pack`, unsafe or damaged.
    """
    if source.is_dir():
        yield source
        return
    if not source.is_file():
        raise PipelineError(f"{source}: not found; expected an archive of python -m pipelines.pack")
    WORK.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(prefix="restore.", dir=WORK) as scratch:
        folder = Path(scratch)
        unpack(source, folder, _UNPACKED, "restore", threading.Event())
        wrong = manifest.faults(folder)
        if wrong:
            told = "\n".join(wrong).replace(f"{folder}/", "")
            raise PipelineError(f"{source}: no whole archive of python -m pipelines.pack\n{told}")
        yield folder


def record(study: Study, runs: Sequence[Run]) -> None:
    """Tell DVC that these runs are what its stages ask for, though their weights are not here.

    Raises:
        PipelineError: when the data is not here, which DVC compares them with.
    """
    from dvc.repo import Repo

    for run in runs:
        for receipt in run.input_receipts("train"):
            if not receipt.is_file():
                raise PipelineError(
                    f"{receipt}: not found; DVC has to know the data before the runs: "
                    "run dvc repro params/datasets/dvc.yaml first, then this again"
                )
    with Repo() as repo:
        for name in run_stage_names(runs):
            repo.commit(f"{study_file(study)}:{name}", force=True, allow_missing=True)


def code_notes(runs: Sequence[Run]) -> Iterator[str]:
    """One line a commit at which some of these runs were made, saying what differs from it now."""
    by_commit: dict[str, list[Run]] = {}
    for run in runs:
        for stage in RUN_STAGES:
            facts = made.runtime(run, stage)
            commit = facts.get("commit") or ""
            known = by_commit.setdefault(commit + "+" * bool(commit and facts.get("dirty")), [])
            if run not in known:
                known.append(run)
    for commit, there in by_commit.items():
        where = f"{len(there)} of {len(runs)} runs made at {commit[:8]}{'+' * commit.endswith('+')}"
        if not commit:
            yield f"{len(there)} of {len(runs)} runs made outside git: their code is not known"
        elif commit.endswith("+"):
            yield f"{where}, where files differed from it: their code is not known"
        elif (changed := changed_since(commit, there)) is None:
            yield f"{where}, a commit that is not in this clone: their code is not known"
        elif changed:
            yield f"{where}; since then changed: {', '.join(changed)}"
        else:
            yield f"{where}; the code that decides them is the same"


def main(argv: list[str] | None = None) -> int:
    parser = stage_parser("restore", __doc__)
    parser.add_argument(
        "archives",
        nargs="*",
        type=Path,
        metavar="ARCHIVE",
        help="what `python -m pipelines.pack` wrote (default: reports/STUDY)",
    )
    parser.add_argument(
        "--dvc", action="store_true", help="record the runs in dvc.lock, for dvc repro"
    )
    args = parser.parse_args(argv)

    def command() -> None:
        study = Study.load(args.study)
        if not args.archives and study.name not in published_names():
            known = ", ".join(published_names()) or "nothing"
            raise PipelineError(f"{study.published}/study.yaml: not found; {REPORTS} has: {known}")
        for source in args.archives or [study.published]:
            with opened(source) as folder:
                found = restore(study, folder)
            print(f"{source}: {len(found.runs)} runs are in {study.results}")
            for name, reason in found.refused.items():
                print(f"{name}: not taken, {reason}", file=sys.stderr)
        runs = [run for run in study.runs if without_weights(run)]
        for line in code_notes(runs):
            print(line)
        if args.dvc:
            record(study, runs)
            print(f"recorded {len(runs)} runs in {study_file(study).with_suffix('.lock')}")
        done = sum(finished(run) for run in study.runs)
        print(f"{done} of {len(study.runs)} runs are finished")

    return guarded(command)


if __name__ == "__main__":
    sys.exit(main())
