"""What evaluate keeps for later questions: of a real study in miniature, and of made-up splits."""

from __future__ import annotations

import dataclasses
import os
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import torch
from safetensors.torch import load_file, save_file

from pipelines.base.artifacts import read_json
from pipelines.base.errors import PipelineError
from pipelines.configs.images import evaluation_pipeline
from pipelines.evaluate import kept, measure
from pipelines.evaluate import stage as evaluate
from pipelines.evaluate.collector import Collector
from pipelines.evaluate.features import classifier_arrays
from pipelines.fetch import stage as fetch
from pipelines.prepare import stage as prepare
from pipelines.train import stage as train
from tests.pipelines import mini

TRAINING = mini.study_file()["training"] | {"iterations": 4, "validation_interval": None}


@pytest.fixture(scope="module")
def study(tmp_path_factory):
    """The study `mini`, both of its runs trained and evaluated; the working directory is its."""
    folder = tmp_path_factory.mktemp("analysed")
    before = Path.cwd()
    os.chdir(folder)
    mini.write_params(folder, training=TRAINING)
    study = mini.load()
    for dataset in study.datasets.values():
        fetch.fetch(dataset)
        prepare.prepare(dataset)
    for run in study.runs:
        train.train(run)
        evaluate.evaluate(run)
    yield study
    os.chdir(before)


def the(study, method):
    return next(run for run in study.runs if run.method == method)


def bundle(run):
    return kept.read(run.output("evaluate", "analysis.npz"))


def predictions(run, batch_size=1):
    """All of `run`'s images, with their feature maps, as the model gives them now."""
    parameters = run.evaluation.model_copy(update={"batch_size": batch_size})
    file = run.study.file.model_copy(update={"evaluation": parameters})
    run = dataclasses.replace(run, study=dataclasses.replace(run.study, file=file))
    model = evaluate._load_model(run)
    loader = measure._loader(run, evaluation_pipeline(run))
    return list(measure._predict(run, model, loader)), model


def collected(images, path, seed=kept.SEED, **more):
    """The analysis of `predictions`, written to `path`."""
    collector = Collector([f"class {k}" for k in range(11)], seed)
    for image in images:
        collector.add(image.stem, np.zeros((11, 11), np.int64))
        collector.add_features(image.features, image.labels, image.stride)
    collector.write(path, **({"classifier": {}, "state": {}, "log": {}} | more))
    return kept.read(path)


@pytest.mark.parametrize("method", ["baseline", "sar"])
def test_counts_of_the_images_are_those_of_the_split(study, method):
    run = the(study, method)
    found = bundle(run)
    total = pd.read_csv(run.output("evaluate", "confusion.csv"), index_col="truth").to_numpy()
    assert found.form == "confusion" and found.stems == [f"{index:05d}" for index in range(5)]
    assert found.classes == run.dataset.card.classes
    np.testing.assert_array_equal(sum(found.confusion(i) for i in range(5)), total)
    counts = found.counts().sum(axis=0)
    np.testing.assert_array_equal(
        counts, np.stack([total.diagonal(), total.sum(1), total.sum(0)]).T
    )
    assert all(found.confusion(i).sum() == 32 * 32 for i in range(5))


def test_mean_and_scatter_are_those_of_all_labelled_pixels(study):
    found, (images, _) = bundle(the(study, "sar")), predictions(the(study, "sar"), batch_size=2)
    features = np.concatenate([i.features.reshape(len(i.features), -1).T for i in images])
    labels = np.concatenate([i.labels.ravel() for i in images])
    assert found.stride.tolist() == [4, 4] and len(labels) == 5 * 8 * 8
    np.testing.assert_array_equal(found.pixels, np.bincount(labels, minlength=11))
    for label in range(11):
        own = features[labels == label].astype(np.float64)
        if not len(own):
            assert np.isnan(found.mean[label]).all() and np.isnan(found.scatter[label])
            continue
        np.testing.assert_allclose(found.mean[label], own.mean(axis=0), rtol=1e-6, atol=1e-7)
        distances = ((own - own.mean(axis=0)) ** 2).sum(axis=1)
        np.testing.assert_allclose(found.scatter[label], distances.mean(), rtol=1e-9)


def test_sampled_features_lie_at_their_positions(study):
    found, (images, _) = bundle(the(study, "sar")), predictions(the(study, "sar"), batch_size=2)
    sample = found.sample
    assert len(sample["feature"]) == np.minimum(found.pixels, kept.sample_size(11, 120)).sum()
    places = zip(sample["class"], sample["image"], sample["position"], strict=True)
    for feature, (label, image, (row, column)) in zip(sample["feature"], places, strict=True):
        assert images[image].labels[row, column] == label
        expected = images[image].features[:, row, column].astype(np.float16)
        np.testing.assert_array_equal(feature, expected)


def test_the_same_pixels_are_drawn_whatever_the_batch_and_the_method(study, tmp_path, monkeypatch):
    monkeypatch.setattr(kept, "sample_size", lambda classes, channels: 6)
    drawn = []
    for method, batch_size in (("sar", 1), ("sar", 3), ("baseline", 2)):
        images, _ = predictions(the(study, method), batch_size)
        drawn.append(collected(images, tmp_path / "a.npz"))
    other = collected(images, tmp_path / "b.npz", seed=1)
    first = drawn[0].sample
    assert np.bincount(first["class"]).max() == 6
    for again in drawn[1:]:
        for name in ("class", "image", "position"):
            np.testing.assert_array_equal(again.sample[name], first[name])
    np.testing.assert_allclose(drawn[1].sample["feature"], first["feature"], rtol=2e-3, atol=1e-4)
    assert not np.array_equal(other.sample["position"], first["position"])
    assert other.seed == 1 and drawn[0].seed == 0


def test_only_the_method_with_anchors_has_anchors(study):
    found = bundle(the(study, "baseline"))
    assert found.anchors is None and found.log == {} and not found.missing and not found.dropped
    run = the(study, "sar")
    found = bundle(run)
    state = load_file(run.output("train", "plugin.safetensors"))
    log = load_file(run.output("train", "diagnostics.safetensors"))
    assert found.anchors.shape == (11, 120)
    np.testing.assert_array_equal(found.anchors, state["regularizer.semantic_anchors"].half())
    assert found.log.keys() == log.keys() and found.log["iteration"].tolist() == [1, 2, 3, 4]
    for name, values in log.items():
        np.testing.assert_array_equal(found.log[name], values)


def test_anchors_that_moved_are_kept_as_they_are(study, tmp_path):
    images, _ = predictions(the(study, "sar"))
    moved = np.random.default_rng(0).standard_normal((11, 120)).astype(np.float32)
    state = {"regularizer.semantic_anchors": moved, "regularizer.anchors": 2 * moved}
    found = collected(images, tmp_path / "a.npz", state=state)
    np.testing.assert_array_equal(found.anchors, moved.astype(np.float16))


def test_the_classifier_gives_the_scores_again(study):
    run = the(study, "baseline")
    found, (_, model) = bundle(run), predictions(run)
    np.testing.assert_array_equal(found.weight, classifier_arrays(model)["weight"].astype("f2"))
    state = load_file(run.output("train", "weights.safetensors"))
    np.testing.assert_array_equal(found.bias, state["decode_head.conv_seg.bias"])


def test_image_scores_are_those_of_metrics(study):
    from pipelines.base.metrics import scores

    found = bundle(the(study, "sar"))
    groups = read_json(the(study, "sar").dataset.info)["groups"]
    expected = [scores(found.confusion(i), found.classes, groups)["mIoU"] for i in range(5)]
    np.testing.assert_allclose(found.image_miou(), expected)


def test_evaluating_again_gives_the_same_bytes(study):
    path = the(study, "sar").output("evaluate", "analysis.npz")
    before = path.read_bytes()
    evaluate.evaluate(the(study, "sar"))
    assert path.read_bytes() == before
    receipt = read_json(the(study, "sar").output("evaluate", "receipt.json"))
    assert "analysis.npz" in receipt["outputs"]


def test_a_head_without_a_feature_map_leaves_the_scores_and_a_reason(study, monkeypatch):
    """As a head that classifies masks: its scores come from somewhere else than `cls_seg`."""
    run = the(study, "baseline")
    scores_before = run.output("evaluate", "confusion.csv").read_bytes()
    whole = run.output("evaluate", "analysis.npz").read_bytes()
    original = evaluate._load_model

    def other(run):
        model = original(run)
        layer, head = model.decode_head.conv_seg, model.decode_head
        head.forward = lambda inputs: layer(head._forward_feature(inputs))
        return model

    monkeypatch.setattr(evaluate, "_load_model", other)
    evaluate.evaluate(run)
    assert run.output("evaluate", "confusion.csv").read_bytes() == scores_before
    found = bundle(run)
    assert "called cls_seg 0 times" in found.missing
    assert found.pixels is found.mean is found.weight is None and not found.sample
    assert found.form == "confusion" and len(found.stems) == 5
    monkeypatch.undo()
    evaluate.evaluate(run)
    assert run.output("evaluate", "analysis.npz").read_bytes() == whole


def made_up(path, classes, channels, images, present, side=16):
    """A split of noise, which nothing compresses; every image has `present` classes."""
    rng = np.random.default_rng(0)
    collector = Collector([f"a class of things {k}" for k in range(classes)])
    total = np.zeros((images, classes, 3), np.int64)
    for image in range(images):
        here = rng.choice(classes, present, replace=False)
        confusion = np.zeros((classes, classes), np.int64)
        confusion[np.ix_(here, here)] = rng.integers(1, 60_000, (present, present))
        total[image] = np.stack([confusion.diagonal(), confusion.sum(1), confusion.sum(0)]).T
        collector.add(f"ADE_val_{image:08d}", confusion)
        if image < 40:
            features = rng.standard_normal((channels, side, side), dtype=np.float32)
            collector.add_features(features, rng.integers(0, classes, (side, side)), (4, 4))
    table = rng.standard_normal((classes, channels)).astype(np.float32)
    log = {
        f"regularizer.{name}": rng.random((200, classes), dtype=np.float32)
        for name in ("confidence", "lag", "norm")
    }
    collector.write(
        path,
        classifier={"weight": table, "bias": table[:, 0]},
        state={"regularizer.semantic_anchors": table},
        log=log | {"iteration": np.arange(200)},
    )
    return kept.read(path), total


@pytest.mark.parametrize(
    ("classes", "channels", "images", "present", "form", "means"),
    [
        (11, 720, 233, 5, "confusion", "float32"),
        (19, 720, 500, 10, "counts", "float32"),
        (19, 270, 500, 19, "scores", "float32"),
        (150, 720, 2000, 20, "scores", "float16"),
    ],
)
def test_a_bundle_keeps_to_its_budget(tmp_path, classes, channels, images, present, form, means):
    found, counts = made_up(tmp_path / "a.npz", classes, channels, images, present)
    size = (tmp_path / "a.npz").stat().st_size
    assert size <= kept.budget(classes)
    assert classes > 30 or size < 300_000
    assert (found.form, found.mean.dtype, found.dropped) == (form, means, [])
    assert len(found.stems) == images
    hits, truth, prediction = np.moveaxis(counts, 2, 0)
    iou = 100 * hits / np.maximum(truth + prediction - hits, 1)
    np.testing.assert_allclose(found.image_miou(), iou.sum(1) / (truth > 0).sum(1))
    if form != "scores":
        np.testing.assert_array_equal(found.counts(), counts)
    drawn = np.bincount(found.sample["class"], minlength=classes)
    size = kept.sample_size(classes, channels)
    assert size >= 1
    np.testing.assert_array_equal(drawn, np.minimum(found.pixels, size))
    # The log is thinned, with its first and last record.
    assert found.log["iteration"][[0, -1]].tolist() == [0, 199]
    assert 8 <= len(found.log["iteration"]) < 200


def test_what_has_no_room_is_named(tmp_path):
    found, _ = made_up(tmp_path / "a.npz", 19, 12_000, 2, 2, side=4)
    assert found.dropped == ["anchors", "mean", "sample", "weight"]
    assert found.pixels.sum() == 2 * 16 and np.isfinite(found.scatter).any()
    assert (tmp_path / "a.npz").stat().st_size <= kept.budget(19)


def test_the_first_process_may_see_no_map_where_another_does(tmp_path):
    """With sliding windows and images of unequal sizes: one that fits a window has a map."""
    first, other = Collector(["a", "b"]), Collector(["a", "b"])
    labels = np.zeros((4, 4), np.int64)
    found = other.of_image(1, np.ones((3, 4, 4), np.float32), labels, (1, 1))
    first.add("large", np.eye(2, dtype=np.int64))
    first.without_features("many windows")
    first.add("small", np.eye(2, dtype=np.int64))
    first.join_features(found)
    first.write(tmp_path / "a.npz", {}, {}, {})
    read = kept.read(tmp_path / "a.npz")
    assert read.missing == "many windows" and read.pixels is None
    assert read.stems == ["large", "small"]


def test_a_form_that_has_not_what_is_asked_says_so(tmp_path):
    found, _ = made_up(tmp_path / "a.npz", 19, 4, 500, 19)
    with pytest.raises(ValueError, match="the form is 'scores', expected confusion or counts"):
        found.counts()


def test_a_missing_a_broken_and_a_strange_file_are_named(tmp_path):
    with pytest.raises(PipelineError, match=r"a\.npz: not found; run .*pipelines\.evaluate"):
        kept.read(tmp_path / "a.npz")
    (tmp_path / "a.npz").write_bytes(b"PK\x03\x04 torn")
    with pytest.raises(PipelineError, match=r"a\.npz: not valid npz"):
        kept.read(tmp_path / "a.npz")
    np.savez_compressed(tmp_path / "a.npz", format=np.int64(2))
    with pytest.raises(PipelineError, match=r"a\.npz: format 2, expected 1"):
        kept.read(tmp_path / "a.npz")


def test_another_plugin_may_leave_no_anchors_and_another_log(study, tmp_path):
    images, _ = predictions(the(study, "baseline"))
    for state in ({}, {"x.semantic_anchors": np.zeros((3, 4))}, {"a": np.zeros(2)}):
        kept = collected(images, tmp_path / "a.npz", state=state)
        assert kept.anchors is None and not kept.dropped
    save_file({"iteration": torch.zeros(0, dtype=torch.int64)}, tmp_path / "log")
    assert collected(images, tmp_path / "a.npz", log=load_file(tmp_path / "log")).log == {}
