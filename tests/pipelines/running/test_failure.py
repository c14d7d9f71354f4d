"""The last line of the log of a command that failed."""

import subprocess

import pytest

from pipelines.running import failure
from tests.pipelines.mini import ROOT


@pytest.mark.parametrize(
    ("status", "lines", "reason"),
    [
        (2, ["begin", "error: a.yaml: seeds: twice", ""], "exit status 2: a.yaml: seeds: twice"),
        (2, ["error: first", "error: last", "so ends it"], "exit status 2: last"),
        (1, ["Traceback", '  File "x.py"', "ValueError: no"], "exit status 1: ValueError: no"),
        (1, [" ", ""], "exit status 1 and said nothing"),
        (137, ["error: no"], "ended by SIGKILL, as where memory runs out"),
        (139, [], "ended by SIGSEGV"),
        (255, [], "ended by signal 127"),
        (0, ["done"], "it did its work, and its log could not be written"),
    ],
)
def test_a_reason_is_the_signal_or_what_was_said_last(status, lines, reason):
    assert failure.reason(status, lines) == reason


def test_it_ends_the_log_and_the_status_stays(tmp_path):
    log = tmp_path / "train.log"
    log.write_bytes(b"\xff\n" * 100_000 + b"error: the loss is not finite\n")
    assert failure.main(["2", str(log)]) == 2
    line = f"train failed ({log}): exit status 2: the loss is not finite\n"
    assert log.read_bytes().endswith(b"not finite\n" + line.encode())


@pytest.mark.parametrize(
    ("command", "status", "reason"),
    [
        ("true", 0, None),
        ("echo 'error: no'; exit 2", 2, "exit status 2: no"),
        ("kill -9 $$", 137, "ended by SIGKILL, as where memory runs out"),
    ],
)
def test_what_the_rules_end_with(tmp_path, command, status, reason):
    common = (ROOT / "workflow/rules/common.smk").read_text()
    namespace: dict = {}
    exec(common[common.index("def logged") : common.index("def declared")], namespace)
    log = tmp_path / "a log of fetch.log"
    line = namespace["logged"](f'bash -c "{command}"').replace("{log:q}", f"'{log}'")
    line = line.replace("{{", "{").replace("}}", "}").replace("$$", "\\$\\$")
    done = subprocess.run(["bash", "-c", f"set -euo pipefail; {line}"], cwd=ROOT)
    assert done.returncode == status
    last = log.read_text().splitlines()[-1:]
    assert last == ([] if reason is None else [f"a log of fetch failed ({log}): {reason}"])


def test_a_log_that_cannot_be_written_is_a_failure(capsys):
    assert failure.main(["0", "/dev/full"]) == 1
    assert "its log could not be written" in capsys.readouterr().err
