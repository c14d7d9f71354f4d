"""What `auto` means, on machines of all kinds: none of them is needed here."""

from __future__ import annotations

import json

import pytest
import torch

from pipelines.configs import numerics
from pipelines.configs.numerics import Numerics
from pipelines.configs.training import training_config
from pipelines.study import Run
from tests.pipelines import mini


@pytest.fixture
def run(tmp_path, monkeypatch):
    """A function: the baseline's run of `mini` with these options of its model entry."""
    monkeypatch.chdir(tmp_path)
    mini.write_params(tmp_path)
    entry = tmp_path / f"params/models/{mini.MODEL}.yaml"
    text = "\n".join(
        line for line in entry.read_text().splitlines() if not line.startswith("channels_last")
    )

    def chosen(**options) -> Run:
        lines = [f"{key}: {json.dumps(value)}" for key, value in options.items()]
        entry.write_text("\n".join([text, *lines]) + "\n")
        return mini.load().runs[0]

    return chosen


@pytest.fixture
def machine(monkeypatch):
    """A function that makes this machine one with or without a GPU, and that GPU with bf16."""

    def make(gpu: bool, bf16: bool = False) -> None:
        monkeypatch.setattr(torch.cuda, "is_available", lambda: gpu)
        monkeypatch.setattr(torch.cuda, "is_bf16_supported", lambda including_emulation: bf16)

    return make


@pytest.mark.parametrize(
    ("gpu", "bf16", "large", "expected"),
    [
        (False, False, True, Numerics("float32", True)),
        (True, False, True, Numerics("float32", False)),
        (True, True, False, Numerics("float32", False)),
        (True, True, True, Numerics("bf16", True)),
    ],
)
def test_auto_is_bf16_for_large_models_on_gpus_that_have_it(
    run, machine, monkeypatch, gpu, bf16, large, expected
):
    machine(gpu, bf16)
    # The tiny model has 285,875 parameters, without void.
    monkeypatch.setattr(numerics, "LARGE", 285_000 if large else 286_000)
    assert numerics.numerics(run(precision="auto", channels_last="auto")) == expected
    assert numerics.numerics(run(channels_last="auto")) == ("float32", expected.channels_last)
    assert numerics.numerics(run(precision="auto")) == (expected.precision, False)


def test_what_is_said_counts_and_no_model_is_built_for_it(run, machine, monkeypatch):
    machine(True, True)
    monkeypatch.setattr(numerics, "_parameters", lambda run: pytest.fail("a model was built"))
    assert numerics.numerics(run()) == ("float32", False)
    assert numerics.numerics(run(precision="tf32", channels_last=True)) == ("tf32", True)


def test_the_config_says_what_was_chosen(run, machine, monkeypatch, tmp_path):
    monkeypatch.setattr(numerics, "LARGE", 1)
    for gpu, wrapper, last in ((True, "BFloat16OptimWrapper", True), (False, "OptimWrapper", True)):
        machine(gpu, True)
        monkeypatch.setattr("pipelines.configs.training.dataloader", lambda *_: {})
        monkeypatch.setattr("pipelines.configs.training.training_pipeline", lambda *_, **__: [])
        monkeypatch.setattr("pipelines.configs.training.evaluation_pipeline", lambda _: [])
        config = training_config(run(precision="auto", channels_last="auto"), tmp_path)
        assert config.optim_wrapper.type == wrapper
        assert ("ChannelsLastHook" in [hook.type for hook in config.custom_hooks]) == last


def test_tf32_is_for_those_who_ask(monkeypatch):
    backends = torch.backends
    before = backends.cuda.matmul.allow_tf32, backends.cudnn.allow_tf32
    try:
        for allowed in (True, False):
            numerics.allow_tf32(allowed)
            assert backends.cuda.matmul.allow_tf32 == backends.cudnn.allow_tf32 == allowed
    finally:
        backends.cuda.matmul.allow_tf32, backends.cudnn.allow_tf32 = before
