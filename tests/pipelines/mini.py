"""A real study in miniature: 32-pixel scenes, a tiny HRNet, a few iterations."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

from pipelines.study import Study

ROOT = Path(__file__).parents[2]
MODEL = "fcn_hrnet_tiny"


def write_params(folder: Path, **changes) -> None:
    """Write the parameter files of the study `mini` below `folder`; `changes` go into the study."""
    params = folder / "params"
    (params / "models").mkdir(parents=True)
    shutil.copy(ROOT / f"params/models/{MODEL}.yaml", params / "models")
    card = {
        "title": "Mini scenes",
        "classes": ["background", *"0123456789"],
        "palette": [[20 * index, 0, 0] for index in range(11)],
        "source": {
            "kind": "digits",
            "scenes": {
                "seed": 1,
                "size": 32,
                "digits_per_scene": [1, 2],
                "digit_size": [12, 16],
                "imbalance": 2.0,
                "scenes": {"train": 12, "val": 4, "test": 5},
            },
        },
        "licence": "CC BY 4.0",
        "citation": "none",
    }
    study = study_file() | changes
    for kind, name, content in (("datasets", "mini", card), ("studies", "mini", study)):
        (params / kind).mkdir()
        (params / kind / f"{name}.yaml").write_text(json.dumps(content, indent=2))


def study_file() -> dict:
    """The content of the study file without changes."""
    return {
        "title": "Mini",
        "description": "A study that takes seconds.",
        "kind": "fixed-budget",
        "datasets": ["mini"],
        "models": [MODEL],
        "baseline": "baseline",
        "methods": {
            "baseline": {"label": "Baseline"},
            "sar": {"label": "SAR", "plugin": "sar.mmseg:apply_sar"},
        },
        "seeds": [0],
        "threads": 1,
        "training": {
            "iterations": 6,
            "batch_size": 2,
            "optimizer": {"type": "SGD", "lr": 0.05, "momentum": 0.9},
            "augmentation": {"crop_size": [24, 24], "flip": 0.5, "photometric": True},
            "checkpoint_interval": 2,
            "log_interval": 1,
            "validation_interval": 3,
        },
        "evaluation": {"batch_size": 2, "gallery": 2},
    }


def load() -> Study:
    return Study.load("mini")
