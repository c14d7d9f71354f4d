"""What the commands of all stages share."""

import os
import subprocess
import sys

import pytest

from pipelines.running.cli import guarded, limit_threads, stage_parser


@pytest.mark.parametrize("words", [["--stud", "x"], ["--studdy", "x"], ["study=x"], ["--study"]])
def test_a_misspelt_option_is_named(words, capsys):
    with pytest.raises(SystemExit) as ended:
        stage_parser("train", None, runs=True).parse_args(words)
    assert ended.value.code == 2
    assert words[0] in capsys.readouterr().err


@pytest.mark.parametrize("lines", [1, 100_000])
def test_a_reader_that_has_gone_ends_a_command_without_a_traceback(lines):
    code = "import sys; from pipelines.running.cli import guarded;"
    code += f"sys.exit(guarded(lambda: print('line\\n' * {lines})))"
    process = subprocess.Popen(
        [sys.executable, "-c", code], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    )
    process.stdout.close()
    assert process.stderr.read() == ""
    process.stderr.close()
    assert process.wait(60) == 141


def test_another_pipe_that_breaks_is_an_error(capfd):
    with pytest.raises(BrokenPipeError, match="the store's"):
        guarded(_broken)


def _broken():
    raise BrokenPipeError("the store's")


@pytest.mark.parametrize("start", [lambda: guarded(lambda: None), lambda: limit_threads(2)])
@pytest.mark.parametrize(("given", "expected"), [(None, "PASSIVE"), ("ACTIVE", "ACTIVE")])
def test_threads_that_wait_sleep_unless_somebody_chose(start, given, expected, monkeypatch):
    for name in ("OMP_NUM_THREADS", "MKL_NUM_THREADS", "OPENBLAS_NUM_THREADS"):
        monkeypatch.setenv(name, "1")  # restored afterwards
    monkeypatch.setenv("OMP_WAIT_POLICY", given or "")
    if given is None:
        monkeypatch.delenv("OMP_WAIT_POLICY")
    start()
    assert os.environ["OMP_WAIT_POLICY"] == expected
