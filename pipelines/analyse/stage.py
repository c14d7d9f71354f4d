"""Analyse what a study's runs learned, besides their scores: features, rare classes, anchors.

Reads what evaluate kept of each run (`analysis.npz`, `metrics.json`) and the data sets' `info.json`
and nothing else, so that runs which were published long ago can be analysed anew. Writes
`measures.csv` (one row a run and measure), `summary.csv` (mean and sample standard deviation over
seeds), `paired.csv` (difference to the baseline, seed by seed), `classes.csv` (one row a run and
class), `long_tail.csv` (slopes of the paired IoU difference, with intervals over classes),
`drift.csv` (distances of class means, one row a pair of seeds), `drift_compared.csv`,
`anchors.csv` (one row a record of a run's log) and `left_out.csv` (what a run does not have, and
why). The modules of this package say what each measure is.
"""

from __future__ import annotations

from pathlib import Path

from pipelines.analyse.analyses import Analyses
from pipelines.running import custody
from pipelines.running.custody import Made
from pipelines.running.finished import all_finished
from pipelines.running.ownership import claim
from pipelines.running.stage import only_writer, writing
from pipelines.study import Study


def inputs(study: Study) -> list[Path]:
    """The files that analyse reads."""
    data = [dataset.info for dataset in study.datasets.values()]
    return data + [
        run.output("evaluate", name)
        for run in study.runs
        for name in ("analysis.npz", "metrics.json")
    ]


@only_writer("analyse")
def analyse(study: Study) -> None:
    """Write the analyses of `study`.

    Raises:
        PipelineError: when a run is not finished, or what prepare said of a data set was changed.
    """
    claim(study)
    runs = all_finished(study)
    for dataset in study.datasets.values():
        custody.require(Made("prepare", dataset), [dataset.info])
    with writing("analyse", study, inputs(study)) as outputs:
        Analyses.of(study, runs).write(outputs.folder)
