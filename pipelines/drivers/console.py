"""What a person sees of a study while Snakemake works: one line a finished run, and how far it is.

Snakemake tells its logger plugins what happens to each job; `Console` makes of it a line for each
run that is evaluated, with its score, one for each other stage, and for each failure its log and
what stands at its end. On a terminal a last line counts the runs that are done, running and failed
and says how long it may take; elsewhere each line says so. All else is in the log files.
"""

from __future__ import annotations

import logging
import re
from collections import Counter
from dataclasses import dataclass
from pathlib import Path
from typing import TextIO

from tqdm import tqdm

from pipelines.base.artifacts import read_json
from pipelines.study import RUN_STAGES

_REASON_LINES = 6
"""Of a failed stage's log, where it does not end with an error of this project."""

_NOTHING_TO_DO = "Nothing to be done"


@dataclass
class _Job:
    """A stage of a run, of a data set or of the study, under way."""

    stage: str
    subject: str
    outputs: list[str]
    began: float
    """Unix time in seconds, as all times here."""


class Console:
    """Shows the records of one call of Snakemake on a stream.

    A terminal gets a line at its bottom that changes; anything else gets lines only.
    """

    def __init__(self, stream: TextIO) -> None:
        self._stream = stream
        self._bar: tqdm | None = None
        self._jobs: dict[int, _Job] = {}
        self._planned: Counter[str] = Counter()
        self._seconds: dict[str, list[float]] = {stage: [] for stage in RUN_STAGES}
        """How long each finished job of a stage of runs took."""
        self._failed: set[str] = set()
        """Runs that broke off and were not started again."""
        self._first: float | None = None
        """When the first job of a run began."""

    def show(self, record: logging.LogRecord) -> None:
        """Take notice of a record of Snakemake's, and print what a person should know of it."""
        given, now = record.__dict__, record.created
        match given.get("event"):
            case "run_info":
                self._planned = Counter(given["stats"])
            case "job_info":
                self._begin(given, now)
            case "job_finished":
                self._finish(self._jobs.pop(given["job_id"]), now)
            case "job_error":
                self._fail(given)
            case _:
                self._say(record)
        self._refresh(now)

    def close(self) -> None:
        if self._bar is not None:
            self._bar.close()
            self._bar = None

    def _begin(self, given: dict, now: float) -> None:
        stage, wildcards = given["rule_name"], given["wildcards"]
        subject = next(iter(wildcards.values()), "")
        self._jobs[given["jobid"]] = _Job(stage, subject, given["output"], now)
        self._failed.discard(subject)  # a stage that is tried again
        if stage in RUN_STAGES and self._first is None:
            self._first = now

    def _finish(self, job: _Job, now: float) -> None:
        took = now - job.began
        if job.stage in RUN_STAGES:
            self._seconds[job.stage].append(took)
        if job.stage == "evaluate":
            metrics = next(path for path in job.outputs if path.endswith("/metrics.json"))
            score = read_json(Path(metrics))["mIoU"]
            done, runs = len(self._seconds["evaluate"]), self._planned["evaluate"]
            line = f"[{done:>{len(str(runs))}}/{runs}] {job.subject}: mIoU {score:.2f} %"
            if self._bar is None and done < runs:
                line += f" ({self._state(now)})"
            self._print(line)
        elif job.outputs and job.stage != "train":
            self._print(f"{job.stage} {job.subject}".strip() + f": done in {span(took)}")

    def _fail(self, given: dict) -> None:
        job = self._jobs.pop(given["jobid"], None)
        subject = job.subject if job else ""
        if given["rule_name"] in RUN_STAGES:
            self._failed.add(subject)
        logs = [Path(path) for path in given["log"]]
        where = ", ".join(map(str, logs)) or "it keeps no log"
        self._print(f"FAILED: {given['rule_name']} {subject} ({where})")
        for path in logs:
            for line in reason(path):
                self._print(f"    {line}")

    def _say(self, record: logging.LogRecord) -> None:
        """Warnings and errors, and that there is nothing to do; no more of what Snakemake says.

        That a command failed is not among them: `job_error` says of which stage, and why.
        """
        if record.__dict__.get("exception") == "RuleException":
            return
        message = str(record.msg)
        if record.levelno >= logging.WARNING or message.startswith(_NOTHING_TO_DO):
            self._print(message)

    def _refresh(self, now: float) -> None:
        runs = self._planned["evaluate"]
        if self._bar is None:
            if self._first is None or not self._stream.isatty():
                return
            self._bar = tqdm(
                total=runs, file=self._stream, bar_format="|{bar:20}| {desc}", leave=False
            )
        self._bar.n = len(self._seconds["evaluate"])
        self._bar.set_description_str(f"{self._bar.n} of {runs} runs done, {self._state(now)}")
        others = [f"{job.stage} {job.subject}" for job in self._jobs.values() if job.outputs]
        if len(self._seconds["evaluate"]) + len(self._failed) == runs and not others:
            self.close()
            self._first = None

    def _state(self, now: float) -> str:
        running = [job for job in self._jobs.values() if job.stage in RUN_STAGES]
        words = [f"{len(running)} running"]
        if self._failed:
            words.append(f"{len(self._failed)} failed")
        left = self._seconds_left(now, running)
        if left is not None:
            words.append(f"about {span(left)} left")
        return ", ".join(words)

    def _seconds_left(self, now: float, running: list[_Job]) -> float | None:
        """What the runs still take, from how long the finished ones took and how many went on at
        once; None before a run is finished, and after the last."""
        if self._first is None or not self._seconds["evaluate"]:
            return None
        work = 0.0
        for stage, finished in self._seconds.items():
            if not finished:
                continue  # all were trained before
            mean = sum(finished) / len(finished)
            to_do = self._planned[stage] - len(finished) - len(self._failed)
            at_it = [job for job in running if job.stage == stage]
            work += mean * max(to_do, len(at_it))
            work -= sum(min(now - job.began, mean) for job in at_it)
        spent = sum(map(sum, self._seconds.values())) + sum(now - job.began for job in running)
        at_once = max(spent / (now - self._first), 1.0) if now > self._first else 1.0
        return work / at_once if work > 0 else None

    def _print(self, line: str) -> None:
        tqdm.write(line, file=self._stream)
        self._stream.flush()


def reason(log: Path) -> list[str]:
    """Why a stage failed: from its last line that begins with `error:`, else its last lines.

    The very last is that of `pipelines.running.failure`, which repeats an error.
    """
    if not log.is_file():
        return ["the log is not there"]
    lines = [line.rstrip() for line in log.read_text("utf-8", "replace").splitlines()]
    lines = [line for line in lines if line]
    for place in reversed(range(len(lines))):
        if re.match("error:", lines[place]):
            return [line for line in lines[place:] if not re.match(r"\w+ failed \(", line)]
    return lines[-_REASON_LINES:] or ["the log is empty"]


def span(seconds: float) -> str:
    """A length of time in words, as exact as a person wants it."""
    if seconds < 100:
        return f"{seconds:.0f} s"
    minutes = round(seconds / 60)
    return f"{minutes} min" if minutes < 100 else f"{seconds / 3600:.1f} h"
