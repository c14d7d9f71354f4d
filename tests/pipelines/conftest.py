"""A whole small study, its runs made up, for the stages that come after training."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from matplotlib.figure import Figure
from PIL import Image

from pipelines.base.artifacts import canonical_json, write_receipt
from pipelines.base.class_groups import class_groups
from pipelines.base.metric_names import headline
from pipelines.base.metrics import confusion_matrix, scores
from pipelines.evaluate.collector import Collector
from pipelines.rendering import style
from pipelines.running import digests
from pipelines.study import Run, Study

CLASSES = ["ground", "9", "truth", "null", "gone"]
PALETTE = [[48, 48, 48], [136, 204, 238], [204, 102, 119], [221, 204, 119], [17, 119, 51]]
SHARES = {"ground": 0.7, "9": 0.05, "truth": 0.002, "null": 0.2, "gone": 0.048}
SIZE = 24


@pytest.fixture(autouse=True)
def _digests_are_trusted(monkeypatch):
    """A process is one command: whatever `--verify` asks for ends with its test."""
    monkeypatch.setattr(digests, "_trusted", True)


@pytest.fixture
def fabricate(tmp_path, monkeypatch):
    """`fabricate_here` in an empty project, which is the working directory."""
    monkeypatch.chdir(tmp_path)
    return build


@pytest.fixture
def no_figures(monkeypatch):
    """Figures take most of a report's time; what they show does not matter to every test."""
    save = style.save

    def save_nothing(figure, folder, stem):
        save(Figure(figsize=(0.1, 0.1)), folder, stem)

    monkeypatch.setattr(style, "save", save_nothing)


@pytest.fixture(scope="session")
def fabricate_here():
    """A function that makes a study in the working directory, for fixtures of a wider scope.

    It takes changes to the study file and `skip`, names of runs to leave unfinished; the truth of
    the test split has void pixels and none of the class "gone".
    """
    return build


def build(name: str = "mini", skip: tuple[str, ...] = (), **changes) -> Study:
    _write_yaml(f"params/studies/{name}.yaml", _study_file() | changes)
    _write_yaml("params/datasets/shapes.yaml", _data_card())
    _write_yaml("params/models/tiny_net.yaml", {"title": "A tiny net", "config": "none.py"})
    study = Study.load(name)
    for dataset in study.datasets.values():
        _prepare(dataset)
    for run in study.runs:
        if run.name not in skip:
            _finish(run)
    return study


def _finish(run: Run) -> None:
    """Write what train and evaluate would, with SAR the better and noise from the seed."""
    rng = np.random.default_rng([run.seed, len(run.method)])
    chance = 0.35 - 0.15 * (run.method != "baseline") + 0.02 * rng.standard_normal()
    _train(run, rng)
    folder = run.folder("evaluate")
    folder.mkdir(parents=True, exist_ok=True)
    confusion, kept = np.zeros((len(CLASSES),) * 2, np.int64), {}
    collector = Collector(CLASSES)
    for path in sorted((run.dataset.prepared / "labels/test").iterdir()):
        truth = np.asarray(Image.open(path))
        wrong = rng.random(truth.shape) < chance
        kept[path.stem] = np.where(wrong | (truth == 255), rng.integers(0, 4, truth.shape), truth)
        kept[path.stem] = kept[path.stem].astype(np.uint8)
        collector.add(path.stem, confusion_matrix(truth, kept[path.stem], len(CLASSES), 255))
        labels = truth[::4, ::4]
        collector.add_features(rng.random((4, *labels.shape)) + labels, labels, (4, 4))
        confusion += confusion_matrix(truth, kept[path.stem], len(CLASSES), 255)
    info = json.loads(run.dataset.info.read_text())
    metrics = {"dataset": run.dataset.name, "split": "test", "num_images": len(kept)}
    metrics |= scores(confusion, CLASSES, info["groups"])
    (folder / "metrics.json").write_text(canonical_json(metrics))
    (folder / "scores.json").write_text(canonical_json(headline(metrics)))
    table = pd.DataFrame(confusion, index=CLASSES, columns=CLASSES)
    table.to_csv(folder / "confusion.csv", index_label="truth")
    np.savez_compressed(folder / "predictions.npz", **(kept if run.keeps_predictions else {}))
    collector.write(folder / "analysis.npz", classifier={}, state={}, log={})
    inputs = [run.output("train", "receipt.json"), run.dataset.receipt]
    _receipt(folder, "evaluate", run.name, run.parameters_hash("evaluate"), inputs)


def _train(run: Run, rng: np.random.Generator) -> None:
    folder = run.folder("train")
    folder.mkdir(parents=True, exist_ok=True)
    iterations = np.arange(1, run.training.iterations + 1)
    curves = pd.DataFrame({"iteration": iterations})
    curves["loss"] = 2 * np.exp(-iterations / 8) + 0.2 + 0.05 * rng.random(len(iterations))
    curves["decode.loss_ce"] = curves["loss"] - 0.1
    if run.training.validation_interval:
        measured = iterations % run.training.validation_interval == 0
        curves["mIoU"] = np.where(measured, 60 * (1 - np.exp(-iterations / 8)), np.nan)
        curves["mIoU"] += rng.standard_normal()
    curves.to_csv(folder / "curves.csv", index=False)
    _receipt(folder, "train", run.name, run.parameters_hash("train"), [run.dataset.receipt])


def _prepare(dataset) -> None:
    rng = np.random.default_rng(0)
    y, x = np.mgrid[:SIZE, :SIZE]
    for index in range(2):
        truth = np.zeros((SIZE, SIZE), np.uint8)
        for label in (1, 2, 3, 255):
            centre = rng.integers(4, SIZE - 4, 2)
            truth[(y - centre[0]) ** 2 + (x - centre[1]) ** 2 < 20] = label
        image = rng.integers(0, 255, (SIZE, SIZE, 3)).astype(np.uint8)
        for kind, pixels in (("images", image), ("labels", truth)):
            for split in ("val", "test"):
                path = dataset.prepared / kind / split / f"{index:05d}.png"
                path.parent.mkdir(parents=True, exist_ok=True)
                Image.fromarray(pixels).save(path)
    info = {"classes": CLASSES, "palette": PALETTE, "ignore_index": 255, "pixel_share": SHARES}
    info |= {"counts": {"train": 9, "val": 3, "test": 2}, "groups": class_groups(SHARES)}
    info |= {"digests": dict.fromkeys(info["counts"], "0" * 64)}
    dataset.info.write_text(canonical_json(info))
    dataset.folder("fetch").mkdir(parents=True, exist_ok=True)
    for stage in ("fetch", "prepare"):
        inputs, parameters = dataset.input_receipts(stage), dataset.parameters_hash(stage)
        _receipt(dataset.folder(stage), stage, dataset.name, parameters, inputs)


def _receipt(folder: Path, stage: str, subject: str, parameters: str, inputs=()) -> None:
    write_receipt(folder, stage=stage, subject=subject, parameters=parameters, inputs=inputs)
    (folder / "runtime.json").write_text('{"wall_seconds": 1.5}\n')


def _write_yaml(path: str, value: dict) -> None:
    Path(path).parent.mkdir(parents=True, exist_ok=True)
    Path(path).write_text(json.dumps(value, indent=2))  # JSON is YAML, and keeps the order of keys


def _data_card() -> dict:
    scenes = {"seed": 0, "size": 64, "scenes": {"train": 9, "val": 3, "test": 2}}
    return {
        "title": "Made-up shapes",
        "classes": CLASSES,
        "palette": PALETTE,
        "source": {"kind": "digits", "scenes": scenes},
        "licence": "none",
        "citation": "none",
    }


def _study_file() -> dict:
    return {
        "title": "A made-up comparison",
        "description": "Numbers from nowhere.",
        "kind": "fixed-budget",
        "datasets": ["shapes"],
        "models": ["tiny_net"],
        "baseline": "baseline",
        "methods": {
            "baseline": {"label": "Baseline"},
            "sar": {"label": "SAR_1", "plugin": "nowhere:apply"},
            "longer": {
                "label": "Baseline, twice the iterations",
                "training": {"iterations": 40},
                "seeds": [0, 1],
                "control": True,
            },
        },
        "seeds": [0, 1, 2],
        "threads": 1,
        "training": {
            "iterations": 20,
            "batch_size": 2,
            "optimizer": {"type": "SGD", "lr": 0.1},
            "checkpoint_interval": 10,
            "log_interval": 1,
            "validation_interval": 5,
        },
    }
