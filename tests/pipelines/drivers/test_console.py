"""The console of a study, from the records that Snakemake hands to a logger plugin."""

from __future__ import annotations

import io
import json
import logging

import pytest

from pipelines.drivers.console import Console, reason, span


class Terminal(io.StringIO):
    def isatty(self) -> bool:
        return True


@pytest.fixture
def project(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    return tmp_path


class Study:
    """What Snakemake tells of a study of `runs` runs, at the seconds given."""

    def __init__(self, stream: io.StringIO, runs: int) -> None:
        self.console, self._ids = Console(stream), {}
        self.tell(0, "run_info", stats={"train": runs, "evaluate": runs, "report": 1})

    def tell(self, second: float, event: str | None, **given) -> None:
        record = logging.makeLogRecord({"levelno": logging.INFO, "event": event, **given})
        record.created = 1e9 + second
        self.console.show(record)

    def begin(self, second: float, stage: str, run: str = "") -> None:
        number = self._ids[stage, run] = len(self._ids)
        outputs = [f"results/{run}/{stage}/metrics.json"] if run else [f"{stage}/receipt.json"]
        wildcards = {"run": run} if run else {}
        job = {"jobid": number, "rule_name": stage, "wildcards": wildcards, "output": outputs}
        self.tell(second, "job_info", **job)

    def finish(self, second: float, stage: str, run: str = "") -> None:
        self.tell(second, "job_finished", job_id=self._ids[stage, run])

    def fail(self, second: float, stage: str, run: str, log: str) -> None:
        job = {"jobid": self._ids[stage, run], "rule_name": stage, "log": [log]}
        self.tell(second, "job_error", **job)


def scored(project, run: str, score: float) -> None:
    path = project / f"results/{run}/evaluate/metrics.json"
    path.parent.mkdir(parents=True)
    path.write_text(json.dumps({"mIoU": score}))


def test_a_finished_run_is_a_line_with_its_score_and_what_is_left(project):
    stream = io.StringIO()
    study = Study(stream, runs=4)
    for run, score in {"a": 40, "b": 41.256, "c": 42}.items():
        scored(project, run, score)
    for run in ("a", "b"):
        study.begin(0, "train", run)
    for run in ("a", "b"):
        study.finish(900, "train", run)
        study.begin(900, "evaluate", run)
    study.finish(1000, "evaluate", "a")
    study.begin(1000, "train", "c")
    study.finish(1100, "evaluate", "b")
    study.finish(1500, "train", "c")
    study.begin(1500, "evaluate", "c")
    study.finish(1600, "evaluate", "c")
    assert stream.getvalue().splitlines() == [
        # Two trainings of 900 s and three evaluations of 100 s, one of which just ends; by two.
        "[1/4] a: mIoU 40.00 % (1 running, about 17 min left)",
        # Two trainings of 900 s, 100 s of which are done, and two evaluations of 150 s; by two.
        "[2/4] b: mIoU 41.26 % (1 running, about 17 min left)",
        # A training of 767 s and an evaluation of 133 s, by 1.7: there was a pause.
        "[3/4] c: mIoU 42.00 % (0 running, about 9 min left)",
    ]


def test_a_failed_stage_is_named_with_its_log_and_the_reason(project):
    log = project / "train.log"
    log.write_text("Iter 1\nerror: x.yaml: lr: too high\n  expected less\n")
    stream = io.StringIO()
    study = Study(stream, runs=2)
    study.begin(0, "train", "a")
    study.fail(5, "train", "a", "train.log")
    scored(project, "b", 40)
    study.begin(5, "evaluate", "b")
    study.finish(6, "evaluate", "b")
    assert stream.getvalue().splitlines() == [
        "FAILED: train a (train.log)",
        "    error: x.yaml: lr: too high",
        "      expected less",
        "[1/2] b: mIoU 40.00 % (0 running, 1 failed)",
    ]


def test_what_snakemake_says_besides_is_shown_when_it_warns(project):
    stream = io.StringIO()
    study = Study(stream, runs=0)
    study.tell(0, None, msg="Select jobs to execute...")
    study.tell(0, None, msg="Nothing to be done (all requested files are present).")
    study.tell(0, None, msg="the disk is full", levelno=logging.ERROR)
    study.tell(0, "error", msg="exit status 1", levelno=logging.ERROR, exception="RuleException")
    study.begin(0, "report")
    study.finish(240, "report")
    assert stream.getvalue().splitlines() == [
        "Nothing to be done (all requested files are present).",
        "the disk is full",
        "report: done in 4 min",
    ]


def test_a_terminal_has_one_line_that_counts(project):
    stream = Terminal()
    study = Study(stream, runs=2)
    study.begin(0, "train", "a")
    study.begin(0, "train", "b")
    assert stream.getvalue().rpartition("\r")[2].endswith("| 0 of 2 runs done, 2 running")
    scored(project, "a", 40)
    study.finish(900, "train", "a")
    study.begin(900, "evaluate", "a")
    study.finish(1000, "evaluate", "a")
    shown = stream.getvalue()
    assert "[1/2] a: mIoU 40.00 %\n" in shown
    assert "1 of 2 runs done, 1 running, about 50 s left" in shown.rpartition("\r")[2]
    study.console.close()
    assert stream.getvalue().rpartition("\r")[2] == ""  # nothing of it stays


@pytest.mark.parametrize(
    ("log", "told"),
    [
        ("", ["the log is empty"]),
        ("1\n2\n3\n4\n5\n6\n\n7\n", ["2", "3", "4", "5", "6", "7"]),
        ("error: first\nerror: second\n", ["error: second"]),
    ],
)
def test_the_reason_is_the_error_or_the_end_of_the_log(tmp_path, log, told):
    (tmp_path / "log").write_text(log)
    assert reason(tmp_path / "log") == told
    assert reason(tmp_path / "other") == ["the log is not there"]


def test_time_is_told_as_exactly_as_it_is_known():
    assert [span(s) for s in (0.4, 99, 100, 5940, 7200)] == [
        "0 s",
        "99 s",
        "2 min",
        "99 min",
        "2.0 h",
    ]
