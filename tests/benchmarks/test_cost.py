"""What the benchmark of the costs says without timing anything: inference is the baseline's."""

import pytest
import torch

from benchmarks import cost
from sar.mmseg import apply_sar


@pytest.fixture(scope="module")
def trained():
    """The baseline and SAR after two steps on the same batch, and the batch."""
    from mmengine.registry import init_default_scope
    from mmseg.utils import register_all_modules

    register_all_modules()
    init_default_scope("mmseg")
    config = cost.model_config("fcn_hrnet_tiny")
    batch = cost.Batch.random(2, 32, config.decode_head.num_classes, "cpu")
    models = {"baseline": cost.build(config, "cpu"), "sar": cost.build(apply_sar(config), "cpu")}
    for model in models.values():
        step = cost.step_of(model, batch)
        step()
        step()
    return config, batch, models


def test_the_exported_weights_have_equal_names_shapes_and_bytes(trained, tmp_path):
    _, _, models = trained
    files = {name: tmp_path / f"{name}.safetensors" for name in models}
    for name, model in models.items():
        cost.export(model, files[name])
    assert cost.differences(*files.values()) == []
    # Not because they are the same file: training with anchors gave other values.
    assert files["baseline"].read_bytes() != files["sar"].read_bytes()


def test_differing_files_are_told_apart(tmp_path):
    from safetensors.torch import save_file

    a, b = tmp_path / "a", tmp_path / "b"
    save_file({"x": torch.zeros(2), "y": torch.zeros(3)}, a)
    save_file({"x": torch.zeros(4), "z": torch.zeros(3)}, b)
    found = cost.differences(a, b)
    assert "only one has y" in found and "only one has z" in found
    assert any(line.startswith("x: ((2,), ") for line in found)


def test_inference_executes_the_same_operations_in_the_same_modules(trained, tmp_path):
    config, batch, models = trained
    path = tmp_path / "sar.safetensors"
    cost.export(models["sar"], path)
    bare = cost.build(config, "cpu")
    bare.load_state_dict(cost.load_file(path), strict=True)
    kinds = [[type(module) for module in model.modules()] for model in (bare, models["baseline"])]
    assert kinds[0] == kinds[1]
    expected = cost.operations(models["baseline"], batch)
    assert len(expected) > 50
    assert cost.operations(bare, batch) == expected
    # The plug-in itself, in the model that was trained with it, takes no part.
    assert cost.operations(models["sar"], batch) == expected


def test_training_adds_parameters_and_the_report_counts_them(trained):
    from sar.regularizer import SemanticAnchorRegularizer

    config, _, models = trained
    counts = {name: sum(p.numel() for p in m.parameters()) for name, m in models.items()}
    shape = config.decode_head.num_classes, config.decode_head.channels
    own = sum(p.numel() for p in SemanticAnchorRegularizer(*shape).parameters())
    assert counts["sar"] - counts["baseline"] == own > 0
