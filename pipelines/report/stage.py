"""Report the comparison of a study: tables, figures and two pages that join them.

`report.md` and `index.html` say the same; the second shows besides what differs from replay to
replay, such as times, and is outside every claim of byte identity with all in `runtime/`. All else
is a function of the runs' results: a second call writes the same bytes. With
`--partial` the report is made of the runs that are finished, names the others, and goes to the
study's work folder instead of its results.
"""

from __future__ import annotations

from pathlib import Path

from pipelines.analyse.analyses import Analyses
from pipelines.base.artifacts import Stopwatch, sha256_folder, staged
from pipelines.base.errors import PipelineError
from pipelines.compare.comparison import Comparison
from pipelines.rendering import files
from pipelines.report.contents import shown_runs, write_files
from pipelines.report.gallery import predicted_images
from pipelines.running.finished import all_finished, finished
from pipelines.running.stage import writing
from pipelines.study import REFERENCE, STUDY_STAGES, VIEWS, Run, Study


def report(study: Study) -> None:
    """Write the report of a study whose runs are all finished and compared.

    Raises:
        PipelineError: when a run is not finished, or compare or analyse has not run.
    """
    watch = Stopwatch()
    runs = all_finished(study)
    comparison, analyses = Comparison.read(study), Analyses.read(study)
    with writing("report", study, inputs(study), views=VIEWS, watch=watch) as outputs:
        write_files(study, runs, comparison, analyses, outputs.folder)
        for name in (files.TABLES, files.FIGURES):
            outputs.digests[name] = sha256_folder(outputs.folder / name)


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
        + [run.output("evaluate", "predictions.npz") for run in shown if predicted_images(run)]
    )


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
