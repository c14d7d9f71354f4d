"""The model entries of the project build, and take a step with and without semantic anchors."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import pytest

from pipelines.check import check_models
from pipelines.study import Study
from tests.pipelines import mini

ENTRIES = {
    "bisenetv2": [64, 64],
    "fcn_mobilenetv3": [64, 64],
    "lraspp_mobilenetv3": [400, 400],
    "pidnet_s": [64, 64],
    "segformer_b0": [64, 64],
    "unet": [32, 32],
}
"""By entry, a crop that is as small as it takes."""


@pytest.fixture
def study(tmp_path, monkeypatch):
    """A function: `mini` with one of the entries, and with other keys."""
    monkeypatch.chdir(tmp_path)
    mini.write_params(tmp_path)

    def load(entry: str, crop: list[int], **keys) -> Study:
        shutil.copy(mini.ROOT / f"params/models/{entry}.yaml", "params/models")
        file = mini.study_file() | {"models": [entry], "from_scratch": True} | keys
        file["training"] |= {"augmentation": {"scale_range": [1.0, 1.0], "crop_size": crop}}
        Path("params/studies/mini.yaml").write_text(json.dumps(file))
        return Study.load("mini")

    return load


@pytest.mark.parametrize(("entry", "crop"), ENTRIES.items())
def test_an_entry_takes_a_step_with_and_without_anchors(study, entry, crop):
    check_models(study(entry, crop))


def test_edges_are_drawn_for_a_loss_that_compares_with_them(study):
    from pipelines.configs.training import training_config
    from pipelines.fetch.stage import fetch
    from pipelines.prepare.stage import prepare

    for entry, expected in (("pidnet_s", 1), ("unet", 0)):
        run = study(entry, [32, 32]).runs[0]
        fetch(run.dataset)
        prepare(run.dataset)
        steps = training_config(run, Path("work"))["train_dataloader"]["dataset"]["pipeline"]
        edges = [step for step in steps if step["type"] == "GenerateEdge"]
        assert len(edges) == expected
        assert all(step["ignore_index"] == 255 and step["edge_width"] == 4 for step in edges)


@pytest.mark.slow
def test_a_net_with_edges_trains(study):
    from pipelines.fetch.stage import fetch
    from pipelines.prepare.stage import prepare
    from pipelines.train.stage import train

    [_, run] = study("pidnet_s", [32, 32]).runs
    fetch(run.dataset)
    prepare(run.dataset)
    train(run)
    curves = run.output("train", "curves.csv").read_text()
    assert "loss_bd" in curves.splitlines()[0]
