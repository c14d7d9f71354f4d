from __future__ import annotations

import pytest

from benchmarks import step_times


def test_the_command_says_how_it_is_called(capsys):
    with pytest.raises(SystemExit) as stopped:
        step_times.main(["--help"])
    assert stopped.value.code == 0
    said = capsys.readouterr().out
    assert said.startswith("usage: python benchmarks/step_times.py")
    assert "--warm-up" in said
