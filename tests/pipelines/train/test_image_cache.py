"""Decoded images in memory: what is loaded is the same, by whichever process, and decoded once."""

from __future__ import annotations

import json
import os
from pathlib import Path

import numpy as np
import pytest
from mmengine.config import ConfigDict
from mmengine.dataset import Compose
from PIL import Image

from pipelines.base.artifacts import read_json
from pipelines.fetch import stage as fetch
from pipelines.prepare import stage as prepare
from pipelines.train import image_cache
from pipelines.train import stage as train
from pipelines.train.image_cache import KeptLoading, SharedValues, keep_images
from sar.packaged import register_mmseg
from tests.pipelines import mini

STEPS = [
    {"type": "LoadImageFromFile"},
    {"type": "LoadAnnotations"},
    {"type": "Resize", "scale_factor": 0.5, "keep_ratio": True},
]


@pytest.fixture
def images(tmp_path):
    """Three images of unequal sizes with labels, and a function: what a step is given of one."""
    register_mmseg()
    rng = np.random.default_rng(0)
    for name, size in (("a", (40, 31)), ("b", (33, 48)), ("c", (9, 7))):
        colours = rng.integers(0, 256, (*size, 3), dtype=np.uint8)
        labels = rng.integers(0, 5, size, dtype=np.uint8)
        Image.fromarray(colours).save(tmp_path / f"{name}.png")
        (tmp_path / "labels").mkdir(exist_ok=True)
        Image.fromarray(labels).save(tmp_path / f"labels/{name}.png")

    def given(name: str) -> dict:
        return {
            "img_path": f"{tmp_path}/{name}.png",
            "seg_map_path": f"{tmp_path}/labels/{name}.png",
            "label_map": None,
            "reduce_zero_label": False,
            "seg_fields": [],
            "sample_idx": ord(name),
        }

    return given


def same(one: dict, other: dict) -> bool:
    arrays = [key for key, value in one.items() if isinstance(value, np.ndarray)]
    assert arrays == ["img", "gt_seg_map"] and list(one) == list(other)
    plain = one.keys() - set(arrays)
    return all(np.array_equal(one[key], other[key]) for key in arrays) and all(
        one[key] == other[key] for key in plain
    )


def test_an_image_is_decoded_once_and_what_is_given_is_a_copy(images, tmp_path):
    load, kept = Compose(STEPS), KeptLoading(STEPS, str(tmp_path), ".png", 0.5, 1)
    expected = {name: load(images(name)) for name in "abc"}
    for name in "abc":
        assert same(kept(images(name)), expected[name])
        Path(images(name)["img_path"]).unlink()
    for _ in range(2):
        for name in "abc":
            found = kept(images(name))
            assert same(found, expected[name])
            # As a step in place would.
            found["img"][:] = 0
            found["seg_fields"].append("more")


def test_what_one_process_loads_another_finds(images, tmp_path):
    kept = KeptLoading(STEPS, str(tmp_path), ".png", 0.5, 1)
    child = os.fork()
    if child == 0:
        kept(images("a"))
        os._exit(0)
    assert os.waitpid(child, 0)[1] == 0
    expected = Compose(STEPS)(images("a"))
    Path(images("a")["img_path"]).unlink()
    assert same(kept(images("a")), expected)


@pytest.mark.parametrize(("limit", "free"), [(1, 2**40), (2**10, 2**20)])
def test_what_does_not_fit_is_not_kept(images, tmp_path, monkeypatch, limit, free):
    """Three images of a third of a MiB and more, with one MiB allowed, or half of one free."""
    for name in "abc":
        Image.new("RGB", (300, 300)).save(tmp_path / f"{name}.png")
    said = []
    monkeypatch.setattr(image_cache, "available_memory", lambda: free)
    monkeypatch.setattr(image_cache, "print_log", lambda message, *_: said.append(message))
    kept = KeptLoading(STEPS[:1], str(tmp_path), ".png", 1.0, limit)
    assert kept.memory is None and kept(images("a"))["img"].shape == (300, 300, 3)
    [message] = said
    assert message.startswith(f"images are decoded each time: 3 in {tmp_path} take more than ")
    assert f"image_cache: {limit}; free memory: {free // 2**20} MiB" in message


def test_a_value_larger_than_its_room_is_not_kept():
    memory = SharedValues({"a": 100, "b": 100})
    memory.put("a", bytes(101))
    memory.put("b", b"b")
    assert memory.get("a") is None and memory.get("b") == b"b"


def test_the_steps_before_chance_are_kept_of_each_part_of_a_data_set():
    part = {
        "data_root": "root",
        "data_prefix": {"img_path": "images/train"},
        "img_suffix": ".png",
        "pipeline": [*STEPS, {"type": "RandomFlip", "prob": 0.5}, {"type": "Resize", "scale": 1}],
    }
    other = part | {"img_suffix": ".jpg"}
    loader = ConfigDict(dataset={"type": "ConcatDataset", "datasets": [part, other]})
    found = keep_images(loader, 0.5, 7)["dataset"]["datasets"]
    for each, suffix in zip(found, (".png", ".jpg"), strict=True):
        kept, *later = each["pipeline"]
        assert later == part["pipeline"][3:]
        assert kept == {
            **{"type": "KeptLoading", "steps": STEPS, "folder": "root/images/train"},
            **{"suffix": suffix, "scale": 0.5, "limit": 7},
        }


def test_a_training_is_the_same_with_images_in_memory_and_without(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    mini.write_params(tmp_path, image_scale=0.75)
    study = tmp_path / "params/studies/mini.yaml"
    for dataset in mini.load().datasets.values():
        fetch.fetch(dataset)
        prepare.prepare(dataset)
    loaded = []
    original = KeptLoading.__call__

    def called(self, results):
        loaded.append(self.memory is not None)
        return original(self, results)

    monkeypatch.setattr(KeptLoading, "__call__", called)
    outputs = []
    for limit in (0, 1024):
        study.write_text(json.dumps(json.loads(study.read_text()) | {"image_cache": limit}))
        run = mini.load().runs[0]
        train.train(run)
        outputs.append(read_json(run.output("train", "receipt.json"))["outputs"])
        assert loaded == ([] if limit == 0 else [True] * 12)
    assert outputs[0] == outputs[1] and "config.py" in outputs[0]
