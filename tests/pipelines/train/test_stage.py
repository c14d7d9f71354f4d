"""What a training says of itself in `runtime.json`, and that its receipt does not depend on it."""

from __future__ import annotations

import pytest

from pipelines.base.artifacts import read_json
from pipelines.fetch.stage import fetch
from pipelines.prepare.stage import prepare
from pipelines.train.stage import train
from sar.pull import Taken
from tests.pipelines import mini


@pytest.fixture
def runs(tmp_path, monkeypatch):
    """The runs of `mini` by their methods, its data prepared; SAR pulls in every iteration."""
    monkeypatch.chdir(tmp_path)
    methods = mini.study_file()["methods"]
    methods["sar"]["options"] = {"gated": False}
    mini.write_params(tmp_path, methods=methods)
    loaded = mini.load()
    for dataset in loaded.datasets.values():
        fetch(dataset)
        prepare(dataset)
    return {run.method: run for run in loaded.runs}


def facts(run):
    train(run)
    receipt = run.output("train", "receipt.json").read_bytes()
    return receipt, read_json(run.output("train", "runtime.json"))


def test_it_says_how_the_pull_was_computed_and_the_receipt_does_not(runs, monkeypatch):
    receipt, runtime = facts(runs["sar"])
    assert runtime["pull"] == ["blocks"]
    assert 0 <= runtime["waiting_for_images"] <= 1
    monkeypatch.setattr(Taken, "names", lambda self: ["kernel"])
    monkeypatch.setattr("pipelines.running.progress._waiting_shares", lambda work: [0.25, 0.5])
    again, other = facts(runs["sar"])
    assert other["pull"] == ["kernel"] and other["waiting_for_images"] == 0.375
    assert again == receipt


def test_what_an_earlier_training_of_the_process_took_is_not_that_of_the_next(runs):
    facts(runs["sar"])
    _, runtime = facts(runs["baseline"])
    assert "pull" not in runtime
