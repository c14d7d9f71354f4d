"""An encoder of timm under a head of mmsegmentation, with random weights."""

from __future__ import annotations

import pytest
import torch
from cases import predicts, step, with_head

REASON = "timm needs torchvision, which the locked CPU build of torch does not have beside it"
timm = pytest.importorskip("timm", reason=REASON, exc_type=ImportError)

from sar.adapters.timm import Encoder  # noqa: E402  needs timm

TYPE = "sar.adapters.timm.Encoder"


@pytest.mark.parametrize("name", ["resnet10t", "mobilenetv3_small_050", "convnext_atto"])
def test_an_encoder_trains_with_anchors(name, batch):
    channels = Encoder(name, out_indices=[1, 2, 3]).channels
    backbone = {"type": TYPE, "name": name, "out_indices": [1, 2, 3]}
    predicts(step(with_head(backbone, channels), batch), batch)


def test_the_channels_that_the_documentation_states():
    assert Encoder("convnext_atto", out_indices=[0, 1, 2, 3]).channels == [40, 80, 160, 320]


def test_the_maps_have_their_channels_first():
    encoder = Encoder("swin_tiny_patch4_window7_224", img_size=64, window_size=2)
    maps = encoder(torch.zeros(1, 3, 64, 64))
    assert [tuple(each.shape[1:]) for each in maps] == [
        (96, 16, 16),
        (192, 8, 8),
        (384, 4, 4),
        (768, 2, 2),
    ]
    assert encoder.channels == [96, 192, 384, 768]


def test_an_unknown_model_is_named():
    with pytest.raises(ValueError, match="has no model 'resnet10x'"):
        Encoder("resnet10x")


def test_maps_that_are_not_there_are_refused():
    with pytest.raises(ValueError, match="'resnet10t' gives no such feature maps"):
        Encoder("resnet10t", out_indices=[9])
