"""What a report says that a method costs."""

import json

from pipelines.compare.comparison import Comparison
from pipelines.report.material import Material
from pipelines.report.sections import cost


def costs(study):
    comparison = Comparison.of(study, study.runs)
    return cost.section(Material(study, study.runs, comparison, None, {}, {}, {}))


def test_costs_stand_beside_the_score_and_are_no_part_of_what_a_replay_gives_again(fabricate):
    study = fabricate()
    for run in study.runs:
        sar = run.method == "sar"
        told = {"wall_seconds": 3.0 if sar else 1.5, "added_parameters": 1234} | {"device": "cpu"}
        run.output("train", "runtime.json").write_text(json.dumps(told))
    section = costs(study)
    assert not section.reproducible
    table = section.parts[1].shown.set_index("method")
    summary = Comparison.of(study, study.runs).summary
    score = summary.set_index(["method", "metric"]).loc[("sar", "mIoU"), "mean"]
    assert abs(float(table.loc["SAR_1", "mIoU"].split(" ")[0]) - score) < 0.06
    assert table.loc["SAR_1", "added parameters"] == "1,234"
    assert table.loc["Baseline", "added parameters"] == "0"
    assert table.loc["SAR_1", "wall time, ratio"] == "2.00 [2.00, 2.00]"
    assert table.loc["Baseline", "wall time, ratio"] == "–"
    assert table.loc["SAR_1", "peak memory, MiB"] == "–"


def test_without_a_time_nothing_is_told(fabricate):
    study = fabricate()
    for run in study.runs:
        run.output("train", "runtime.json").write_text("{}")
    (text,) = costs(study).parts
    assert text.markdown == "No run's runtime.json tells its time or memory."
