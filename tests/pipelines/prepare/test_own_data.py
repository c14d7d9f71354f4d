"""Images and masks of a user's own: one card, and nothing else, from folders to scores."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from pipelines.base.artifacts import read_json
from pipelines.fetch.stage import fetch
from pipelines.prepare.stage import prepare
from pipelines.study import Study
from tests.pipelines import mini

PAGE = (mini.ROOT / "docs/data.md").read_text(encoding="utf-8")


def shown(language: str, beginning: str) -> str:
    """The block of code in docs/data.md that begins so."""
    return re.search(rf"^```{language}\n({re.escape(beginning)}.*?)^```", PAGE, re.M | re.S)[1]


IN_PYTHON = shown("python", "import numpy as np\nfrom PIL import Image\n\nrng =")
CARD = shown("yaml", "title: My blocks")


@pytest.fixture
def project(tmp_path, monkeypatch):
    """An empty project with the page's images and masks, its card, and a study of it."""
    training = mini.study_file()["training"] | {"iterations": 3, "validation_interval": None}
    mini.write_params(tmp_path, datasets=["mine"], training=training)
    (tmp_path / "params/datasets/mine.yaml").write_text(CARD)
    monkeypatch.chdir(tmp_path)
    for kind in ("images", "masks"):
        Path("mine", kind).mkdir(parents=True)
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
