"""Copy a study's report to the committed folder `reports/<study>`, and its table to the pages.

Stages write to ignored places; publishing is an act. It takes the report as it is, the tables of
compare and analyse, and each run's scores, curves and receipts, replaces what was published before
as a whole, and lists it all in a manifest. `python -m pipelines.publish --check` checks what is
published.
"""

from __future__ import annotations

import shutil
import tempfile
from pathlib import Path

from pipelines.base.artifacts import TIMESTAMP, read_json, sha256_file, sha256_folder
from pipelines.base.errors import PipelineError
from pipelines.publish import manifest, readme, verify
from pipelines.study import REPORTS, STUDY_STAGES, Dataset, Study

_RUN_FILES = {
    "train": ("receipt.json", "runtime.json"),
    "evaluate": (
        *("metrics.json", "scores.json", "confusion.csv", "analysis.npz"),
        *("receipt.json", "runtime.json"),
    ),
}


_WHERE_KEPT = {"train": ("curves.csv",), "evaluate": ()}
"""What a run has too unless it was restored from an early publication, which did without."""


_STUDY_FILES = {stage: (*names, "receipt.json") for stage, names in STUDY_STAGES.items()}


def publish(study: Study) -> None:
    """Replace `reports/<study>` by the study's present results and fill the pages.

    Raises:
        PipelineError: when the report is missing or older than what it is made of, or a page
            has a marker that cannot be filled; nothing is changed then.
    """
    pages = readme.read()
    _check_current(study)
    tables = readme.published_tables() | {study.name: readme.table_of(study.folder("report"))}
    filled = {page: readme.fill(text, tables, page=page) for page, text in pages.items()}
    REPORTS.mkdir(exist_ok=True)
    scratch = Path(tempfile.mkdtemp(prefix=f".{study.name}.", dir=REPORTS))
    scratch.chmod(0o755)
    try:
        _copy(study, scratch / "new")
        manifest.write(scratch / "new")
        _swap(study.published, scratch / "new", scratch / "old")
    finally:
        shutil.rmtree(scratch, ignore_errors=True)
    for page, text in filled.items():
        if text != pages[page]:
            page.write_text(text, encoding="utf-8", newline="\n")


def seal(name: str) -> None:
    """Give a study that was published without a manifest what `publish --check` asks for.

    Adds what prepare says of its data, which has to lie here as it was then, and the manifest.

    Raises:
        PipelineError: when the data is another, or a table does not follow from the runs; then
            there is no manifest.
    """
    study = Study.load_published(name)
    known = read_json(study.results / "receipt.json")["inputs"]
    for dataset in Study.load_published(name).datasets.values():
        prepared = Dataset.load(dataset.name)
        digest = known.get(prepared.info.as_posix())
        if not prepared.info.is_file() or sha256_file(prepared.info) != digest:
            raise PipelineError(
                f"{prepared.info}: expected sha256 {digest}, as {study.results}/receipt.json says; "
                f"run python -m pipelines.prepare --dataset {dataset.name}"
            )
        dataset.prepared.mkdir(parents=True, exist_ok=True)
        shutil.copyfile(prepared.info, dataset.info)
    wrong = verify.faults(name, sealed=False)
    if wrong:
        raise PipelineError("\n".join(wrong))
    manifest.write(study.results)


def _check_current(study: Study) -> None:
    """Refuse a report that is not made of the files that lie here now."""
    for stage in STUDY_STAGES:
        path = study.output(stage, "receipt.json")
        again = f"run python -m pipelines.{stage} --study {study.argument}"
        if not path.is_file():
            raise PipelineError(f"{path}: not found; {again}")
        receipt = read_json(path)
        if receipt["parameters"] != study.parameters_hash(stage):
            raise PipelineError(f"{path}: {study.path} has changed since; {again}")
        inputs = {Path(name): digest for name, digest in receipt["inputs"].items()}
        outputs = {path.parent / name: digest for name, digest in receipt["outputs"].items()}
        for file, digest in (inputs | outputs).items():
            instead = _vouched(file) if file in inputs else None
            found = sha256_file(file) if file.is_file() else instead
            if found != digest:
                raise PipelineError(f"{path}: {file} is not what it was then; {again}")
        for name, digest in receipt.get("digests", {}).items():
            folder = path.parent / name
            if not folder.is_dir() or sha256_folder(folder) != digest:
                raise PipelineError(f"{path}: {folder} is not what it was then; {again}")
    for run in study.runs:
        for stage, names in _RUN_FILES.items():
            for name in names:
                if not run.output(stage, name).is_file():
                    raise PipelineError(
                        f"{run.output(stage, name)}: not found; run python -m pipelines.{stage} "
                        f"--study {study.argument} --run {run.name}, then compare and report"
                    )


def _vouched(file: Path) -> str | None:
    """What a file was that is not here, as after `restore`: its stage's receipt knows."""
    receipt = file.parent / "receipt.json"
    return read_json(receipt)["outputs"].get(file.name) if receipt.is_file() else None


def _copy(study: Study, target: Path) -> None:
    for stage in STUDY_STAGES:
        place = target if stage == "report" else target / stage
        place.mkdir(parents=True, exist_ok=True)
        for name in _STUDY_FILES[stage]:
            if name.endswith("/"):
                ignored = shutil.ignore_patterns(TIMESTAMP)
                shutil.copytree(study.output(stage, name), place / name, ignore=ignored)
            else:
                shutil.copyfile(study.output(stage, name), place / name)
    for run in study.runs:
        for stage, names in _RUN_FILES.items():
            place = target / "runs" / run.name / stage
            place.mkdir(parents=True)
            kept = [name for name in _WHERE_KEPT[stage] if run.output(stage, name).is_file()]
            for name in (*names, *kept):
                shutil.copyfile(run.output(stage, name), place / name)
    for dataset in study.datasets.values():
        place = target / "data" / dataset.name
        place.mkdir(parents=True)
        for path in (dataset.info, dataset.receipt):
            shutil.copyfile(path, place / path.name)
    shutil.copyfile(study.path, target / "study.yaml")


def _swap(folder: Path, new: Path, old: Path) -> None:
    """Put `new` in the place of `folder`, which is back in its place if that fails."""
    if folder.exists():
        folder.rename(old)
    try:
        new.rename(folder)
    except OSError:
        if old.exists():
            old.rename(folder)
        raise
