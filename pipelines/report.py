"""Report the comparison of a study: tables, figures and two pages that join them.

`report.md` and `index.html` say the same; the second shows besides what differs from replay to
replay, such as times, and is outside every claim of byte identity with all in `runtime/`. All else
is a function of the runs' results: a second call writes the same bytes. With
`--partial` the report is made of the runs that are finished, names the others, and goes to the
study's work folder instead of its results.
"""

from __future__ import annotations

import shutil
import sys
from collections.abc import Sequence
from pathlib import Path

from pipelines import figures, gallery, illustrations, pages, provenance, reference
from pipelines.analyse import Analyses
from pipelines.analyses.findings import costs, findings
from pipelines.artifacts import Stopwatch, read_json, sha256_folder, staged, write_receipt
from pipelines.cli import guarded, stage_parser
from pipelines.compare import Comparison, all_finished, finished, write_csv
from pipelines.errors import PipelineError
from pipelines.gallery import Panel, kept
from pipelines.pages import Material
from pipelines.rendering import files, html, markdown
from pipelines.sections import Report, Section
from pipelines.study import REFERENCE, STUDY_STAGES, VIEWS, Run, Study


def report(study: Study) -> None:
    """Write the report of a study whose runs are all finished and compared.

    Raises:
        PipelineError: when a run is not finished, or compare or analyse has not run.
    """
    watch = Stopwatch()
    runs = all_finished(study)
    comparison, analyses = Comparison.read(study), Analyses.read(study)
    with staged(study.folder("report")) as scratch:
        write_files(study, runs, comparison, analyses, scratch)
        write_receipt(
            scratch,
            stage="report",
            subject=study.name,
            parameters=study.parameters_hash("report"),
            inputs=inputs(study),
            digests={name: sha256_folder(scratch / name) for name in (files.TABLES, files.FIGURES)},
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
        write_files(study, runs, Comparison.of(study, runs), Analyses.of(study, runs), scratch)
    return [run for run in study.runs if run not in runs]


def partial_folder(study: Study) -> Path:
    """Where a partial report lies: not among the results, which are whole."""
    return study.work / "report-partial"


def inputs(study: Study) -> list[Path]:
    """The files that report reads, and the receipts that vouch for the images it reads."""
    compared = [
        study.output(stage, name)
        for stage in ("compare", "analyse")
        for name in STUDY_STAGES[stage]
    ]
    data = [path for dataset in study.datasets.values() for path in (dataset.info, dataset.receipt)]
    shown = [run for runs in shown_runs(study, study.runs).values() for run in runs]
    return (
        compared
        + data
        + ([REFERENCE] if REFERENCE.is_file() else [])
        + [run.output("evaluate", "analysis.npz") for run in shown]
        + [run.output("evaluate", "predictions.npz") for run in shown if kept(run)]
    )


def shown_runs(study: Study, runs: Sequence[Run]) -> dict[Panel, list[Run]]:
    """For each data set and model, the compared methods' runs of the seed that is looked at."""
    methods = list(pages.labels(study, control=False))
    return {
        (dataset, model): gallery.looked_at(
            [r for r in runs if (r.dataset.name, r.model) == (dataset, model)],
            methods,
            study.file.seeds,
        )
        for dataset in study.datasets
        for model in study.models
    }


def sections(material: Material) -> list[Section]:
    """All that the report says, in order: the one place where its sections are joined."""
    found = [
        pages.comparison(material),
        pages.claims(material),
        pages.controls(material),
        *reference.sections(material.study, material.comparison.summary),
        illustrations.classes(material),
        illustrations.predictions(material),
        illustrations.features(material),
        *findings(material.study, material.analyses),
        illustrations.curves(material),
        pages.recipe(material),
        costs(material.study, material.runs),
        *provenance.sections(material.study, material.runs),
    ]
    return [section for section in found if section is not None]


def write_files(
    study: Study, runs: Sequence[Run], comparison: Comparison, analyses: Analyses, folder: Path
) -> None:
    """Write all files of the report on these finished runs into `folder`."""
    shown = shown_runs(study, runs)
    earlier = [study.output("report", "gallery.npz"), study.published / "gallery.npz"]
    images = gallery.collect(shown, study.file.evaluation.gallery, earlier)
    gallery.write(images, folder / "gallery.npz")
    data = {name: read_json(dataset.info) for name, dataset in study.datasets.items()}
    material = Material(study, runs, comparison, analyses, data, images, shown)
    with figures.drawing():
        content = Report(study.file.title, pages.lead(material), sections(material))
        files.write(content, folder)
    _write(folder / "report.md", markdown.render(content))
    _write(folder / "index.html", html.render(content, folder))
    for name, table in pages.whole_tables(material).items():
        write_csv(table, folder / f"{name}.csv")
    for suffix in ("md", "tex"):
        shutil.copyfile(folder / f"tables/comparison.{suffix}", folder / f"table.{suffix}")


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
    print(f"report:  {study.output('report', 'index.html')}")
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
            # It makes the tables of reports anew, by this module.
            from pipelines.verify import verify

            print(verify())
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
        print(f"report: {folder / 'index.html'}")

    return guarded(command)


if __name__ == "__main__":
    sys.exit(main())
