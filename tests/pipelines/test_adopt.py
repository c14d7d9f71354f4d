"""Adopting what DVC made; with a whole study it is tested in `tests.scenarios.test_two_drivers`."""

import pytest

from pipelines import adopt
from pipelines.base.errors import PipelineError


def test_a_program_that_fails_is_an_error_with_what_it_said():
    with pytest.raises(
        PipelineError, match=r"(?s)dvc nothing failed:\n.*invalid choice: 'nothing'"
    ):
        adopt._run("dvc", "nothing")


def test_what_a_program_warns_of_is_not_taken_for_what_it_prints():
    assert adopt._run("dvc", "--version").strip().count("\n") == 0
