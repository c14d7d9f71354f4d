"""The table of the model entries: what is counted without timing anything."""

import pandas as pd
import pytest
import torch
from torch import nn

from benchmarks import cost, models
from pipelines.base.errors import PipelineError
from pipelines.publish import readme
from pipelines.study import params_names


@pytest.fixture(autouse=True)
def _registered():
    from mmengine.registry import init_default_scope
    from mmseg.utils import register_all_modules

    register_all_modules()
    init_default_scope("mmseg")


def test_operations_are_those_of_the_layers(monkeypatch):
    class Net(nn.Conv2d):
        def forward(self, images, mode):
            return super().forward(images)

    monkeypatch.setattr(cost, "model_config", lambda name: name)
    monkeypatch.setattr(cost, "build", lambda config, device: Net(3, 8, 1))
    assert models.gflops("net") == pytest.approx(2 * 3 * 8 * 512 * 512 / 1e9)


def test_a_row_says_what_the_model_has():
    row = models.measure("fcn_hrnet_tiny", 32, 1, "cpu")
    built = cost.build(cost.model_config("fcn_hrnet_tiny"), "cpu")
    assert row["parameters"] == sum(p.numel() for p in built.parameters())
    assert row["crop"] == 32 and row["peak_mib"] > 0 and row["gflops"] > 0
    assert set(row) < set(models.COLUMNS)
    assert torch.get_default_device().type == "cpu"


def test_every_entry_is_in_the_published_table():
    table = pd.read_csv(models.TABLE)
    assert sorted(table["model"]) == params_names("models")


def test_a_row_takes_the_place_of_an_older_one(tmp_path):
    table = tmp_path / "models.csv"
    for name, crop in (("unet", 1), ("bisenetv2", 2), ("unet", 3)):
        models.record(dict.fromkeys(models.COLUMNS, 0) | {"model": name, "crop": crop}, table)
    table.write_text(table.read_text() + table.read_text().splitlines()[1].replace("bise", "gone"))
    models.record(dict.fromkeys(models.COLUMNS, 0) | {"model": "segformer_b0", "crop": 4}, table)
    found = pd.read_csv(table)
    assert dict(zip(found["model"], found["crop"], strict=True)) == {
        "bisenetv2": 2,
        "segformer_b0": 4,
        "unet": 3,
    }


def test_the_smallest_model_comes_first(tmp_path):
    path = tmp_path / "models.csv"
    columns = ["model", "title", "parameters", "gflops", "crop", "step_ms", "peak_mib"]
    rows = [["big", "Big", 2_500_000, 3.14159, 128, 20, 5], ["a", "A", 1_000, 0.1, 64, 1, 2]]
    table = pd.DataFrame(rows, columns=columns)
    table.to_csv(path, index=False)
    _, _, first, second = readme.models_table(path).splitlines()
    cells = [[cell.strip() for cell in line.split("|")[1:-1]] for line in (first, second)]
    assert cells[0] == ["`a`", "A", "0.00", "0.1", "64", "1", "2"]
    assert cells[1] == ["`big`", "Big", "2.50", "3.1", "128", "20", "5"]
    table.drop(columns="crop").to_csv(path, index=False)
    with pytest.raises(PipelineError, match="no column 'crop'; run python -m benchmarks.models"):
        readme.models_table(path)
