"""The page of commands: each of its lines runs, in its order, and prints what the page says."""

from __future__ import annotations

import re
import shlex
import shutil
from pathlib import Path

import pytest

from tests.pipelines import mini
from tests.scenarios import project

_ROW = re.compile(r"^\| `([^`]+)` \| .+ \| `([^`]+)` \|$", re.MULTILINE)


def rows() -> list[tuple[str, str]]:
    """(line, part of what it prints), as they stand on the page."""
    return _ROW.findall((mini.ROOT / "docs/commands.md").read_text(encoding="utf-8"))


@pytest.mark.slow
def test_every_command_of_the_page_prints_what_the_page_says(tmp_path):
    default_study(tmp_path)
    assert len(rows()) > 30
    for line, printed in rows():
        output = project.called(tmp_path, *shlex.split(line))
        assert printed in output, f"`{line}` prints:\n{output[-2000:]}"


def default_study(folder: Path) -> None:
    """A project whose default study is the one in miniature."""
    project.create(folder)
    project.git(folder, "branch", "--move", "main")
    project.git(folder, "mv", str(project.STUDY), "params/studies/default.yaml")
    shutil.rmtree(folder / "workflow/dvc")
    (folder / "benchmarks").mkdir()
    shutil.copy(mini.ROOT / "benchmarks/step_times.csv", folder / "benchmarks")
    project.python(folder, "-m", "pipelines.drivers.dvc_yaml")
    project.commit(folder, "It is the default one")
