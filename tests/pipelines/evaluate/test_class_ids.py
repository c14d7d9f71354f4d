"""Classes of pixels without copies of all scores: those that mmsegmentation gives."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from mmengine.structures import PixelData
from mmseg.models.segmentors import BaseSegmentor
from mmseg.structures import SegDataSample

from pipelines.base.metrics import confusion_matrix
from pipelines.evaluate.class_ids import _counted, class_ids, classes_only, pixel_counts


class Model:
    """What `postprocess_result` asks of a model."""

    align_corners = False
    postprocess_result = BaseSegmentor.postprocess_result


def samples(*metas: dict) -> list[SegDataSample]:
    return [SegDataSample(metainfo=meta) for meta in metas]


@pytest.mark.parametrize("classes", [2, 11])
@pytest.mark.parametrize(
    "meta",
    [
        {"ori_shape": (12, 15)},
        {"ori_shape": (31, 40)},
        {"ori_shape": (7, 9)},
        {"ori_shape": (20, 30), "img_padding_size": (1, 3, 2, 4)},
        {"ori_shape": (20, 30), "padding_size": [0, 2, 0, 1]},
        {"ori_shape": (12, 15), "flip": True, "flip_direction": "horizontal"},
        {"ori_shape": (20, 11), "flip": True, "flip_direction": "vertical"},
    ],
)
def test_the_classes_are_those_of_mmsegmentation(meta, classes):
    # Scores of few values, so that many are equal.
    generator = torch.Generator().manual_seed(0)
    logits = torch.randint(0, 4, (2, classes, 12, 15), generator=generator).float()
    metas = meta, meta | {"ori_shape": (13, 14)}
    expected = Model().postprocess_result(logits.clone(), samples(*metas))
    model = Model()
    with classes_only(model):
        found = model.postprocess_result(logits, samples(*metas))
    for one, other in zip(found, expected, strict=True):
        assert one.pred_sem_seg.data.dtype == torch.uint8 and "seg_logits" not in one
        assert torch.equal(one.pred_sem_seg.data.long(), other.pred_sem_seg.data)
    # Whoever asks later has the scores again.
    assert "seg_logits" in model.postprocess_result(logits, samples(*metas))[0]


def test_a_model_with_a_score_for_the_foreground_alone_is_left_as_it_is():
    logits = torch.randn(1, 1, 4, 5, generator=torch.Generator().manual_seed(0))
    model, given = Model(), samples({"ori_shape": (4, 5)})
    model.decode_head = type("Head", (), {"threshold": 0.3})
    with classes_only(model):
        [found] = model.postprocess_result(logits, given)
    assert torch.equal(found.pred_sem_seg.data, (logits[0].sigmoid() > 0.3).to(logits))


@pytest.mark.parametrize("ignore_index", [255, 3])
def test_pixels_are_counted_as_by_the_definition(ignore_index):
    generator = torch.Generator().manual_seed(2)
    truth = torch.randint(0, 5, (9, 13), generator=generator)
    prediction = torch.randint(0, 5, (9, 13), generator=generator, dtype=torch.uint8)
    truth[2:4] = ignore_index
    expected = confusion_matrix(truth.numpy(), prediction.numpy(), 5, ignore_index)
    found = pixel_counts(truth, prediction, 5, ignore_index)
    assert found.dtype == np.int64 and np.array_equal(found, expected)
    # As a GPU counts.
    for ids in (truth, truth.byte()):
        counts = _counted(ids, prediction, 5, ignore_index)
        assert np.array_equal(counts[:25].reshape(5, 5), expected)
        assert counts[25:].tolist() == [(truth == ignore_index).sum(), 0]
    prediction[0, 0], truth[0, 0] = 5, 1
    assert _counted(truth, prediction, 5, ignore_index)[-1] == 1


@pytest.mark.parametrize("name", ["truth", "prediction"])
def test_ids_of_no_class_are_named(name):
    ids = {"truth": torch.zeros(2, 3).long(), "prediction": torch.zeros(2, 3).byte()}
    ids[name][1, 1] = 7
    with pytest.raises(ValueError, match=rf"{name} holds class ids 0 to 7, expected 0 to 4"):
        pixel_counts(ids["truth"], ids["prediction"], 5, 255)


def test_pred_sem_seg_is_what_a_data_sample_takes():
    sample = SegDataSample()
    ids = class_ids(torch.randn(1, 3, 4, 5), (8, 10), align_corners=False)
    sample.pred_sem_seg = PixelData(data=ids)
    assert sample.pred_sem_seg.shape == (8, 10)
