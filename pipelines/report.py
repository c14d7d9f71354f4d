"""Report the comparison of a study: tables, figures and a page that joins them.

Everything is a function of the runs' results: a second call writes the same bytes. With
`--partial` the report is made of the runs that are finished, names the others, and goes to the
study's work folder instead of its results.
"""

from __future__ import annotations

import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from pipelines import figures, pages, tables, verify
from pipelines.artifacts import Stopwatch, read_json, staged, write_receipt
from pipelines.cli import guarded, stage_parser
from pipelines.compare import Comparison, all_finished, finished, write_csv
from pipelines.errors import PipelineError
from pipelines.study import STUDY_STAGES, VIEWS, Run, Study


def report(study: Study) -> None:
    """Write the report of a study whose runs are all finished and compared.

    Raises:
        PipelineError: when a run is not finished, or compare has not run.
    """
    watch = Stopwatch()
    runs = all_finished(study)
    comparison = Comparison.read(study)
    with staged(study.folder("report")) as scratch:
        write_files(study, runs, comparison, scratch)
        write_receipt(
            scratch,
            stage="report",
            subject=study.name,
            parameters=study.parameters_hash("report"),
            inputs=inputs(study),
            views=VIEWS,
        )
        watch.write(scratch)


def report_partial(study: Study) -> list[Run]:
    """Write what the finished runs give into `partial_folder`; returns the runs that are missing.

    Raises:
        PipelineError: when no run is finished.
    """
    runs = [run for run in study.runs if finished(run)]
    if not runs:
        raise PipelineError(
            f"study {study.name!r}: none of its {len(study.runs)} runs is finished, so there is "
            "nothing to report"
        )
    with staged(partial_folder(study)) as scratch:
        write_files(study, runs, Comparison.of(study, runs), scratch)
    return [run for run in study.runs if run not in runs]


def partial_folder(study: Study) -> Path:
    """Where a partial report lies: not among the results, which are whole."""
    return study.work / "report-partial"


def inputs(study: Study) -> list[Path]:
    """The files that report reads, and the receipts that vouch for the images it reads."""
    compared = [study.output("compare", name) for name in STUDY_STAGES["compare"]]
    data = [path for dataset in study.datasets.values() for path in (dataset.info, dataset.receipt)]
    shown = [
        run.output("evaluate", "predictions.npz")
        for runs in gallery_runs(study, study.runs).values()
        for run in runs
    ]
    return compared + data + shown


def write_files(study: Study, runs: Sequence[Run], comparison: Comparison, folder: Path) -> None:
    """Write all files of the report on these finished runs into `folder`."""
    methods = pages.labels(study, control=False)
    data = {name: read_json(dataset.info) for name, dataset in study.datasets.items()}
    table = tables.comparison_table(comparison.summary, comparison.paired, methods)
    by_class = tables.per_class_table(comparison.summary, comparison.paired, methods, data)

    write_csv(table, folder / "table.csv")
    write_csv(by_class, folder / "per_class.csv")
    write_csv(comparison.claims, folder / "claims.csv")
    _write(folder / "table.md", pages.table_page(study, table))
    _write(folder / "table.tex", tables.latex(table))

    galleries = gallery_runs(study, runs)
    shown = [run for chosen in galleries.values() for run in chosen]
    page = pages.report_page(study, runs, comparison, table, by_class, shown)
    _write(folder / "report.md", page)
    scenes = {key: _scenes(chosen, data[key[0]]) for key, chosen in galleries.items()}
    everything = methods | pages.labels(study, control=True)
    with figures.drawing():
        figures.save(figures.per_class_figure(by_class, methods), folder, "per_class")
        figures.save(figures.gallery_figure(scenes, data, methods), folder, "gallery")
        figures.save(figures.curves_figure(comparison.curves, everything), folder, "curves")


def gallery_runs(study: Study, runs: Sequence[Run]) -> dict[tuple[str, str], list[Run]]:
    """For each data set and model, the compared methods' runs of one seed.

    It is the first seed of the study, or, when some of its runs are missing, the first of the seeds
    with the most runs.
    """
    methods = pages.labels(study, control=False)
    chosen = {}
    for dataset in study.datasets:
        for model in study.models:
            here = [r for r in runs if (r.dataset.name, r.model) == (dataset, model)]
            by_seed = [
                [r for r in here if r.seed == seed and r.method in methods]
                for seed in study.file.seeds
            ]
            chosen[dataset, model] = max(by_seed, key=len)
    return chosen


def _scenes(runs: Sequence[Run], info: dict[str, Any]) -> list[figures.Scene]:
    """The images whose predictions `runs` (of one data set) kept, in the order of their names."""
    predictions: dict[str, dict[str, np.ndarray]] = {}
    for run in runs:
        with np.load(run.output("evaluate", "predictions.npz"), allow_pickle=False) as arrays:
            for stem in arrays.files:
                predictions.setdefault(stem, {})[run.method] = arrays[stem]
    scenes = []
    for stem in sorted(predictions):
        image, truth = (_pixels(runs[0], kind, stem) for kind in ("images", "labels"))
        scenes.append(figures.Scene(stem, image, truth, predictions[stem]))
    return scenes


def _pixels(run: Run, kind: str, stem: str) -> np.ndarray:
    folder = run.dataset.prepared / kind / run.evaluation.split
    paths = [folder / f"{stem}{suffix}" for suffix in (".png", ".jpg")]
    path = next((path for path in paths if path.is_file()), None)
    if path is None:
        raise PipelineError(
            f"{paths[0]}: not found; run python -m pipelines.prepare --dataset {run.dataset.name}"
        )
    with Image.open(path) as picture:
        return np.asarray(picture.convert("RGB") if kind == "images" else picture)


def show(study: Study) -> None:
    """Print the table of a finished report, where the report lies and how to see the runs.

    Raises:
        PipelineError: when the report is not there.
    """
    table = study.output("report", "table.md")
    if not table.is_file():
        again = f"python -m pipelines.report --study {study.argument}"
        raise PipelineError(f"{table}: not found; run {again}")
    print(table.read_text(encoding="utf-8"))
    print(f"report:  {study.output('report', 'report.md')}")
    print("runs:    mlflow ui    (then open the address that it prints)")


def _write(path: Path, text: str) -> None:
    path.write_text(text, encoding="utf-8", newline="\n")


def main(argv: list[str] | None = None) -> int:
    parser = stage_parser(__doc__)
    parser.add_argument(
        "--partial",
        action="store_true",
        help="report on the runs that are finished, into work/<study>/report-partial",
    )
    parser.add_argument(
        "--show", action="store_true", help="print the finished report's table; write nothing"
    )
    parser.add_argument(
        "--check",
        action="store_true",
        help="write nothing; fail when what is published, of any study, does not follow from the "
        "published runs",
    )
    args = parser.parse_args(argv)

    def command() -> None:
        if args.check:
            print(verify.verify())
            return
        study = Study.load(args.study)
        if args.show:
            show(study)
            return
        if args.partial:
            missing, folder = report_partial(study), partial_folder(study)
        else:
            report(study)
            missing, folder = [], study.folder("report")
        print((folder / "table.md").read_text(encoding="utf-8"))
        for run in missing:
            print(f"missing: {run.name}", file=sys.stderr)
        print(f"report: {folder / 'report.md'}")

    return guarded(command)


if __name__ == "__main__":
    sys.exit(main())
