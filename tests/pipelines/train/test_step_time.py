from __future__ import annotations

import pytest

from pipelines.base.errors import PipelineError
from pipelines.train.step_time import noise, seconds_per_step
from tests.pipelines import mini


@pytest.fixture
def run(tmp_path, monkeypatch):
    mini.write_params(tmp_path)
    monkeypatch.chdir(tmp_path)
    return next(run for run in mini.load().runs if run.method == "sar")


def test_as_many_steps_are_trained_as_are_asked_for(run):
    taken = []

    def counted():
        for batch in noise(run):
            taken.append(len(batch["inputs"]))
            yield batch

    assert seconds_per_step(run, counted(), steps=2, warm_up=1) > 0
    assert taken == [2, 2, 2]  # images of a batch


def test_a_step_of_one_thread_is_timed_by_its_own_clock(run, monkeypatch, caplog):
    """What else the machine does counts for nothing, and nothing is listed but what was asked."""
    readings = iter(range(0, 1000, 7))
    monkeypatch.setattr("time.process_time", lambda: next(readings))
    with caplog.at_level("INFO"):
        assert seconds_per_step(run, noise(run), steps=1, warm_up=1) == 7
    assert not [record for record in caplog.records if "paramwise_options" in record.message]


def test_noise_needs_a_crop(tmp_path, monkeypatch):
    training = mini.study_file()["training"] | {"augmentation": {}}
    mini.write_params(tmp_path, training=training)
    monkeypatch.chdir(tmp_path)
    with pytest.raises(PipelineError, match="training.augmentation.crop_size: expected one"):
        next(noise(mini.load().runs[0]))
