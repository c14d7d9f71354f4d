"""One process at a time writes a folder; who comes second is told who is there."""

from __future__ import annotations

import contextlib
import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from pipelines.base import locks
from pipelines.base.artifacts import staged
from pipelines.base.errors import PipelineError

ROOT = Path(__file__).parents[3]

HOLDS = """
import sys, time
from pathlib import Path
from pipelines.base.artifacts import staged
with staged(Path("out")) as scratch:
    (scratch / "a.txt").write_text("theirs")
    print("in", flush=True)
    sys.stdin.readline()
"""

WAITS = """
import sys
from pathlib import Path
from pipelines.base import locks
sys.stderr = sys.stdout
with locks.held(Path("publish.lock")):
    print("held", flush=True)
"""

RACES = """
import sys
from pathlib import Path
from pipelines.base.artifacts import staged
from pipelines.base.errors import PipelineError
me = sys.argv[1]
sys.stdin.readline()
written = 0
for _ in range(15):
    try:
        with staged(Path("out")) as scratch:
            (scratch / "folder").mkdir()
            for name in ("a.txt", "folder/b.txt"):
                (scratch / name).write_text(me)
        written += 1
    except PipelineError as error:
        assert "another process" in str(error), error
print(written)
"""


@contextlib.contextmanager
def program(source, *arguments):
    process = subprocess.Popen(
        [sys.executable, "-c", source, *arguments],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
        env=os.environ | {"PYTHONPATH": str(ROOT)},
    )
    try:
        yield process
    finally:
        process.kill()
        process.communicate()


@pytest.fixture
def here(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    return tmp_path


def test_a_second_writer_is_refused_at_once_and_told_of_the_first(here):
    with program(HOLDS) as first:
        assert first.stdout.readline() == "in\n"
        with (
            pytest.raises(PipelineError, match=rf"out: another process \(pid {first.pid} on "),
            staged(here / "out"),
        ):
            pass
        first.stdin.write("\n")
        first.stdin.flush()
        assert first.wait(30) == 0
    assert (here / "out/a.txt").read_text() == "theirs"
    with staged(here / "out") as scratch:
        (scratch / "a.txt").write_text("ours")
    assert sorted(path.name for path in here.iterdir()) == ["out"]


def test_a_killed_writer_holds_nothing_and_leaves_nothing_for_long(here):
    with program(HOLDS) as first:
        first.stdout.readline()
        first.send_signal(signal.SIGKILL)
        first.wait(30)
    assert [path for path in here.glob(".out.*") if path.is_dir()]
    with staged(here / "out") as scratch:
        (scratch / "a.txt").write_text("ours")
    assert sorted(path.name for path in here.iterdir()) == ["out"]
    assert (here / "out/a.txt").read_text() == "ours"


def test_many_writers_at_once_leave_the_files_of_one(here):
    with contextlib.ExitStack() as stack:
        racers = [stack.enter_context(program(RACES, str(index))) for index in range(4)]
        for racer in racers:
            racer.stdin.write("\n")
            racer.stdin.flush()
        written = [int(racer.communicate(timeout=60)[0]) for racer in racers]
    assert sum(written) > 0 and all(racer.returncode == 0 for racer in racers)
    assert (here / "out/a.txt").read_text() == (here / "out/folder/b.txt").read_text()
    assert sorted(path.name for path in here.iterdir()) == ["out"]


def test_readers_share_and_a_writer_waits_for_them(here):
    lock = here / "publish.lock"
    with contextlib.ExitStack() as readers:
        for _ in range(2):
            readers.enter_context(locks.held(lock, shared=True))
        with program(WAITS) as writer:
            assert "waiting for another process" in writer.stdout.readline()
            readers.close()
            assert writer.stdout.readline() == "held\n"
