"""Images and masks of a user's own: one card, and nothing else, from folders to scores."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from pipelines.artifacts import read_json
from pipelines.fetch import fetch
from pipelines.prepare import prepare
from pipelines.study import Study
from tests.pipelines import mini

IN_PYTHON = """\
import os, numpy as np; from PIL import Image; os.makedirs("mine/images"); os.makedirs("mine/masks")
masks = {f"{split}_{i}.png": np.kron(np.random.default_rng([i, len(split)]).integers(0, 2, (3, 4)), np.ones((16, 16))).astype("uint8") for split in ("train", "test") for i in range(8)}
for name, mask in masks.items(): Image.fromarray(np.stack([mask * 200] * 3, -1)).save(f"mine/images/{name}"); Image.fromarray(mask).save(f"mine/masks/{name}")
"""  # noqa: E501

CARD = """\
title: My blocks
classes: [ground, block]
palette: [[40, 40, 40], [230, 120, 30]]
source:
  kind: files
  parts:
    mine: {kind: folder, path: mine}
  splits:
    train: {images: images/train_*.png, labels: masks/train_*.png}
    test: {images: images/test_*.png, labels: masks/test_*.png}
licence: my own
citation: none
"""


@pytest.fixture
def project(tmp_path, monkeypatch):
    """An empty project with the three lines' images and masks, the card, and a study of it."""
    training = mini.study_file()["training"] | {"iterations": 3, "validation_interval": None}
    mini.write_params(tmp_path, datasets=["mine"], training=training)
    (tmp_path / "params/datasets/mine.yaml").write_text(CARD)
    monkeypatch.chdir(tmp_path)
    subprocess.run([sys.executable, "-c", IN_PYTHON], check=True)
    return tmp_path


def labels() -> np.ndarray:
    """(8, H, W), those of the test split as they are prepared."""
    paths = sorted((Study.load("mini").datasets["mine"].prepared / "labels/test").iterdir())
    return np.stack([np.asarray(Image.open(path)) for path in paths])


def masks() -> np.ndarray:
    paths = sorted(Path("mine/masks").glob("test_*.png"))
    return np.stack([np.asarray(Image.open(path)) for path in paths])


@pytest.mark.slow
def test_from_three_lines_of_python_and_a_card_to_scores(project):
    for stage in ("fetch", "prepare", "train", "evaluate"):
        done = subprocess.run(
            [sys.executable, "-m", f"pipelines.{stage}", "--study", "mini"],
            env=os.environ | {"PYTHONPATH": str(mini.ROOT)},
            capture_output=True,
            text=True,
        )
        assert done.returncode == 0, done.stderr
    assert (labels() == masks()).all()
    study = Study.load("mini")
    assert read_json(study.datasets["mine"].info)["counts"] == {"train": 8, "test": 8}
    assert len(study.runs) == 2
    for run in study.runs:
        metrics = read_json(run.output("evaluate", "metrics.json"))
        assert metrics["num_images"] == 8
        assert metrics["IoU"].keys() == {"ground", "block"}


def test_masks_may_have_the_colours_of_the_palette(project):
    wanted = masks()
    palette = np.array([[40, 40, 40], [230, 120, 30]], np.uint8)
    for path in Path("mine/masks").iterdir():
        Image.fromarray(palette[np.asarray(Image.open(path))]).save(path)
    card = project / "params/datasets/mine.yaml"
    card.write_text(CARD.replace("licence:", "  labels: {encoding: colour}\nlicence:"))
    dataset = Study.load("mini").datasets["mine"]
    fetch(dataset)
    prepare(dataset, jobs=1)
    assert (labels() == wanted).all()
