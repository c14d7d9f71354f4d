"""What `make` is told: options that it knows, and names that reach the shell as they are."""

import os
import shutil
import subprocess

import pytest

from tests.pipelines.mini import ROOT


def make(folder, *words, **environment):
    return subprocess.run(
        ["make", *words], cwd=folder, capture_output=True, text=True, env=os.environ | environment
    )


@pytest.fixture
def folder(tmp_path):
    """A folder with the Makefile and a `python` that writes down what it is called with."""
    folder = tmp_path / "My Projects" / "é"
    (folder / ".venv/bin").mkdir(parents=True)
    for name in ("Makefile", "pyproject.toml", "requirements.lock", "requirements-dev.lock"):
        shutil.copy(ROOT / name, folder)
    program = folder / ".venv/bin/python"
    program.write_text('#!/bin/sh\nprintf "%s\\n" "$@" >> calls\n')
    program.chmod(0o755)
    (folder / ".venv/.installed").touch()
    return folder


@pytest.mark.parametrize("study", ["mini", "my studies/mine.yaml", "x;touch Y", "x' $(touch Y)"])
@pytest.mark.parametrize("target", ["reproduce", "adopt", "publish"])
def test_a_study_reaches_the_command_as_it_is(folder, target, study):
    # make itself takes $ for its own unless it is doubled.
    done = make(folder, target, f"STUDY={study.replace('$', '$$')}")
    assert done.returncode == 0, done.stderr
    words = (folder / "calls").read_text().splitlines()
    assert study in words or f"study={study}" in words
    assert not (folder / "Y").exists()


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["study=x"], "unknown: study=; expected STUDY=NAME"),
        (["STDY=x", "PYTHON=python3"], "unknown: STDY=; expected"),
        (["STUDY="], "STUDY= is empty"),
        (["STUDY= "], "STUDY= is empty"),
    ],
)
def test_a_misspelt_or_empty_option_is_an_error_before_anything_runs(folder, words, message):
    done = make(folder, "reproduce", *words)
    assert done.returncode != 0
    assert message in done.stderr
    assert not (folder / "calls").exists()


def test_a_variable_of_the_environment_is_nobodys_mistake(folder):
    assert make(folder, "reproduce", study="x").returncode == 0
    assert "study=default" in (folder / "calls").read_text()
