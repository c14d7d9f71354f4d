"""What a trained model costs: operations by hand, times and memory by their relations."""

import json

import pytest
import torch

from sar.cli import main
from sar.errors import SarError
from sar.trained.benchmark import _quantile, benchmark
from sar.trained.bundle import write_bundle
from sar.trained.model import TrainedModel


def test_operations_are_counted_for_one_image(bundle):
    model = TrainedModel(bundle)
    counted = []
    for module in model.modules():
        if isinstance(module, torch.nn.Conv2d):
            module.register_forward_hook(
                lambda module, _, out: counted.append(
                    2 * out.numel() * module.weight[0].numel() if len(out) == 1 else 0
                )
            )
    cost = benchmark(model, size=(32, 48), batch=2, passes=2, warm_up=1)
    assert cost.flops == sum(counted) > 0
    assert cost.parameters == sum(p.numel() for p in model.parameters())
    assert (cost.batch, cost.height, cost.width, cost.passes) == (2, 32, 48, 2)
    assert 0 < cost.latency_ms <= cost.latency_p90_ms
    assert cost.images_per_second > 0 and cost.peak_memory_mib > 10


def test_a_table_for_people_and_json_for_programs(tmp_path, bundle, capsys):
    write_bundle(bundle, tmp_path / "model.safetensors")
    arguments = ["benchmark", "--checkpoint", str(tmp_path / "model.safetensors"), "--size"]
    arguments += ["32x48", "--passes", "2", "--warm-up", "1", "--device", "cpu"]
    assert main(arguments) == 0
    names = [line.split("  ")[0] for line in capsys.readouterr().out.splitlines()]
    assert names == [
        "device", "images", "parameters", "operations", "latency", "throughput", "peak memory"
    ]  # fmt: skip
    assert main([*arguments, "--json"]) == 0
    values = json.loads(capsys.readouterr().out)
    assert values["height"] == 32 and values["width"] == 48 and values["device"] == "cpu"
    with pytest.raises(SystemExit):
        main([*arguments, "--batch", "0"])
    assert "expected a whole number, 1 or more" in capsys.readouterr().err


def test_images_that_the_model_cannot_take_are_named(bundle, monkeypatch):
    model = TrainedModel(bundle)
    monkeypatch.setattr(model, "forward", lambda images: images.view(7))
    with pytest.raises(SarError, match="does not run on 1 images of 32x48 on cpu: shape"):
        benchmark(model, size=(32, 48))


def test_nine_of_ten_take_no_longer():
    assert _quantile([3, 1, 2, 10, 5, 4, 6, 8, 7, 9], 0.9) == 9
    assert _quantile([2.0, 1.0], 0.9) == 2.0 and _quantile([1.0], 0.9) == 1.0
