"""A training step as a CUDA graph, as `benchmarks/gpu.py` times it."""

from __future__ import annotations

import pytest
import torch
from mmengine.registry import init_default_scope
from torch import nn

from benchmarks.cost import Batch
from benchmarks.on_gpu import steps
from sar.packaged import register_mmseg

pytestmark = [
    pytest.mark.gpu,
    pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA device"),
]


@pytest.mark.parametrize("method", ["baseline", "SAR"])
def test_a_step_as_a_graph_is_the_step(method, monkeypatch):
    """Six steps either way, three of them the graph's warm-up: the same loss within 0.2 %."""
    monkeypatch.setattr(torch.backends.cudnn, "allow_tf32", False)
    register_mmseg()
    init_default_scope("mmseg")
    batch = Batch.random(4, (64, 96), 11, "cuda")

    def step():
        model = steps.models_of("fcn_hrnet_tiny", "cuda")[method]
        for module in model.modules():
            if isinstance(module, nn.Dropout2d):
                module.p = 0.0  # a graph draws other numbers
        return steps.step_of(model, batch, bf16=False, path="torch")

    plain = step()
    expected = [plain().item() for _ in range(6)]
    graph = steps.as_graph(step())
    found = [graph().item() for _ in range(3)]
    assert len(set(found)) == 3  # it trains
    torch.testing.assert_close(found, expected[3:], rtol=2e-3, atol=0.0)
