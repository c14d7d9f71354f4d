"""Train and evaluate in forked processes, each killed where a test says.

Importing the libraries takes seconds; a process that has done so forks one child for each command,
in a session of its own. A child counts the calls that Python makes and can send SIGKILL to its own
group at any one of them, so that a kill point is a number.

As a program, it reads requests from stdin and answers on stdout, a JSON object a line.
"""

from __future__ import annotations

import json
import os
import random
import signal
import subprocess
import sys
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any

ROOT = Path(__file__).parents[2]

PHASES = {
    "train_step": "step",
    "save_checkpoint": "checkpoint",
    "run_iter": "evaluation",  # of mmengine's ValLoop; the one of training is around its step
    "staged": "publication",  # From its first call on, to the end.
}
"""Functions between whose call and return a process is in a phase."""


@dataclass(frozen=True)
class Done:
    """How a command ended, and what it said."""

    status: int
    """As `subprocess` has it: negative for a signal."""
    output: str
    seconds: float
    calls: list[tuple[str, int, int]]
    """Of a counted command: phase, first call, last call; in order."""

    def pick(self, phase: str, number: int, seed: int) -> list[int]:
        """`number` calls in a phase, drawn with `seed`."""
        spans = [(first, last) for name, first, last in self.calls if name == phase]
        rng = random.Random(f"{phase}{seed}")
        return [rng.randint(*rng.choice(spans)) for _ in range(number)]


class Zygote:
    """The client of a zygote process, which works in the working directory."""

    def __init__(self) -> None:
        self._process = subprocess.Popen(
            [sys.executable, "-m", "tests.pipelines.zygote"],
            env=os.environ | {"PYTHONPATH": f"{ROOT}{os.pathsep}{Path.cwd()}"},
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        )

    def run(self, stage: str, run: str, **fault: Any) -> Done:
        """Run a stage for a run of the study `mini`.

        Args:
            fault: `at_call=N`, `after=SECONDS` or `torn_checkpoint=N` (the N-th one, half written)
                kills it; `count=True` counts its calls.
        """
        print(
            json.dumps({"stage": stage, "run": run} | fault), file=self._process.stdin, flush=True
        )
        answer = json.loads(self._process.stdout.readline())
        return Done(**answer)

    def close(self) -> None:
        self._process.stdin.close()
        self._process.wait()


def serve() -> None:
    answers = os.fdopen(os.dup(1), "w")
    os.dup2(2, 1)  # What libraries print is no answer.
    from mmseg.utils import register_all_modules

    # All that the stages import.
    from pipelines.evaluate import stage as evaluate
    from pipelines.train import stage as train

    register_all_modules()
    stages = {"train": train.train, "evaluate": evaluate.evaluate}
    for line in sys.stdin:
        request = json.loads(line)
        # mmengine names the log of a session by the second in which it began.
        time.sleep(1 - time.time() % 1)
        start = time.monotonic()
        output, calls = Path("zygote.out"), Path("zygote.calls")
        output.write_text("")
        pid = os.fork()
        if pid == 0:
            _child(stages[request["stage"]], request, output, calls)
        if "after" in request:
            time.sleep(request["after"])
            os.killpg(pid, signal.SIGKILL)
        _, status = os.waitpid(pid, 0)
        answer = {
            "status": os.waitstatus_to_exitcode(status),
            "output": output.read_text(),
            "seconds": time.monotonic() - start,
            "calls": json.loads(calls.read_text()) if "count" in request else [],
        }
        print(json.dumps(answer), file=answers, flush=True)


def _child(stage: Any, request: dict, output: Path, calls: Path) -> None:
    """Run the stage in this new process, and end it."""
    from pipelines.running.cli import guarded
    from pipelines.study import Study

    os.setsid()
    file = os.open(output, os.O_WRONLY | os.O_APPEND)
    os.dup2(file, 1)
    os.dup2(file, 2)
    status = 70
    try:
        run = Study.load("mini").run(request["run"])
        if "torn_checkpoint" in request:
            _tear(request["torn_checkpoint"])
        counter = _Counter(request.get("at_call"))
        if "count" in request or "at_call" in request:
            _count(request["stage"], counter)
        status = guarded(lambda: stage(run))
        sys.setprofile(None)
        calls.write_text(json.dumps(counter.all_spans()))
    except BaseException:
        import traceback

        traceback.print_exc()
    finally:
        sys.stdout.flush()
        sys.stderr.flush()
        os._exit(status)


class _Counter:
    """A profile function: counts calls, of Python's and of C's functions, by phase."""

    def __init__(self, last: int | None) -> None:
        self._last, self._count = last, 0
        self._open: Any = None  # the frame of the phase that goes on
        self._first = self._published = 0
        self.spans: list[tuple[str, int, int]] = []

    def __call__(self, frame: Any, event: str, argument: Any) -> None:
        if event == "call" or event == "c_call":
            self._count += 1
            if self._count == self._last:
                os.killpg(0, signal.SIGKILL)
        if self._last is None and event in ("call", "return") and frame.f_code.co_name in PHASES:
            self._note(frame, event)

    def _note(self, frame: Any, event: str) -> None:
        name = frame.f_code.co_name
        if event == "return":
            if self._open and self._open is frame:
                self.spans.append((PHASES[name], self._first, self._count))
                self._open = None
        elif name == "staged":
            self._published = self._published or self._count
        elif self._open is None and (
            name != "run_iter" or type(frame.f_locals["self"]).__name__ == "ValLoop"
        ):
            self._open, self._first = frame, self._count

    def all_spans(self) -> list[tuple[str, int, int]]:
        # The very last calls belong to the end of the counting.
        end = self._count - 20
        return [*self.spans, ("publication", self._published, end), ("whole", 1, end)]


def _count(stage: str, counter: _Counter) -> None:
    """Count from now on; from the start of the loop where a model is built first, which is long."""
    if stage != "train":
        sys.setprofile(counter)
        return
    from mmengine.runner import IterBasedTrainLoop

    run = IterBasedTrainLoop.run

    def counted(self: IterBasedTrainLoop) -> Any:
        sys.setprofile(counter)
        return run(self)

    IterBasedTrainLoop.run = counted


def _tear(number: int) -> None:
    """Die in the middle of the write of a checkpoint, of which half is on the disk."""
    from mmengine.fileio import LocalBackend

    whole, written = LocalBackend.put, 0

    def put(self: LocalBackend, content: bytes, path: str) -> None:
        nonlocal written
        written += 1
        if written == number:
            whole(self, content[: len(content) // 2], path)
            os.killpg(0, signal.SIGKILL)
        whole(self, content, path)

    LocalBackend.put = put


if __name__ == "__main__":
    serve()
