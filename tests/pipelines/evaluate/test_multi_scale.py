"""Ways to evaluate the same weights: whole or in windows, at another size, over several scales."""

from __future__ import annotations

import json
import os
from pathlib import Path

import numpy as np
import pytest
import torch
from mmengine.runner import Runner
from mmseg.models import EncoderDecoder
from mmseg.models.segmentors import SegTTAModel
from safetensors.torch import load_file, save_file
from torch.nn.functional import interpolate

from pipelines.base import metric_names
from pipelines.base.artifacts import read_json
from pipelines.base.errors import PipelineError
from pipelines.base.metrics import scores
from pipelines.compare import comparison
from pipelines.compare.comparison import flat_scores
from pipelines.configs.images import dataloader, evaluation_pipeline, multi_scale_pipeline
from pipelines.evaluate import kept as kept_file
from pipelines.evaluate.measure import _loader, _predict
from pipelines.evaluate.multi_scale import (
    multi_scale_confusion,
    multi_scale_loader,
    multi_scale_predictions,
)
from pipelines.evaluate.stage import _load_model, evaluate
from pipelines.fetch import stage as fetch
from pipelines.prepare import stage as prepare
from pipelines.study import Run
from pipelines.train import stage as train
from tests.pipelines import mini
from tests.pipelines.receipts import vouch


@pytest.fixture(scope="module")
def evaluated(tmp_path_factory):
    """A function: the trained run of `mini`, to be evaluated as its arguments say.

    Its classifier is drawn at random, so that predictions vary: those of a training of seconds are
    all background and would agree whatever the code does.
    """
    folder = tmp_path_factory.mktemp("modes")
    before = Path.cwd()
    os.chdir(folder)
    training = mini.study_file()["training"] | {"iterations": 2, "validation_interval": None}
    mini.write_params(folder, training=training)
    for dataset in mini.load().datasets.values():
        fetch.fetch(dataset)
        prepare.prepare(dataset)
    trained = mini.load().runs[0]
    train.train(trained)
    weights = load_file(trained.output("train", "weights.safetensors"))
    classifier = weights["decode_head.conv_seg.weight"]
    classifier.normal_(generator=torch.Generator().manual_seed(0))
    save_file(weights, trained.output("train", "weights.safetensors"))
    vouch(trained.output("train", "weights.safetensors"))
    path = folder / "params/studies/mini.yaml"
    content = json.loads(path.read_text())

    def run(**evaluation) -> Run:
        changed = content["evaluation"] | evaluation
        path.write_text(json.dumps(content | {"evaluation": changed}))
        return mini.load().runs[0]

    yield run
    os.chdir(before)


@pytest.fixture
def inputs(monkeypatch):
    """The heights and widths of what the model is given, call by call."""
    seen: list[tuple[int, ...]] = []
    forward = EncoderDecoder.extract_feat

    def watched(self, images):
        seen.append(tuple(images.shape[2:]))
        return forward(self, images)

    monkeypatch.setattr(EncoderDecoder, "extract_feat", watched)
    return seen


def predictions(run: Run) -> list[np.ndarray]:
    loader = _loader(run, evaluation_pipeline(run))
    found = [image.prediction for image in _predict(run, _load_model(run), loader)]
    assert len(found) == 5
    assert len(np.unique(found)) > 3
    return found


def averaged(run: Run) -> list[np.ndarray]:
    found = multi_scale_predictions(run, _load_model(run), multi_scale_loader(run))
    return [prediction for _, prediction in found]


def test_a_window_of_the_whole_image_is_the_whole_image(evaluated):
    slide = {"mode": "slide", "crop_size": [32, 32], "stride": [16, 16]}
    assert np.array_equal(predictions(evaluated(**slide)), predictions(evaluated()))


def test_windows_cover_the_image_in_strides(evaluated, inputs):
    run = evaluated(mode="slide", crop_size=[16, 24], stride=[8, 4], batch_size=5)
    assert len(predictions(run)) == 5
    assert inputs == [(16, 24)] * 9  # 3 rows of 3 windows, for the one batch


def test_images_are_fitted_into_the_base_size(evaluated, inputs):
    shown = predictions(evaluated(base_size=[64, 48], batch_size=5))
    assert inputs == [(48, 48)]
    assert shown[0].shape == (32, 32)


def test_one_scale_without_flip_is_the_plain_test(evaluated):
    run = evaluated(multi_scale={"scales": [1.0], "flip": False})
    assert np.array_equal(averaged(run), predictions(run))


def test_views_are_what_the_study_asks_for(evaluated, inputs):
    views = {"scales": [0.5, 1.5], "flip": True}
    averaged(evaluated(multi_scale=views, batch_size=5))
    assert inputs == [(16, 16), (16, 16), (48, 48), (48, 48)]
    inputs.clear()
    averaged(evaluated(multi_scale=views | {"flip": False}, base_size=[48, 40], batch_size=5))
    assert inputs == [(20, 20), (60, 60)]


def test_flip_averages_an_image_and_its_mirror(evaluated):
    run = evaluated(multi_scale={"scales": [1.0], "flip": True})
    model = _load_model(run)
    expected = []
    for batch in Runner.build_dataloader(
        dataloader(run.dataset, "test", 2, multi_scale_pipeline(run))
    ):
        plain = model.data_preprocessor(
            {"inputs": batch["inputs"][0], "data_samples": batch["data_samples"][0]}, False
        )["inputs"]
        with torch.inference_mode():
            upright, mirrored = (
                interpolate(model.forward(images), (32, 32), mode="bilinear", align_corners=False)
                for images in (plain, plain.flip(3))
            )
        total = upright.softmax(dim=1) + mirrored.flip(3).softmax(dim=1)
        expected += list(total.argmax(dim=1).numpy())
    assert np.array_equal(np.array(expected), np.array(averaged(run)))
    assert not np.array_equal(averaged(run), predictions(run))


def test_it_is_what_mmsegmentation_computes(evaluated):
    run = evaluated(multi_scale={"scales": [0.5, 1.0, 1.25], "flip": True}, batch_size=2)
    model = _load_model(run)
    reference = SegTTAModel(module=model)
    loader = Runner.build_dataloader(dataloader(run.dataset, "test", 2, multi_scale_pipeline(run)))
    expected = []
    with torch.inference_mode():
        for batch in loader:
            samples = reference.test_step(batch)
            expected += [sample.pred_sem_seg.data.squeeze().numpy() for sample in samples]
    assert np.array_equal(np.array(expected), np.array(averaged(run)))


def test_evaluate_keeps_the_single_scale_scores_and_adds_the_others(evaluated):
    evaluate(evaluated())
    single = read_json(evaluated().output("evaluate", "metrics.json"))
    run = evaluated(multi_scale={"scales": [0.5, 1.0]})
    evaluate(run)
    metrics = read_json(run.output("evaluate", "metrics.json"))
    added = metrics.pop("multi-scale")
    assert metrics == single
    card, groups = run.dataset.card, read_json(run.dataset.info)["groups"]
    assert added == scores(multi_scale_confusion(run, _load_model(run)), card.classes, groups)
    headline = read_json(run.output("evaluate", "scores.json"))
    assert headline["mIoU/multi-scale"] == added["mIoU"] != headline["mIoU"] == single["mIoU"]
    assert flat_scores(metrics | {"multi-scale": added})["mIoU/multi-scale"] == added["mIoU"]


def test_a_registered_metric_that_is_counted_is_in_scores_json(evaluated, monkeypatch):
    new = metric_names.Metric("mIoU/boundary", "boundary", ("boundary", "mIoU"))
    monkeypatch.setattr(metric_names, "METRICS", (*metric_names.METRICS, new))
    monkeypatch.setattr(
        "pipelines.evaluate.measure.scores",
        lambda *counted: scores(*counted) | {"boundary": {"mIoU": 12.5}},
    )
    run = evaluated()
    evaluate(run)
    assert read_json(run.output("evaluate", "scores.json"))["mIoU/boundary"] == 12.5


def test_a_model_without_one_score_a_class_is_refused(evaluated):
    run = evaluated(multi_scale={"scales": [1.0]})
    model = _load_model(run)
    model.out_channels = 1
    with pytest.raises(PipelineError, match=r"mini.yaml: evaluation.multi_scale: .* has 1 for 11"):
        multi_scale_confusion(run, model)


def test_subsets_of_the_split_are_scored_too(evaluated):
    """The scores of the whole stay as they are, and so does what is known of such a run."""
    plain = evaluated()
    evaluate(plain)
    without = read_json(plain.output("evaluate", "metrics.json"))
    path = plain.dataset.card_file
    before = path.read_text()
    card = json.loads(before)
    subsets = {
        name: {"split": "test", "images": f"*{end}"} for name, end in (("a", "[0-2]"), ("b", 3))
    }
    try:
        path.write_text(json.dumps(card | {"subsets": subsets}))
        assert evaluated().parameters_hash("evaluate") == plain.parameters_hash("evaluate")
        run = evaluated(subsets=["a"])
        known = run.parameters_hash("evaluate")
        assert known != plain.parameters_hash("evaluate")
        evaluate(run)
        metrics = read_json(run.output("evaluate", "metrics.json"))
        found = metrics.pop("subsets")
        assert metrics == without and found.keys() == {"a"} and found["a"]["num_images"] == 3
        kept = kept_file.read(run.output("evaluate", "analysis.npz"))
        chosen = sum(kept.confusion(index) for index in range(3))
        groups = read_json(run.dataset.info)["groups"]
        assert found["a"] == {"num_images": 3, **scores(chosen, run.dataset.card.classes, groups)}
        assert read_json(run.output("evaluate", "scores.json"))["mIoU/a"] == found["a"]["mIoU"]
        frame = comparison._scores(run)
        assert "mIoU/a" in list(frame["metric"]) and frame["metric"].is_unique

        subsets["a"]["images"] = "x*"
        path.write_text(json.dumps(card | {"subsets": subsets}))
        run = evaluated(subsets=["a"])
        assert run.parameters_hash("evaluate") != known
        with pytest.raises(PipelineError, match=r"mini.yaml: subsets.a: no image is named like"):
            evaluate(run)
    finally:
        path.write_text(before)
