"""How long a first study may take, and what it never does."""

from __future__ import annotations

from collections import Counter
from pathlib import Path

import pytest

from pipelines import new
from pipelines.base.errors import PipelineError
from pipelines.card.first_study import Facts, study_text
from pipelines.study import Dataset, Study
from tests.pipelines import mini


@pytest.fixture
def facts(tmp_path, monkeypatch):
    mini.write_params(tmp_path)
    monkeypatch.chdir(tmp_path)
    counts = {"train": 367, "val": 101, "test": 233}
    return Facts(Dataset.load("mini"), mini.MODEL, "cpu", counts, Counter({(480, 360): 367}))


def test_a_budget_bounds_the_iterations(facts, monkeypatch):
    monkeypatch.setattr("joblib.cpu_count", lambda: 2)
    assert facts.rounds == 5  # nine runs, two at a time
    assert new.affordable(facts, seconds=0.5, budget=10) == 240
    assert new.affordable(facts, seconds=50, budget=10) == 20
    # Five rounds of 240 steps of 0.5 s, 20 s each besides, and a forward pass of 233 images.
    Path("params/studies/first.yaml").write_text(study_text(facts, 240, "so: it is"))
    study = Study.load("first")
    seconds = 240 * 0.5 + 20 + 233 * (0.5 / 3 / 8) * (240 * 180) / (160 * 160)
    assert new.minutes(facts, study, 0.5, 240) == pytest.approx(5 * seconds / 60)


def test_a_study_is_not_replaced_unasked(facts, capsys):
    before = Path("params/studies/mini.yaml").read_bytes()
    assert new.main(["mini"]) == 2
    assert "params/studies/mini.yaml: is there already" in capsys.readouterr().err
    assert Path("params/studies/mini.yaml").read_bytes() == before
    assert new.main(["mini", "--minutes", "0"]) == 2
    assert new.main(["mini", "--name", "other", "--model", "nope"]) == 2
    assert "params/models/nope.yaml: no such file; params/models has" in capsys.readouterr().err
    assert new.main(["mini", "--seeds", "0"]) == 2


def test_an_error_names_the_study_and_not_its_draft(facts, monkeypatch, capsys):
    """As where a crop is too large for the data."""
    monkeypatch.setattr(new, "facts_of", lambda *_: facts)

    def refused(run):
        raise PipelineError(f"{run.study.path}: training.augmentation.crop_size: too large")

    monkeypatch.setattr(new, "_measure", refused)
    assert new.main(["mini", "--name", "other", "--model", mini.MODEL]) == 2
    said = capsys.readouterr().err
    assert "params/studies/other.yaml: was not written: training.augmentation.crop_size" in said
    assert not Path("params/studies/other.yaml").exists()
