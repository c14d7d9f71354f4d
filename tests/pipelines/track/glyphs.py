"""A made-up study in the working directory: the files of its stages, which never ran."""

from __future__ import annotations

import shutil
from pathlib import Path

from pipelines.base.artifacts import canonical_json, staged, write_receipt
from pipelines.base.class_groups import class_groups
from pipelines.study import Run, Study

CLASSES = ["background", "a", "b"]
CURVES = ("lr", "loss", "decode.loss_ce", "decode.acc_seg", "loss_aux_ce", "mIoU")

CARD = """
title: Two glyphs
classes: [background, a, b]
palette: [[0, 0, 0], [1, 1, 1], [2, 2, 2]]
source:
  kind: digits
  scenes:
    seed: 0
    size: 64
    digits_per_scene: [2, 5]
    digit_size: [16, 26]
    imbalance: 30.0
    scenes: {train: 12, val: 2, test: 4}
licence: none
citation: none
"""
MODEL = "{title: Tiny, config: _base_/models/fcn_hr18.py, model: {backbone: {depth: 1}}}"
STUDY = """
title: A mini study
description: Whether the view says what the files say.
kind: fixed-budget
datasets: [glyphs]
models: [tiny]
baseline: baseline
methods: {baseline: {label: Baseline}, sar: {label: SAR, plugin: "sar.mmseg:apply_sar"}}
seeds: %s
threads: 1
training:
  iterations: 300
  batch_size: 2
  optimizer: {type: SGD, lr: %s, momentum: 0.9}
  checkpoint_interval: 100
  log_interval: 10
"""


def fabricate(seeds: list[int], lr: float = 0.05) -> Study:
    """Parameters and prepared data of the study `mini`."""
    files = {"datasets/glyphs": CARD, "models/tiny": MODEL, "studies/mini": STUDY % (seeds, lr)}
    for name, text in files.items():
        path = Path("params", f"{name}.yaml")
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text, encoding="utf-8")
    study = Study.load("mini")
    dataset = study.datasets["glyphs"]
    info = {"digests": {s: s[0] * 64 for s in ("train", "val", "test")}}
    info["counts"] = dict(dataset.card.source.scenes.scenes)
    classes = dataset.card.classes
    info |= {"classes": classes, "palette": dataset.card.palette, "ignore_index": 255}
    info["pixel_share"] = dict.fromkeys(classes, 1 / len(classes))
    info["groups"] = class_groups(info["pixel_share"])
    with staged(dataset.prepared) as scratch:
        (scratch / "info.json").write_text(canonical_json(info))
        _finish(scratch, "prepare", "glyphs", "0" * 64, [])
    return study


def finished(seeds: list[int]) -> Study:
    """The study with all runs and their comparison on disk."""
    study = fabricate(seeds)
    for run in study.runs:
        fake_run(run)
    fake_comparison(study)
    return study


def fake_run(run: Run, **changes) -> None:
    fake_training(run, **changes)
    fake_evaluation(run)


def fake_training(run: Run, shift: float = 0.0, points: int = 30, **runtime) -> None:
    """Outputs of train; the second column of every other row is blank."""
    with staged(run.folder("train")) as scratch:
        rows = [",".join(("iteration", *CURVES))]
        for step in range(10, 10 * points + 10, 10):
            values = [f"{1 / step + shift + run.seed + k}" for k in range(len(CURVES))]
            values[1] = values[1] if step % 20 else ""
            rows.append(",".join([str(step), *values]))
        (scratch / "curves.csv").write_text("\n".join(rows) + "\n")
        (scratch / "config.py").write_text("a = 1\n")
        (scratch / "weights.safetensors").write_bytes(f"weights {run.name} {shift}".encode())
        parameters = run.parameters_hash("train")
        _finish(scratch, "train", run.name, parameters, [run.dataset.receipt], **runtime)


def fake_evaluation(run: Run) -> None:
    metrics = {"dataset": run.dataset.name, "split": "test", "num_images": 4}
    metrics |= {"mIoU": 50.0 + run.seed, "mAcc": 60.0, "aAcc": 70.0}
    metrics |= {name: dict.fromkeys(CLASSES, 50.0) | {"b": None} for name in ("IoU", "Acc")}
    groups = {"head": (["a"], 80.0), "mid": (["b"], 40.0), "tail": ([], None)}
    metrics["groups"] = {
        name: {"classes": classes, "mIoU": value} for name, (classes, value) in groups.items()
    }
    with staged(run.folder("evaluate")) as scratch:
        (scratch / "metrics.json").write_text(canonical_json(metrics))
        (scratch / "confusion.csv").write_text("truth,a\na,1\n")
        inputs = [run.output("train", "receipt.json"), run.dataset.receipt]
        _finish(scratch, "evaluate", run.name, run.parameters_hash("evaluate"), inputs)


def fake_comparison(study: Study, mean: float = 51.0) -> None:
    inputs = [run.output("evaluate", "metrics.json") for run in study.runs]
    with staged(study.folder("compare")) as scratch:
        (scratch / "summary.csv").write_text(
            "dataset,model,method,metric,n,mean,std\n"
            f"glyphs,tiny,sar,mIoU,2,{mean},0.5\n"
            "glyphs,tiny,sar,IoU/a,2,50.0,0.1\n"
        )
        (scratch / "paired.csv").write_text(
            "dataset,model,method,metric,n,mean_difference,std_difference,wins\n"
            "glyphs,tiny,sar,mIoU,1,1.5,,1\n"
        )
        _finish(scratch, "compare", study.name, study.parameters_hash("compare"), inputs)
    inputs = [study.output("compare", "summary.csv")]
    with staged(study.folder("report")) as scratch:
        (scratch / "table.md").write_text("| method | mIoU |\n|---|---|\n| SAR | 51.0 |\n")
        (scratch / "report.md").write_text("# Report\n")
        shutil.copy(_picture(), scratch / "per_class.png")
        _finish(scratch, "report", study.name, study.parameters_hash("report"), inputs)


def _finish(
    scratch: Path, stage: str, subject: str, parameters: str, inputs: list[Path], **more
) -> None:
    write_receipt(scratch, stage=stage, subject=subject, parameters=parameters, inputs=inputs)
    runtime = {
        "started": "2026-01-02T03:04:05+00:00",
        "wall_seconds": 60.0,
        "cpu_seconds": 59.0,
        "peak_memory_mib": 512.5,
        "commit": "c" * 40,
        "dirty": False,
        "python": "3.11.2",
        "platform": "Linux",
        "versions": {"torch": "2.13.0"},
    }
    if stage == "train":
        runtime["device"] = "cpu"
    (scratch / "runtime.json").write_text(canonical_json(runtime | more))


def _picture() -> Path:
    from PIL import Image

    path = Path("picture.png")
    Image.new("RGB", (320, 160), (17, 119, 51)).save(path)
    return path
