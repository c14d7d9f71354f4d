"""The feature map of decode heads that classify in different ways."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from mmseg.models.decode_heads import FCNHead
from torch import nn

from pipelines.evaluate.features import (
    NoFeatureMapError,
    classifier_arrays,
    feature_maps,
    map_labels,
    record_features,
)
from sar.pull import resize_labels


class Model(nn.Module):
    """A segmentor reduced to what `record_features` looks at."""

    def __init__(self, *heads: nn.Module) -> None:
        super().__init__()
        self.decode_head = heads[0] if len(heads) == 1 else nn.ModuleList(heads)


class CosineHead(FCNHead):
    """Classifies by cosine similarity to its weights, without `conv_seg`."""

    def cls_seg(self, feat):
        weight = nn.functional.normalize(self.prototypes, dim=1)[:, :, None, None]
        return nn.functional.conv2d(nn.functional.normalize(feat, dim=1), weight)


def head(kind=FCNHead, **changes):
    torch.manual_seed(0)
    options = dict(in_channels=6, channels=8, num_classes=5, num_convs=1, norm_cfg=None)
    return kind(**options | changes).eval()


INPUTS = [torch.randn(2, 6, 4, 5, generator=torch.Generator().manual_seed(1))]


def recorded(model):
    seen = record_features(model)
    last = model.decode_head[-1] if isinstance(model.decode_head, nn.ModuleList) else None
    with torch.inference_mode():
        for each in model.decode_head if last is not None else [model.decode_head]:
            each(INPUTS)
    return seen


def test_the_map_is_what_enters_conv_seg():
    model = Model(head(dropout_ratio=0.5))
    feature = feature_maps(recorded(model), images=2)
    assert feature.shape == (2, 8, 4, 5)
    with torch.inference_mode():
        assert torch.equal(model.decode_head.conv_seg(feature), model.decode_head(INPUTS))


def test_a_head_that_classifies_in_its_own_way_has_a_map_and_no_weights():
    cosine = head(CosineHead)
    cosine.prototypes = nn.Parameter(torch.randn(5, 8))
    del cosine.conv_seg
    model = Model(cosine)
    feature = feature_maps(recorded(model), images=2)
    with torch.inference_mode():
        assert torch.equal(cosine.cls_seg(feature), cosine(INPUTS))
    assert classifier_arrays(model) == {}


def test_of_a_cascade_the_last_head_counts():
    model = Model(head(channels=3), head(channels=8))
    assert feature_maps(recorded(model), images=2).shape[1] == 8
    assert classifier_arrays(model)["weight"].shape == (5, 8)


def test_weights_are_those_of_a_1x1_convolution_only():
    arrays = classifier_arrays(Model(head()))
    assert arrays["weight"].shape == (5, 8) and arrays["bias"].shape == (5,)
    wide = head()
    wide.conv_seg = nn.Conv2d(8, 5, 3)
    assert classifier_arrays(Model(wide)) == {}


def test_a_model_without_a_map_says_why():
    assert record_features(nn.Linear(2, 2)) == []
    with pytest.raises(NoFeatureMapError, match="cls_seg 0 times for one batch, expected once"):
        feature_maps([], images=1)
    with pytest.raises(NoFeatureMapError, match="cls_seg 2 times"):
        feature_maps([torch.zeros(1, 2, 3, 3)] * 2, images=1)
    with pytest.raises(NoFeatureMapError, match=r"given \(7, 9\), expected \(2, C, h, w\)"):
        feature_maps([torch.zeros(7, 9)], images=2)


@pytest.mark.parametrize(("size", "small"), [((32, 32), (8, 8)), ((45, 60), (12, 15))])
def test_labels_follow_the_rule_of_the_training(size, small):
    truth = torch.randint(0, 5, size, generator=torch.Generator().manual_seed(0))
    truth[0, :9] = 255
    labels, stride = map_labels(truth, {"img_shape": size}, small, ignore_index=255)
    np.testing.assert_array_equal(labels, resize_labels(truth[None], small)[0])
    assert stride == (size[0] / small[0], size[1] / small[1])


def test_padding_is_ignored_and_scaled_images_keep_their_labels():
    truth = torch.ones(12, 16, dtype=torch.uint8)
    meta = {"img_shape": (6, 8), "img_padding_size": (0, 4, 0, 2)}
    labels, stride = map_labels(truth, meta, (4, 6), ignore_index=255)
    assert stride == (2, 2)
    assert (labels[:3, :4] == 1).all() and (labels[3] == 255).all() and (labels[:, 4:] == 255).all()
