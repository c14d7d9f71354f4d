"""Check that what is published follows from the published runs; for `publish --check`.

For each study in `reports/`, without any of its results: every file is the one that the manifest
lists and that receipts speak of; receipts name the receipts before them; each run's scores follow
from its confusion matrix; the tables of compare and report follow from the runs; each number that a
table shows is a rounding of the one it stands for; README.md and docs/ show the published tables.
"""

from __future__ import annotations

import csv
import itertools
import math
import re
from collections.abc import Iterator, Sequence
from dataclasses import fields
from pathlib import Path
from typing import Any

import pandas as pd

from pipelines.analyse.analyses import Analyses
from pipelines.base import locks
from pipelines.base.artifacts import canonical_json, sha256_file, sha256_folder
from pipelines.base.errors import PipelineError
from pipelines.base.frames import csv_text, read_confusion
from pipelines.base.metric_names import headline
from pipelines.base.metrics import scores
from pipelines.base.reading import read_json, read_text, reading
from pipelines.base.receipts import read_receipt
from pipelines.compare.comparison import Comparison
from pipelines.publish import manifest, readme
from pipelines.rendering import files
from pipelines.rendering.parts import Table
from pipelines.report import contents
from pipelines.report.material import Material
from pipelines.study import REPORTS, WORK, Run, Study, made, published_names

LOCK = WORK / "publish.lock"
"""Held by whoever changes what is published, or checks it: one changes, or many check."""


def verify() -> str:
    """Check every published study and README.md; returns in a sentence what was checked.

    Raises:
        PipelineError: telling every fault with its file and what was expected there.
    """
    with locks.held(LOCK, shared=True):
        names = published_names()
        wrong = [fault for name in names for fault in faults(name)] + readme.faults()
    if wrong:
        raise PipelineError("\n".join(wrong))
    studies = ", ".join(names) or "no study"
    return f"{readme.README} and {REPORTS}/ ({studies}) follow from the published runs"


def faults(name: str, *, sealed: bool = True, reports: Path = REPORTS) -> list[str]:
    """What is wrong with the publication of the study `name`.

    Args:
        sealed: whether there has to be a manifest.
        reports: the folder of what is published, or will be.
    """
    study = Study.load_published(name, reports)
    wrong = manifest.faults(study.results) if sealed else []
    receipts = list(_receipt_faults(study))
    scored = [fault for run in _runs(study) for fault in _run_faults(run)]
    # Tables of wrong numbers, or of none, would only repeat the same faults.
    derived = [] if scored else list(_table_faults(study))
    shown = list(_shown_faults(study.results))
    return [*scored, *derived, *shown, *receipts, *wrong]


def _complete(study: Study) -> bool:
    """Whether all runs of a published study are: only then has its report a receipt."""
    return (study.results / "receipt.json").is_file()


def _runs(study: Study) -> list[Run]:
    """The runs that have to be published."""
    if _complete(study):
        return study.runs
    return [run for run in study.runs if run.folder("evaluate").is_dir()]


def _receipt_faults(study: Study) -> Iterator[str]:
    home, again = study.results, f"publish {study.name} again"
    for path in sorted(home.rglob("receipt.json")):
        receipt = read_receipt(path, again)
        digests = {path.parent / name: digest for name, digest in receipt.outputs.items()}
        digests |= {_place(home, name): digest for name, digest in receipt.inputs.items()}
        for file, digest in digests.items():
            if file.is_file() and (found := sha256_file(file)) != digest:
                yield f"{file}: sha256 is {found}, expected {digest}, as {path} says"
        for name, digest in receipt.digests.items():
            folder = path.parent / name
            if folder.is_dir() and (found := sha256_folder(folder)) != digest:
                yield f"{folder}: sha256 is {found}, expected {digest}, as {path} says"
    compared = home / "compare" / "receipt.json"
    runs = _runs(study)
    chain = [(compared, run.output("evaluate", "metrics.json")) for run in runs]
    if not _complete(study):
        chain = []
    for run in runs:
        evaluated, trained = (run.output(stage, "receipt.json") for stage in ("evaluate", "train"))
        chain.append((evaluated, trained))
    for path, file in chain:
        if file not in {_place(home, name) for name in read_receipt(path, again).inputs}:
            yield f"{path}: inputs lacks {file}, expected its sha256"


def _place(home: Path, name: str) -> Path:
    """Where below `home` a file is published that a receipt knows as an input."""
    parts = Path(name).parts
    if parts[:2] == ("data", "prepared"):
        return home.joinpath("data", *parts[2:])
    return home.joinpath(*parts[2:])


def _run_faults(run: Run) -> Iterator[str]:
    """Whether the scores of `run` follow from its confusion matrix."""
    path, card = run.output("evaluate", "metrics.json"), run.dataset.card
    confusion_file = run.output("evaluate", "confusion.csv")
    missing = [file for file in (path, confusion_file) if not file.is_file()]
    if missing:
        yield from (f"{file}: not found; {run.name} is a run of the study" for file in missing)
        return
    again = f"publish {run.study.name} again"
    confusion = read_confusion(confusion_file, card.classes, again)
    metrics = read_json(path, made.Metrics, again)
    groups = {name: group["classes"] for name, group in metrics["groups"].items()}
    expected = scores(confusion, card.classes, groups)
    counted = {name: value for name, value in metrics.items() if name in expected}
    for key, found, wanted in _unequal(counted, expected):
        yield f"{path}: {key} is {found}, expected {wanted}, by {confusion_file}"
    path = run.output("evaluate", "scores.json")
    if path.is_file():
        shown = read_json(path, dict[str, float], again)
        for key, found, wanted in _unequal(shown, headline(metrics)):
            yield f"{path}: {key} is {found}, expected {wanted}, by {path.parent}/metrics.json"


def _unequal(found: Any, expected: Any, key: str = "") -> Iterator[tuple[str, Any, Any]]:
    """Where two JSON values differ; numbers may by the last bits of another machine's sums."""
    if isinstance(found, dict) and isinstance(expected, dict):
        for name in sorted(found.keys() | expected.keys()):
            below = f"{key}.{name}" if key else name
            yield from _unequal(found.get(name), expected.get(name), below)
    elif isinstance(found, float) and isinstance(expected, float):
        if not math.isclose(found, expected, rel_tol=1e-12):
            yield key, found, expected
    elif canonical_json(found) != canonical_json(expected):
        yield key, found, expected


def _table_faults(study: Study) -> Iterator[str]:
    """Whether the tables of compare, analyse and report follow from the runs."""
    home, runs = study.results, _runs(study)
    curves = all(run.output("train", "curves.csv").is_file() for run in runs)
    comparison = Comparison.of(study, runs, curves=curves)
    compared = [
        fault
        for field in fields(Comparison)
        if curves or field.name != "curves"
        for fault in _csv_faults(
            study.output("compare", f"{field.name}.csv"), getattr(comparison, field.name)
        )
    ]
    datasets = {run.dataset.name: run.dataset for run in runs}
    unknown = [
        f"{dataset.info}: not found; expected the data's shares of pixels"
        for dataset in datasets.values()
        if not dataset.info.is_file()
    ]
    if compared or unknown:
        yield from (*compared, *unknown)
        return
    data = {name: made.info(dataset) for name, dataset in datasets.items()}
    analyses = Analyses({})
    whole = (home / files.TABLES).is_dir()
    if whole:
        analyses = Analyses.of(study, runs)
        for name, table in analyses.tables.items():
            yield from _csv_faults(study.output("analyse", f"{name}.csv"), table)
        if _complete(study):
            # As report did: from what the stages wrote, which follows from the runs.
            comparison, analyses = Comparison.read(study), Analyses.read(study)
    material = Material(study, runs, comparison, analyses, data, gallery={}, shown={})
    for stem, table in contents.whole_tables(material).items():
        yield from _csv_faults(home / f"{stem}.csv", table)
    if whole:
        yield from _section_faults(home, material)


def _section_faults(home: Path, material: Material) -> Iterator[str]:
    """Whether the tables of the page follow, and are all that it has."""
    expected = set()
    for section in contents.sections(material):
        for part in section.parts:
            if isinstance(part, Table):
                path = home / files.place(section, part) / f"{part.name}.csv"
                expected.add(path)
                yield from _csv_faults(path, part.data)
    found = {path for name in (files.TABLES, files.RUNTIME) for path in (home / name).glob("*.csv")}
    yield from (f"{path}: expected no such table" for path in sorted(found - expected))


def _csv_faults(path: Path, expected: pd.DataFrame) -> Iterator[str]:
    """The first line of a published table that is not the recomputed one.

    Numbers may differ by what the sums of another kind of processor round otherwise. A table that
    was published by an earlier version may lack columns, or be none at all.
    """
    if not path.is_file():
        return
    found = read_text(path).splitlines()
    columns = found[0].split(",") if found else []
    if set(columns) < set(expected.columns):
        expected = expected[columns]
    wanted = csv_text(expected).splitlines()
    for number, (line, want) in enumerate(itertools.zip_longest(found, wanted), 1):
        if not _same_line(line, want):
            yield f"{path}: line {number} is {line!r}, expected {want!r}, by the published runs"
            return


def _same_line(found: str | None, expected: str | None) -> bool:
    if found is None or expected is None or found == expected:
        return found == expected
    (cells,), (wanted,) = csv.reader([found]), csv.reader([expected])
    return len(cells) == len(wanted) and all(map(_same_cell, cells, wanted))


def _same_cell(found: str, expected: str) -> bool:
    try:
        return found == expected or math.isclose(
            float(found), float(expected), rel_tol=1e-6, abs_tol=1e-9
        )
    except ValueError:
        return False


def _shown_faults(home: Path) -> Iterator[str]:
    """Whether Parquet, Markdown and LaTeX tables say what the CSV beside them says."""
    for path in sorted(home.rglob("*.csv")):
        if path.parent.name == files.RUNTIME:
            continue  # times and shortened hashes are no roundings
        parquet = path.with_suffix(".parquet")
        with reading(path, "CSV"):
            data = pd.read_csv(path, keep_default_na=False, na_values=[""])
        with reading(parquet, "Parquet"):
            other = parquet.is_file() and csv_text(pd.read_parquet(parquet)) != read_text(path)
        if other:
            yield f"{parquet}: holds other rows than {path.name}, expected the same"
        for suffix, rows_of in ((".md", _markdown_rows), (".tex", _latex_rows)):
            shown = path.with_suffix(suffix)
            if shown.is_file():
                rows = rows_of(read_text(shown))
                yield from _row_faults(shown, rows, path, data)


def _row_faults(
    shown: Path, rows: Sequence[list[str]], path: Path, data: pd.DataFrame
) -> Iterator[str]:
    if len(rows) != len(data):
        yield f"{shown}: has {len(rows)} rows, expected {len(data)}, as {path.name} has"
        return
    for number, (cells, values) in enumerate(zip(rows, data.to_dict("records"), strict=True), 1):
        for cell, token in _unfounded(cells, list(values.values())):
            yield (
                f"{shown}: row {number} shows {cell!r}, but {token} is no rounding of a number in "
                f"row {number} of {path}: expected one of its values"
            )


_NUMBER = re.compile(r"(?P<less><\s*)?(?P<value>[+-]?\d+(?:\.(?P<decimals>\d+))?)")


def _unfounded(cells: Sequence[str], values: Sequence[Any]) -> Iterator[tuple[str, str]]:
    """The numbers in `cells` that are the rounding of none of `values`, as (cell, number).

    A cell with letters is a name or a sentence, and no number. A fraction may be shown in percent.
    """
    numbers = [float(v) for v in values if isinstance(v, int | float) and not pd.isna(v)]
    # Names that look like numbers are read as such: class `9` is not rounded.
    known = {*(v for v in values if isinstance(v, str)), *(f"{v:g}" for v in numbers)}
    for cell in cells:
        words = re.sub(r"\(\d+ pairs?\)|\bof\b", "", cell)
        if cell in known or re.search(r"[^\W\d_]", words):
            continue
        for match in _NUMBER.finditer(words):
            shown, half = float(match["value"]), 0.5 * 10.0 ** -len(match["decimals"] or "")
            if match["less"]:
                good = any(0 <= value < shown for value in numbers)
            else:
                good = any(
                    abs(scale * value - shown) <= half * (1 + 1e-9)
                    for value in numbers
                    for scale in (1, 100)
                )
            if not good:
                yield cell, match["value"]


def _markdown_rows(text: str) -> list[list[str]]:
    """The cells of the body of a Markdown table."""
    lines = [line for line in text.splitlines() if line.startswith("|")]
    return [
        [
            cell.strip().replace(r"\|", "|").replace("**", "")
            for cell in re.split(r"(?<!\\)\|", line)[1:-1]
        ]
        for line in lines[2:]
    ]


def _latex_rows(text: str) -> list[list[str]]:
    """The cells of the body of a booktabs tabular."""
    body = text.partition(r"\midrule")[2].partition(r"\bottomrule")[0]
    rows = [line.removesuffix(r"\\").strip() for line in body.splitlines() if r"\\" in line]
    return [[_plain(cell) for cell in re.split(r"(?<!\\)&", row)] for row in rows]


def _plain(cell: str) -> str:
    cell = re.sub(r"\\(?:textbf|mathbf|bfseries)\b", "", cell).replace("$", "")
    cell = cell.replace(r"\pm", "±").replace(r"\textbackslash ", "\\")
    return re.sub(r"\\([_%&#{}])", r"\1", cell).strip(" {}")
