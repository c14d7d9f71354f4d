"""What every adapter has to do: train with semantic anchors on top, and predict."""

from __future__ import annotations

import torch
from mmengine.registry import init_default_scope
from mmseg.registry import MODELS
from mmseg.utils import register_all_modules
from sar_cases import head, segmentor

from sar.mmseg import apply_sar


def with_head(backbone: dict, channels: list[int], **options) -> dict:
    """A model of that backbone with a head that joins maps of these channels."""
    several = len(channels) > 1
    inputs = {
        "in_channels": channels if several else channels[0],
        "in_index": list(range(len(channels))) if several else 0,
        "input_transform": "resize_concat" if several else None,
    }
    settings = {"num_convs": 1, "concat_input": False, "channels": 8} | options
    return segmentor(head("FCNHead", **inputs, **settings), backbone)


def step(config: dict, batch) -> torch.nn.Module:
    """The model of `config` with SAR, after its loss went backward; checks what that leaves."""
    register_all_modules(init_default_scope=False)
    init_default_scope("mmseg")
    images, samples = batch
    model = MODELS.build(apply_sar(config)).train()
    model.init_weights()
    losses = model.loss(images, samples)
    assert {"sar.loss_aux_ce", "sar.loss_p2a", "decode.loss_ce"} <= losses.keys()
    loss, _ = model.parse_losses({k: v for k, v in losses.items() if "loss" in k})
    loss.backward()
    gradients = [each.grad for each in model.backbone.parameters() if each.requires_grad]
    reached = [each for each in gradients if each is not None and each.abs().sum() > 0]
    assert torch.isfinite(loss) and len(reached) > len(gradients) / 2
    return model


def predicts(model: torch.nn.Module, batch) -> None:
    images, _ = batch
    with torch.no_grad():
        scores = model.eval()(images, mode="tensor")
    assert scores.shape[:2] == (len(images), 5)
    assert torch.isfinite(scores).all()
