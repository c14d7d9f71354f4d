"""Encoders and models of segmentation_models.pytorch under a head of mmsegmentation."""

from __future__ import annotations

import pytest
import torch
from cases import predicts, step, with_head
from sar_cases import sample

REASON = "segmentation_models.pytorch needs torchvision, which the locked torch does not have"
smp = pytest.importorskip("segmentation_models_pytorch", reason=REASON, exc_type=ImportError)

from sar.adapters.smp import Encoder, Model  # noqa: E402  needs segmentation_models.pytorch


@pytest.mark.parametrize("name", ["resnet18", "mobilenet_v2"])
def test_an_encoder_trains_with_anchors(name, batch):
    channels = Encoder(name).channels
    backbone = {"type": "sar.adapters.smp.Encoder", "name": name}
    predicts(step(with_head(backbone, channels), batch), batch)


def test_a_whole_model_trains_with_anchors_on_its_decoder(batch):
    images = torch.nn.functional.pad(batch[0], (0, 0, 0, 16))  # It takes multiples of 32 alone.
    batch = images, [sample(torch.randint(0, 5, (64, 64))) for _ in images]
    backbone = {
        "type": "sar.adapters.smp.Model",
        "architecture": "Unet",
        "encoder_name": "resnet18",
        "decoder_channels": [64, 32, 16, 16, 8],
    }
    predicts(step(with_head(backbone, [8], num_convs=0), batch), batch)


def test_the_encoder_s_maps_are_of_strides_4_to_32():
    maps = Encoder("resnet18")(torch.zeros(1, 3, 64, 64))
    assert [each.shape[-1] for each in maps] == [16, 8, 4, 2]


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: Encoder("resnet17"), "has no such encoder: .*resnet17"),
        (lambda: Encoder("resnet18", out_indices=[6]), "out_indices has 6, and there are 6 maps"),
        (lambda: Model("Unit", "resnet18"), "has no model 'Unit'"),
        (lambda: Model("Unet", "resnet17"), "has no such encoder: .*resnet17"),
    ],
    ids=["encoder", "map", "model", "encoder of a model"],
)
def test_what_they_do_not_have_is_named(make, message):
    with pytest.raises(ValueError, match=message):
        make()
