"""Compare the methods of a study over its seeds, from the scores and curves of all its runs.

Writes `runs.csv` (one row a run and metric), `summary.csv` (mean and sample standard deviation over
seeds), `paired.csv` (difference to the baseline, seed by seed), `claims.csv` (the tests that the
study file asks for, with their verdicts), `curves.csv` (training curves over seeds) and
`confusion.csv` (where the pixels of each class went, over seeds), and `summary.json` (the mean mIoU
of each method, for DVC). Scores and shares are in percent.
A class that the split does not contain has no rows.
"""

from __future__ import annotations

from pathlib import Path

from pipelines.compare.comparison import Comparison
from pipelines.running.finished import all_finished
from pipelines.running.ownership import claim
from pipelines.running.stage import only_writer, writing
from pipelines.study import SUMMARY, Study


def inputs(study: Study) -> list[Path]:
    """The files that compare reads."""
    return [
        path
        for run in study.runs
        for path in (
            run.output("evaluate", "metrics.json"),
            run.output("evaluate", "confusion.csv"),
            run.output("train", "curves.csv"),
        )
    ]


@only_writer("compare")
def compare(study: Study) -> None:
    """Write the tables of `study`.

    Raises:
        PipelineError: when a run is not finished.
    """
    claim(study)
    runs = all_finished(study)
    with writing("compare", study, inputs(study), views=(SUMMARY,)) as outputs:
        Comparison.of(study, runs).write(outputs.folder)
