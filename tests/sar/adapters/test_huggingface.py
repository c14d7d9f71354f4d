"""An encoder of transformers under a head of mmsegmentation: tiny, with random weights."""

from __future__ import annotations

import pytest
import torch
from cases import predicts, step, with_head

transformers = pytest.importorskip("transformers")

from sar.adapters.huggingface import Encoder  # noqa: E402  needs transformers

SEGFORMER = {
    "hidden_sizes": [8, 16, 24, 32],
    "depths": [1, 1, 1, 1],
    "num_attention_heads": [1, 2, 3, 4],
    "drop_path_rate": 0.0,
}
RESNET = {"embedding_size": 8, "hidden_sizes": [8, 16], "depths": [1, 1], "layer_type": "basic"}
TYPE = "sar.adapters.huggingface.Encoder"


def test_a_segformer_trains_with_anchors(batch):
    backbone = {"type": TYPE, "model_type": "segformer", "settings": SEGFORMER}
    predicts(step(with_head(backbone, [8, 16, 24, 32]), batch), batch)


def test_a_backbone_of_theirs_gives_all_its_stages(batch):
    backbone = {"type": TYPE, "model_type": "resnet", "settings": RESNET}
    predicts(step(with_head(backbone, [8, 16]), batch), batch)


def test_the_maps_are_those_of_the_model_itself():
    encoder = Encoder("segformer", SEGFORMER).eval()
    images = torch.randn(1, 3, 64, 96)
    with torch.no_grad():
        maps = encoder(images)
        last = encoder.encoder(pixel_values=images).last_hidden_state
    assert [tuple(each.shape[1:]) for each in maps] == [
        (8, 16, 24),
        (16, 8, 12),
        (24, 4, 6),
        (32, 2, 3),
    ]
    assert torch.equal(maps[-1], last)


def test_some_of_the_maps():
    images = torch.zeros(1, 3, 64, 64)
    maps = Encoder("segformer", SEGFORMER, out_indices=[0, -1])(images)
    assert [each.shape[1] for each in maps] == [8, 32]
    with pytest.raises(ValueError, match="out_indices has 4, and there are 4 maps"):
        Encoder("segformer", SEGFORMER, out_indices=[4])(images)


def test_the_weights_are_the_seeds():
    torch.manual_seed(3)
    first = Encoder("segformer", SEGFORMER).state_dict()
    torch.manual_seed(3)
    second = Encoder("segformer", SEGFORMER).state_dict()
    assert all(torch.equal(first[name], second[name]) for name in first)


def test_an_unknown_type_is_named():
    with pytest.raises(ValueError, match="has no model of type 'segforme'"):
        Encoder("segforme")


def test_a_model_without_maps_is_refused():
    tiny = {"hidden_size": 8, "num_hidden_layers": 1, "num_attention_heads": 1}
    tiny |= {"intermediate_size": 8, "image_size": 32}
    with pytest.raises(ValueError, match="gives no feature maps"):
        Encoder("vit_mae", tiny)(torch.zeros(1, 3, 32, 32))
