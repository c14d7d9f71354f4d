"""The first study of a data set: a recipe that follows from the prepared data, with its reasons."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import joblib
from PIL import Image

from pipelines.base.errors import PipelineError
from pipelines.card.sizes import suggest
from pipelines.card.text import comments, flow
from pipelines.study import Dataset, made
from sar.large_images import allow_large_images

_METHODS = 3
_BATCH = 8
EPOCHS = 40
LEAST, _MOST = 100, 20_000
"""Iterations that the data may ask for."""
_SIDE = {"cpu": 240, "cuda": 1024}
"""The longer side to which images are made smaller, at most."""
_CROP = {"cpu": 160, "cuda": 512}
_RECIPES: dict[str, tuple[dict[str, Any], str]] = {
    "fcn_mobilenetv2": (
        {
            "type": "AdamW",
            "lr": 0.003,
            "weight_decay": 0.01,
            "custom_keys": {"backbone": {"lr_mult": 0.3}},
        },
        "as tuned for this model on CamVid (reports/camvid_tuning)",
    ),
    "fcn_hrnet_tiny": (
        {"type": "AdamW", "lr": 0.03, "weight_decay": 0.1},
        "as tuned for this model on the digit scenes",
    ),
}
_OTHER = (
    {"type": "SGD", "lr": 0.01, "momentum": 0.9, "weight_decay": 0.0005},
    "mmsegmentation's own for most models; not tuned",
)


@dataclass(frozen=True)
class Facts:
    """What the recipe follows from."""

    dataset: Dataset
    model: str
    device: str
    """cpu or cuda."""
    counts: Mapping[str, int]
    """Images of each split."""
    sizes: Counter[tuple[int, int]]
    """(width, height) of the training images, and how many have it."""
    seeds: int = 3

    @property
    def rounds(self) -> int:
        """How often as many runs as fit side by side are begun."""
        return -(-_METHODS * self.seeds // self.parallel)

    @property
    def wanted(self) -> int:
        """Iterations that the data asks for: each image so many times."""
        return min(_MOST, max(LEAST, EPOCHS * self.counts["train"] // self.batch))

    @property
    def batch(self) -> int:
        images = self.counts["train"]
        return _BATCH if images >= _BATCH else max(2, 1 << (images.bit_length() - 1))

    @property
    def split(self) -> str:
        return "test" if "test" in self.counts else "val"

    @property
    def parallel(self) -> int:
        """Runs side by side, of one thread each."""
        return 1 if self.device == "cuda" else joblib.cpu_count()


def facts_of(dataset: Dataset, model: str, device: str, seeds: int) -> Facts:
    """Read what prepare left.

    Raises:
        PipelineError: when it has not run, or there is no split to test on.
    """
    info = made.info(dataset)
    if not {"test", "val"} & info["counts"].keys():
        raise PipelineError(
            f"{dataset.card_file}: source.splits has {', '.join(info['counts'])}; expected test or "
            "val to measure on"
        )
    allow_large_images()
    sizes = Counter[tuple[int, int]]()
    for path in sorted((dataset.prepared / "images" / "train").iterdir()):
        with Image.open(path) as picture:
            sizes[picture.size] += 1
    return Facts(dataset, model, device, info["counts"], sizes, seeds)


def study_text(facts: Facts, iterations: int, told: str) -> str:
    """The content of a study file.

    Args:
        told: why there are so many iterations.
    """
    dataset = facts.dataset
    whole = suggest(facts.sizes.elements())
    largest = max(whole.base_size or next(iter(facts.sizes)))
    scale = min(1.0, round(_SIDE[facts.device] / largest, 2))
    fitted = [(round(w * scale), round(h * scale)) for w, h in facts.sizes.elements()]
    crop = suggest(fitted, _CROP[facts.device])
    optimizer, source = _RECIPES.get(facts.model, _OTHER)
    augmentation: dict[str, Any] = {"scale_range": [0.75, 1.5], "crop_size": list(crop.crop_size)}
    base = {} if whole.base_size is None else {"base_size": list(whole.base_size)}
    augmentation |= base | {"flip": 0.5}
    epochs = iterations * facts.batch / facts.counts["train"]
    warm_up = max(1, iterations // 10)
    smaller = "made smaller, so that a CPU is done in minutes" if scale < 1 else "as they are"
    lines = [
        "# yaml-language-server: $schema=../schema/study.json",
        f"title: {flow(f'First look at {dataset.card.title}')}",
        "description: >",
        f"  Baseline, SAR and SAR without its pull on {dataset.name}, after the same small number",
        f"  of iterations. {facts.seeds} seeds describe and claim nothing.",
        "kind: fixed-budget",
        f"datasets: [{dataset.name}]",
        f"models: [{facts.model}]",
        "baseline: baseline",
        "methods:",
        "  baseline: {label: Baseline}",
        "  sar:",
        "    label: SAR",
        "    plugin: sar.mmseg:apply_sar",
        "    options: {pull_weight: 0.1, aux_weight: 1.0, momentum: auto} # weights as released",
        *comments(["what of a gain is the pull, and what the auxiliary loss alone"], "  "),
        "  sar_without_pull:",
        "    label: SAR without pull",
        "    plugin: sar.mmseg:apply_sar",
        "    options: {pull_weight: 0.0, aux_weight: 1.0, momentum: auto}",
        *comments(
            ["methods can differ by chance: eight or more to claim anything (docs/claims.md)"]
        ),
        f"seeds: {list(range(facts.seeds))}",
        "threads: 1",
        *comments([f"images are {smaller}: their longer side is {largest} pixels"]),
        f"image_scale: {scale}",
        "training:",
        *comments([f"{told} ({epochs:.3g} times each training image)"], "  "),
        f"  iterations: {iterations}",
        *comments([f"of {facts.counts['train']} training images"], "  "),
        f"  batch_size: {facts.batch}",
        *comments([source], "  "),
        f"  optimizer: {flow(optimizer)}",
        "  schedule: " + flow({"power": 0.9, "min_lr": 1.0e-5, "warmup_iterations": warm_up}),
        *comments([f"crop: {crop.why_crop}; base: {whole.why_base}"], "  "),
        f"  augmentation: {flow(augmentation)}",
        f"  checkpoint_interval: {max(1, iterations // 3)}",
        f"  log_interval: {max(1, iterations // 20)}",
        "evaluation:",
        *comments([] if facts.split == "test" else ["the data has no test split"], "  "),
        f"  split: {facts.split}",
        f"  batch_size: {facts.batch}",
        "  gallery: 4",
        *(f"  {key}: {flow(value)}" for key, value in base.items()),
    ]
    return "\n".join(lines) + "\n"
