"""The config of a training: what a study's recipe becomes."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch

from pipelines.fetch.stage import fetch
from pipelines.prepare.stage import prepare
from pipelines.study import Study
from tests.pipelines import mini


@pytest.fixture
def configured(tmp_path, monkeypatch):
    """A function: the config of a training of `mini` with other values of `training`."""
    from pipelines.configs.training import training_config

    monkeypatch.chdir(tmp_path)

    def config(**training):
        mini.write_params(tmp_path, training=mini.study_file()["training"] | training)
        run = Study.load("mini").runs[0]
        fetch(run.dataset)
        prepare(run.dataset, jobs=1)
        return training_config(run, Path("work"))

    return config


@pytest.mark.parametrize(
    ("start", "first"), [({}, 0.01), ({"warmup_start_factor": 1e-6}, 0.05 * 1e-6)]
)
def test_the_learning_rate_rises_from_where_the_study_says(configured, start, first):
    from mmengine.optim import LinearLR

    config = configured(schedule={"warmup_iterations": 5} | start)
    warmup = dict(config.param_scheduler[0])
    assert (warmup.pop("type"), warmup["end"]) == ("LinearLR", 5)
    optimizer = torch.optim.SGD([torch.zeros(1)], lr=config.optim_wrapper.optimizer.lr)
    schedule = LinearLR(optimizer, **warmup)
    rates = []
    for _ in range(6):
        rates += schedule.get_last_value()
        optimizer.step()
        schedule.step()
    assert rates[0] == pytest.approx(first)
    assert rates == sorted(rates) and rates[4] == pytest.approx(0.05)


@pytest.mark.parametrize(
    ("recipe", "interval"),
    [
        ({}, 1),
        ({"iterations": 200}, 1),
        ({"iterations": 201}, 2),
        ({"iterations": 5000, "log_interval": 10}, 30),
        ({"iterations": 5000, "diagnostics_interval": 7}, 7),
    ],
)
def test_diagnostics_are_200_records_at_most_or_as_the_study_says(configured, recipe, interval):
    hooks = {hook["type"]: hook for hook in configured(**recipe).custom_hooks}
    assert hooks["DiagnosticsHook"]["interval"] == interval
    assert hooks["ReseedHook"]["priority"] == "VERY_LOW"
