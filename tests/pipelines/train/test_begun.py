"""A training goes on as it was begun, and its receipt says what was left to the machine."""

from __future__ import annotations

import pytest

from pipelines.base.artifacts import read_json
from pipelines.base.errors import PipelineError
from pipelines.base.receipts import read_receipt
from pipelines.configs import numerics
from pipelines.configs.numerics import Numerics
from pipelines.fetch import stage as fetch
from pipelines.prepare import stage as prepare
from pipelines.running.finished import require_comparable
from pipelines.study import Run
from pipelines.train import stage as train
from pipelines.train.begun import CHOSEN
from pipelines.train.hooks import DiagnosticsHook
from tests.pipelines import mini


@pytest.fixture
def runs(tmp_path, monkeypatch):
    """The runs of `mini`, whose model leaves everything to the machine."""
    monkeypatch.chdir(tmp_path)
    mini.write_params(tmp_path)
    entry = tmp_path / f"params/models/{mini.MODEL}.yaml"
    text = entry.read_text().replace("channels_last: true", "channels_last: auto")
    entry.write_text(f"{text}precision: auto\n")
    for dataset in mini.load().datasets.values():
        fetch.fetch(dataset)
        prepare.prepare(dataset)
    return mini.load().runs


def choose(monkeypatch, precision: str) -> None:
    monkeypatch.setattr(numerics, "_by_rule", lambda run: Numerics(precision, True))


def stopped_at(run: Run, monkeypatch, iteration: int) -> None:
    class Stopped(Exception):
        pass

    def stops(self, runner, *args, **kwargs):
        if runner.iter == iteration:
            raise Stopped
        original(self, runner, *args, **kwargs)

    original = DiagnosticsHook.after_train_iter
    with monkeypatch.context() as patch:
        patch.setattr(DiagnosticsHook, "after_train_iter", stops)
        with pytest.raises(Stopped):
            train.train(run)


def test_a_training_is_resumed_only_where_the_same_is_chosen(runs, monkeypatch):
    run, other = runs
    choose(monkeypatch, "bf16")
    stopped_at(run, monkeypatch, 4)
    [note] = run.study.work.rglob(CHOSEN)
    assert read_json(note) == {"channels_last": True, "precision": "bf16"}
    choose(monkeypatch, "float32")
    with pytest.raises(PipelineError, match=rf"{CHOSEN}: {run.name} was begun with precision bf16"):
        train.train(run)
    assert not run.output("train", "receipt.json").exists()
    choose(monkeypatch, "bf16")
    train.train(run)
    receipt = read_receipt(run.output("train", "receipt.json"))
    assert receipt.chosen == {"channels_last": True, "precision": "bf16"}
    assert "BFloat16OptimWrapper" in run.output("train", "config.py").read_text()
    # Its pair was trained elsewhere.
    choose(monkeypatch, "float32")
    train.train(other)
    with pytest.raises(
        PipelineError,
        match=rf"computed in different ways.*{run.name} with channels_last True, precision bf16; "
        rf"{other.name} with channels_last True, precision float32",
    ):
        require_comparable(runs)
