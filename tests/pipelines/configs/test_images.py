"""Loaders of prepared data: images of several kinds and sizes."""

from __future__ import annotations

import json

import pytest
from PIL import Image

from pipelines.base.errors import PipelineError
from pipelines.prepare.stage import prepare
from pipelines.study import Study
from tests.pipelines import mini
from tests.pipelines.prepare import raw

SIZES = [(40, 52), (52, 40), (40, 52), (20, 60)]


@pytest.fixture
def study(tmp_path, monkeypatch):
    """A function: a study of data whose images are JPEG and PNG of the given sizes."""
    monkeypatch.chdir(tmp_path)

    def prepared(sizes, void=255, **augmentation) -> Study:
        training = mini.study_file()["training"] | {"validation_interval": None}
        training["augmentation"] = {"crop_size": [32, 48]} | augmentation
        mini.write_params(tmp_path, datasets=["mine"], training=training)
        dataset = raw.fetched(raw.card().model_copy(update={"ignore_index": void}))
        for first, split in ((0, "train"), (10, "test")):
            for index, size in enumerate(sizes):
                suffix = ".jpg" if index % 2 else ".png"
                image, label = raw.picture(first + index, size), raw.truth(index, size)
                raw.write(dataset, {f"images/{split}/{index}{suffix}": image})
                raw.write(dataset, {f"labels/{split}/{index}.png": label})
        dataset.card_file.write_text(json.dumps(dataset.card.model_dump(exclude_defaults=True)))
        prepare(dataset, jobs=1)
        return Study.load("mini")

    return prepared


@pytest.fixture
def loaded():
    """A function: the loader that a config stands for."""
    from mmengine.registry import init_default_scope
    from mmengine.runner import Runner
    from mmseg.utils import register_all_modules

    register_all_modules()
    init_default_scope("mmseg")
    return lambda config: Runner.build_dataloader(config, seed=0)


def test_all_images_of_a_split_are_evaluated_whatever_their_kind(study, loaded):
    from pipelines.configs.images import dataloader, evaluation_pipeline

    run = study([(16, 20)] * 4).runs[0]
    loader = loaded(dataloader(run.dataset, "test", 2, evaluation_pipeline(run)))
    batches = list(loader)
    assert [len(batch["inputs"]) for batch in batches] == [2, 2]
    samples = [sample for batch in batches for sample in batch["data_samples"]]
    assert sorted(sample.img_path.rpartition("/")[2] for sample in samples) == [
        *("0.png", "1.jpg", "2.png", "3.jpg")
    ]
    for sample in samples:
        index = int(sample.img_path.rpartition("/")[2][0])
        assert (sample.gt_sem_seg.data[0].numpy() == raw.truth(index, (16, 20))).all()
    assert loader.dataset.metainfo["classes"] == list(raw.CLASSES)


def test_images_that_prepare_let_pass_are_not_too_large_for_training(study, loaded, monkeypatch):
    """Pillow, which reads the labels, has a limit of its own."""
    from pipelines.configs.images import dataloader, training_pipeline

    run = study(SIZES[:1] * 4).runs[0]
    monkeypatch.setattr(Image, "MAX_IMAGE_PIXELS", 10)
    batch = next(iter(loaded(dataloader(run.dataset, "train", 2, training_pipeline(run)))))
    assert len(batch["data_samples"]) == 2


def test_images_of_unequal_sizes_are_evaluated_one_by_one(study, loaded):
    from pipelines.configs.images import dataloader, evaluation_pipeline

    run = study(SIZES).runs[0]
    batches = list(loaded(dataloader(run.dataset, "test", 4, evaluation_pipeline(run))))
    shapes = sorted(tuple(image.shape[1:]) for batch in batches for image in batch["inputs"])
    assert (len(batches), shapes) == (4, sorted(SIZES))


@pytest.mark.parametrize("void", [255, 77])
def test_images_smaller_than_the_crop_are_padded_with_void(study, loaded, void):
    from mmengine.registry import MODELS

    from pipelines.configs.images import dataloader, training_pipeline
    from pipelines.configs.model import baseline_model

    run = study(SIZES, void).runs[0]
    batches = iter(loaded(dataloader(run.dataset, "train", 8, training_pipeline(run))))
    preprocess = MODELS.build(baseline_model(run)["data_preprocessor"])
    batch = next(batches)
    padded = preprocess(batch, training=True)
    assert tuple(padded["inputs"].shape) == (8, 3, 32, 48)
    small = [sample for sample in padded["data_samples"] if "3.jpg" in sample.img_path]
    assert small
    for sample in small:
        label = sample.gt_sem_seg.data[0].numpy()
        assert label.shape == (32, 48)
        assert (label[20:] == void).all()
        assert (label[:20] < 3).all()


@pytest.mark.parametrize(
    ("augmentation", "share", "hue"),
    [
        ({}, 0.75, None),
        ({"photometric": True}, 0.75, 18),
        ({"cat_max_ratio": 1.0, "photometric": {"hue_delta": 9}}, 1.0, 9),
    ],
)
def test_crops_and_colours_are_drawn_as_the_study_says(study, loaded, augmentation, share, hue):
    from pipelines.configs.images import dataloader, training_pipeline

    run = study([(40, 52)] * 2, **augmentation).runs[0]
    loader = loaded(dataloader(run.dataset, "train", 2, training_pipeline(run)))
    transforms = loader.dataset.datasets[0].pipeline.transforms
    steps = {type(step).__name__: step for step in transforms}
    assert steps["RandomCrop"].cat_max_ratio == share
    assert getattr(steps.get("PhotoMetricDistortion"), "hue_delta", None) == hue
    assert len(next(iter(loader))["inputs"]) == 2


def test_a_scale_of_images_of_unequal_sizes_needs_a_base_size(study):
    from pipelines.configs.images import training_pipeline

    run = study(SIZES, scale_range=[0.5, 2.0]).runs[0]
    with pytest.raises(PipelineError, match="mini.yaml: training.augmentation.base_size"):
        training_pipeline(run)


def test_the_base_size_is_what_is_scaled(study, loaded):
    from pipelines.configs.images import dataloader, training_pipeline

    run = study(SIZES, scale_range=[1.0, 1.0], base_size=[30, 60]).runs[0]
    pipeline = [step for step in training_pipeline(run) if step["type"] != "RandomCrop"]
    batch = next(iter(loaded(dataloader(run.dataset, "train", 8, pipeline))))
    for sample in batch["data_samples"]:
        height, width = sample.img_shape
        assert max(height, width) <= 60 and min(height, width) <= 30
        assert max(height, width) == 60 or min(height, width) == 30


@pytest.mark.parametrize(
    ("augmentation", "most"),
    [
        # Images are 40 x 52 and 52 x 40.
        ({"crop_size": [41, 52]}, None),
        ({"crop_size": [53, 61]}, r"the largest becomes \[40, 52\] \(their own size\)"),
        # The bounds 128 x 64 leave 64 x 83 of these.
        ({"crop_size": [64, 100], "scale_range": [1.0, 2.0], "base_size": [64, 32]}, None),
        (
            {"crop_size": [90, 100], "scale_range": [1.0, 2.0], "base_size": [64, 32]},
            r"the largest becomes \[64, 83\] \(base_size \[64, 32\] x 2 of scale_range\)",
        ),
    ],
)
def test_a_crop_that_no_image_fills_either_way_is_refused(study, augmentation, most):
    from pipelines.configs.images import training_pipeline

    run = study(SIZES[:3], **augmentation).runs[0]
    if most is None:
        assert training_pipeline(run)
        return
    with pytest.raises(PipelineError, match=f"training.augmentation.crop_size: .*{most}"):
        training_pipeline(run)


def test_the_report_finds_images_of_either_kind(study):
    from pipelines.report.gallery import _pixels

    run = study([(16, 20)] * 2).runs[0]
    for stem in ("0", "1"):
        assert _pixels(run, "images", stem).shape == (16, 20, 3)
        assert (_pixels(run, "labels", stem) == raw.truth(int(stem), (16, 20))).all()
    (run.dataset.prepared / "images/test/1.jpg").unlink()
    with pytest.raises(PipelineError, match=r"test/1.png: not found; run python -m pipelines.prep"):
        _pixels(run, "images", "1")
