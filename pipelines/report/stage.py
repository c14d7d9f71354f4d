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
from pipelines.base.reading import read_text
from pipelines.compare.comparison import Comparison
from pipelines.rendering import files
from pipelines.report.contents import shown_runs, write_files
from pipelines.report.gallery import predicted_images
from pipelines.running import custody
from pipelines.running.custody import Made
from pipelines.running.finished import all_finished, finished, require_comparable
from pipelines.running.ownership import check_owner, claim
from pipelines.running.stage import only_writer, writing
from pipelines.study import REFERENCE, STUDY_STAGES, SUMMARY, VIEWS, Run, Study


@only_writer("report")
def report(study: Study) -> None:
    """Write the report of a study whose runs are all finished and compared.

    Raises:
        PipelineError: when a run is not finished, compare or analyse has not run on these runs, or
            a file of them is not as its receipt says.
    """
    watch = Stopwatch()
    claim(study)
    runs = all_finished(study)
    _check_data(study, runs)
    for stage in ("compare", "analyse"):
        names = [name for name in STUDY_STAGES[stage] if name != SUMMARY]  # As summary.csv is.
        custody.require(Made(stage, study), [study.output(stage, name) for name in names])
    comparison, analyses = Comparison.read(study), Analyses.read(study)
    with writing("report", study, inputs(study), views=VIEWS, watch=watch) as outputs:
        write_files(study, runs, comparison, analyses, outputs.folder)
        for name in (files.TABLES, files.FIGURES):
            outputs.digests[name] = sha256_folder(outputs.folder / name)


def report_partial(study: Study) -> list[Run]:
    """Write what the finished runs give into `partial_folder`; returns the runs that are missing.

    Raises:
        PipelineError: when no run is finished, or those that are were trained on different data.
    """
    check_owner(study)
    runs = [run for run in study.runs if finished(run)]
    if not runs:
        raise PipelineError(
            f"study {study.name!r}: none of its {len(study.runs)} runs is finished, so there is "
            "nothing to report"
        )
    require_comparable(runs)
    _check_data(study, runs)
    with staged(partial_folder(study)) as scratch:
        write_files(study, runs, Comparison.of(study, runs), Analyses.of(study, runs), scratch)
    reported = {run.name for run in runs}
    return [run for run in study.runs if run.name not in reported]


def _check_data(study: Study, runs: list[Run]) -> None:
    """Refuse data that are not as their receipts say; of images where some will be shown."""
    shown = [run for chosen in shown_runs(study, runs).values() for run in chosen]
    pictured = {run.dataset.name for run in shown if predicted_images(run)}
    for name, dataset in study.datasets.items():
        custody.require(Made("prepare", dataset), [dataset.info], content=name in pictured)


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
        PipelineError: when the report is not there, or not that of the study as it is now.
    """
    table = study.output("report", "table.md")
    custody.require(Made("report", study), [table])
    print(read_text(table, study.again("report")))
    print(f"report:  {study.output('report', 'index.html')}")
    print("runs:    mlflow ui    (then open the address that it prints)")
