"""Copy a study's report to the committed folder `reports/<study>`, and its table to the pages.

Stages write to ignored places; publishing is an act. It takes the report as it is, the tables of
compare and analyse, and each run's scores, curves and receipts, replaces what was published before
as a whole, and lists it all in a manifest. With `--incomplete` a study that lacks runs publishes
those that are finished: nothing is judged, and `restore` brings them back to go on elsewhere.
`python -m pipelines.publish --check` checks what is published.
"""

from __future__ import annotations

import shutil
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path

from pipelines.base import locks
from pipelines.base.artifacts import TIMESTAMP, sha256_file, write_whole
from pipelines.base.durable import copy_tree, sync, sync_tree
from pipelines.base.errors import PipelineError, disk_errors
from pipelines.base.receipts import read_receipt
from pipelines.publish import manifest, readme, verify
from pipelines.publish import runs as kept
from pipelines.report.stage import partial_folder, report_partial
from pipelines.running import custody
from pipelines.running.custody import Made
from pipelines.running.finished import all_finished, fault, finished
from pipelines.running.ownership import check_owner
from pipelines.study import STUDY_STAGES, Dataset, Run, Study


def publish(study: Study) -> None:
    """Replace `reports/<study>` by the study's present results and fill the pages.

    Raises:
        PipelineError: when a run is missing, the report is missing or older than what it is made
            of, a file of the results is not as its receipt says, or a page has a marker that cannot
            be filled; nothing is changed then.
    """
    missing = [why for run in study.runs if (why := fault(run)) is not None]
    if missing:
        raise PipelineError(
            f"study {study.name!r}: {len(missing)} of {len(study.runs)} runs are missing, or are "
            f"not as they were made; the first: {missing[0]}; or publish what is finished: "
            f"make publish STUDY={study.argument} INCOMPLETE=1"
        )
    with _publishing(study):
        pages = readme.read()
        _check_current(study)
        _publish(study, study.runs, study.folder("report"), pages)


def publish_incomplete(study: Study) -> list[Run]:
    """Publish the runs that are finished, with a report that judges nothing.

    So that they are not lost: `restore` brings them back where the study goes on. Returns the runs
    that are missing.

    Raises:
        PipelineError: when no run is finished, none is missing, or runs that are published now are
            not here, or are others here; nothing is changed then.
    """
    runs = [run for run in study.runs if finished(run)]
    if len(runs) == len(study.runs):
        raise PipelineError(
            f"study {study.name!r}: no run is missing; run make publish STUDY={study.argument}"
        )
    with _publishing(study):
        pages = readme.read()
        _check_kept(study, runs)
        missing = report_partial(study)
        _publish(study, runs, partial_folder(study), pages)
    return missing


@contextmanager
def _publishing(study: Study) -> Iterator[None]:
    """Alone, without what a killed process left; a full disk names the place."""
    with locks.held(verify.LOCK), disk_errors(study.published):
        _clear(study.published)
        yield


def _check_kept(study: Study, runs: Sequence[Run]) -> None:
    """Refuse to replace a publication by one that lacks runs of it."""
    known = {run.name: run for run in runs}
    for published in sorted((study.published / "runs").rglob("evaluate/receipt.json")):
        name = published.parent.parent.relative_to(study.published / "runs").as_posix()
        here = known[name].output("evaluate", "receipt.json") if name in known else None
        if here is None or sha256_file(here) != sha256_file(published):
            raise PipelineError(
                f"{published}: published, and {'not here' if here is None else 'another here'}; "
                f"bring it back first: {study.command('restore')}; or, "
                f"where it is of no use any more: git rm -r {study.published}"
            )


def _publish(study: Study, runs: Sequence[Run], report: Path, pages: Mapping[Path, str]) -> None:
    """Publish these runs and the report on them, which is whole where it has a receipt."""
    tables = readme.published_tables() | {study.name: readme.table_of(report)}
    filled = {page: readme.fill(text, tables, page=page) for page, text in pages.items()}
    scratch = study.published.with_name(f".{study.name}.new")
    scratch.mkdir(parents=True)
    try:
        new = scratch / study.name
        _copy(study, runs, report, new)
        manifest.write(new)
        if wrong := verify.faults(study.name, reports=scratch):
            told = "\n".join(wrong).replace(str(new), str(study.published))
            raise PipelineError(
                "nothing is published, since --check would say what follows; where runs were made "
                f"again since, run {Made('report', study).command}\n{told}"
            )
        _swap(study.published, new, scratch / "old")
    finally:
        shutil.rmtree(scratch, ignore_errors=True)
    for page, text in filled.items():
        if text != pages[page]:
            write_whole(page, text)


def seal(name: str) -> None:
    """Give a study that was published without a manifest what `publish --check` asks for.

    Adds what prepare says of its data, which has to lie here as it was then, and the manifest.

    Raises:
        PipelineError: when the data is another, or a table does not follow from the runs; then
            there is no manifest.
    """
    study = Study.load_published(name)
    known = read_receipt(study.results / "receipt.json").inputs
    for dataset in Study.load_published(name).datasets.values():
        prepared = Dataset.load(dataset.name)
        digest = known.get(prepared.info.as_posix())
        if not prepared.info.is_file() or sha256_file(prepared.info) != digest:
            raise PipelineError(
                f"{prepared.info}: expected sha256 {digest}, as {study.results}/receipt.json says; "
                f"{dataset.again('prepare')}"
            )
        dataset.prepared.mkdir(parents=True, exist_ok=True)
        shutil.copyfile(prepared.info, dataset.info)
    wrong = verify.faults(name, sealed=False)
    if wrong:
        raise PipelineError("\n".join(wrong))
    manifest.write(study.results)


def _check_current(study: Study) -> None:
    """Refuse results that are not those of the study as it is now, or were changed since."""
    check_owner(study)
    for dataset in study.datasets.values():
        custody.require(Made("prepare", dataset), [dataset.info])
    for run in study.runs:
        for stage, names in kept.RUN_FILES.items():
            made = Made(stage, run)
            for path in (run.output(stage, name) for name in names):
                if not path.is_file():
                    raise PipelineError(
                        f"{path}: not found; run {made.command}, then compare and report"
                    )
            custody.require(made)
    all_finished(study)
    for stage in STUDY_STAGES:
        custody.require(Made(stage, study), content=True)


def _copy(study: Study, runs: Sequence[Run], report: Path, target: Path) -> None:
    places, receipts = {"report": (report, target)}, []
    if (report / "receipt.json").is_file():
        receipts = ["receipt.json"]
        places |= {stage: (study.folder(stage), target / stage) for stage in ("compare", "analyse")}
    for stage, (folder, place) in places.items():
        place.mkdir(parents=True, exist_ok=True)
        for name in (*STUDY_STAGES[stage], *receipts):
            if name.endswith("/"):
                copy_tree(folder / name, place / name, skip=[TIMESTAMP])
            else:
                shutil.copyfile(folder / name, place / name)
    kept.copy(study, runs, target)


def _clear(folder: Path) -> None:
    """Remove the scratch that a killed process left, with `folder` back in its place."""
    for left in folder.parent.glob(f".{folder.name}.*"):
        if (left / "old").is_dir() and not folder.exists():
            (left / "old").rename(folder)
        shutil.rmtree(left)


def _swap(folder: Path, new: Path, old: Path) -> None:
    """Put `new` in the place of `folder`, which is back in its place if that fails."""
    sync_tree(new.parent)
    if folder.exists():
        folder.rename(old)
    try:
        new.rename(folder)
    except OSError:
        if old.exists():
            old.rename(folder)
        raise
    sync(folder.parent)
