"""Copy a study's report to the committed folder `reports/<study>` and its table to README.md.

Stages write to ignored places; publishing is an act. It takes the report as it is, the tables of
compare and analyse, and each run's scores and receipts, and replaces what was published before as a
whole. With `--check` nothing is written: exit status 2 says that README.md and `reports/` disagree.
"""

from __future__ import annotations

import re
import shutil
import sys
import tempfile
from collections.abc import Mapping
from pathlib import Path

from pipelines.artifacts import read_json, sha256_file
from pipelines.cli import guarded, stage_parser
from pipelines.errors import PipelineError
from pipelines.study import PARAMS, REPORTS, STUDY_STAGES, Study

README = Path("README.md")

_RUN_FILES = {
    "train": ("receipt.json", "runtime.json"),
    "evaluate": (
        *("metrics.json", "scores.json", "confusion.csv", "analysis.npz"),
        *("receipt.json", "runtime.json"),
    ),
}
_STUDY_FILES = {stage: (*names, "receipt.json") for stage, names in STUDY_STAGES.items()}

# A marker stands alone on its line, so that a text may speak of markers.
_MARKER = re.compile(r"^<!-- (/?)table:(\S+) -->[ \t]*$", re.MULTILINE)


def publish(study: Study) -> None:
    """Replace `reports/<study>` by the study's present results and fill README.md.

    Raises:
        PipelineError: when the report is missing or older than what it is made of, or README.md
            has a marker that cannot be filled; nothing is changed then.
    """
    readme = _read_readme()
    _check_current(study)
    filled = fill(readme, published_tables() | {study.name: _table(study.folder("report"))})
    REPORTS.mkdir(exist_ok=True)
    scratch = Path(tempfile.mkdtemp(prefix=f".{study.name}.", dir=REPORTS))
    scratch.chmod(0o755)
    try:
        _copy(study, scratch / "new")
        _swap(study.published, scratch / "new", scratch / "old")
    finally:
        shutil.rmtree(scratch, ignore_errors=True)
    README.write_text(filled, encoding="utf-8", newline="\n")


def check() -> None:
    """Compare README.md with the published tables.

    Raises:
        PipelineError: naming the studies whose table in README.md is not the published one, or a
            published file that is not the one its receipt speaks of.
    """
    tables = published_tables()
    readme = _read_readme()
    stale = [name for name in tables if fill(readme, tables, only=name) != readme]
    if stale:
        commands = "; ".join(f"make publish STUDY={name}" for name in stale)
        raise PipelineError(
            f"{README}: the table of {', '.join(stale)} is not the one in {REPORTS}/; mend it "
            f"with: {commands}"
        )
    for receipt in sorted(REPORTS.rglob("receipt.json")):
        for name, digest in read_json(receipt)["outputs"].items():
            path = receipt.parent / name
            if path.is_file() and sha256_file(path) != digest:
                study = receipt.relative_to(REPORTS).parts[0]
                raise PipelineError(
                    f"{path}: was changed after it was made; publish it again with: "
                    f"make publish STUDY={study}"
                )


def fill(text: str, tables: Mapping[str, str], only: str | None = None) -> str:
    """`text` with each study's table between `<!-- table:S -->` and `<!-- /table:S -->`.

    Args:
        tables: Markdown by study; empty for a study that has nothing published.
        only: fill this study's markers and leave the others.

    Raises:
        PipelineError: for a marker without its partner or with a study that `tables` lacks.
    """
    parts, end = [], 0
    markers = list(_MARKER.finditer(text))
    for opening, closing in zip(markers[::2], [*markers[1::2], None], strict=False):
        name = opening[2]
        if opening[1]:
            raise PipelineError(f"{README}: {opening[0].strip()} closes nothing")
        if closing is None or closing.groups() != ("/", name):
            raise PipelineError(
                f"{README}: {opening[0].strip()} is not followed by <!-- /table:{name} -->"
            )
        if name not in tables:
            known = ", ".join(sorted(tables)) or "none"
            raise PipelineError(
                f"{README}: {opening[0].strip()}: unknown study {name!r}; params/studies has: "
                f"{known}"
            )
        if only in (None, name):
            body = f"\n{tables[name].strip()}\n\n" if tables[name] else ""
            parts += [text[end : opening.end()], "\n", body]
            end = closing.start()
    return "".join([*parts, text[end:]])


def published_tables() -> dict[str, str]:
    """The published table of every study in `params/studies`, empty where there is none."""
    names = sorted(path.stem for path in (PARAMS / "studies").glob("*.yaml"))
    return {
        name: _table(REPORTS / name) if (REPORTS / name / "table.md").is_file() else ""
        for name in names
    }


def _table(folder: Path) -> str:
    return (folder / "table.md").read_text(encoding="utf-8")


def _read_readme() -> str:
    if not README.is_file():
        raise PipelineError(f"{README}: not found; run this in the root of the project")
    return README.read_text(encoding="utf-8")


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
        files = {Path(name): digest for name, digest in receipt["inputs"].items()}
        files |= {path.parent / name: digest for name, digest in receipt["outputs"].items()}
        for file, digest in files.items():
            if not file.is_file() or sha256_file(file) != digest:
                raise PipelineError(f"{path}: {file} is not what it was then; {again}")
    for run in study.runs:
        for stage, names in _RUN_FILES.items():
            for name in names:
                if not run.output(stage, name).is_file():
                    raise PipelineError(
                        f"{run.output(stage, name)}: not found; run python -m pipelines.{stage} "
                        f"--study {study.argument} --run {run.name}, then compare and report"
                    )


def _copy(study: Study, target: Path) -> None:
    shutil.copytree(study.folder("report"), target, ignore=_all_but(_STUDY_FILES["report"]))
    for stage in ("compare", "analyse"):
        found = study.folder(stage)
        shutil.copytree(found, target / stage, ignore=_all_but(_STUDY_FILES[stage]))
    for run in study.runs:
        for stage, names in _RUN_FILES.items():
            place = target / "runs" / run.name / stage
            place.mkdir(parents=True)
            for name in names:
                shutil.copyfile(run.output(stage, name), place / name)
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


def _all_but(wanted: tuple[str, ...]):
    return lambda folder, names: [name for name in names if name not in wanted]


def main(argv: list[str] | None = None) -> int:
    parser = stage_parser(__doc__)
    parser.add_argument(
        "--check",
        action="store_true",
        help="write nothing; fail when README.md and reports/ disagree, for any study",
    )
    args = parser.parse_args(argv)

    def command() -> None:
        if args.check:
            check()
            print(f"{README} shows what {REPORTS}/ holds")
        else:
            study = Study.load(args.study)
            publish(study)
            print(f"published {study.name} in {study.published}")

    return guarded(command)


if __name__ == "__main__":
    sys.exit(main())
