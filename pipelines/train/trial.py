"""One step of a model on noise, before any training: what cannot be built or cannot learn says so
in seconds and not after hours.

A backbone is most of a model, and the same for all methods and data sets: it is built once, and
takes its step on torch's meta device, which computes shapes and no numbers, with the crop and as
many images as a process has at once. What comes after it (neck, heads, losses, method) takes a step
on the CPU, on noise in place of the feature maps, of two images at most, since only one alone has
too little for batch norm; the coarsest map has two pixels a side. What fails on maps so small is
tried again on those of the crop: some heads know one size only.
"""

from __future__ import annotations

import copy
import logging
import math
import traceback
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import torch
from mmengine.config import ConfigDict
from mmengine.logging import MMLogger
from mmengine.model import BaseModule, revert_sync_batchnorm
from mmengine.registry import MODELS, init_default_scope
from mmengine.structures import PixelData
from mmseg.structures import SegDataSample
from torch import Tensor, nn

from pipelines.configs.model import needs_edges
from pipelines.configs.numerics import numerics
from pipelines.study import Run

Sides = tuple[int, int]
Maps = Any
"""Of a backbone: a tensor, or tuples and lists of them."""

_UNKNOWN: Sides = (128, 128)
"""Sides of an image where there is no crop."""
_COARSEST = 2
"""Pixels a side of the coarsest feature map on which heads are tried."""
_IMAGES = 2
_PARTS = 2
"""Of a batch at most: what a method does in the first part alone shows in the second."""


class NotTrainable(Exception):
    """Why a model cannot be built or cannot take a step, in a line."""


class Trials:
    """Tries models, of which many have a backbone in common."""

    def __init__(self) -> None:
        self._backbones: dict[str, nn.Module] = {}
        self._maps: dict[tuple[str, int, Sides], Maps] = {}

    def step(self, run: Run, config: ConfigDict) -> None:
        """Build the model of `config`, that of `run` with its method, and let it take a step.

        Raises:
            NotTrainable: when it cannot, or when its loss or a gradient is then no finite number.
        """
        init_default_scope("mmseg")
        crop = run.training.augmentation.crop_size
        sides = _UNKNOWN if crop is None else (crop[0], crop[1])
        with quiet(), torch.random.fork_rng(devices=[]):
            torch.manual_seed(0)
            maps = self._feature_maps(config["backbone"], images_of(run), sides)
            images, small = min(images_of(run), _IMAGES), _small(maps, sides)
            try:
                _try_heads(run, config, _resized(maps, sides, small, images), small, images)
            except NotTrainable:
                if small == sides:
                    raise
                _try_heads(run, config, _resized(maps, sides, sides, images), sides, images)

    def _feature_maps(self, config: ConfigDict, images: int, sides: Sides) -> Maps:
        """The backbone's feature maps, without numbers, after a step forward and backward."""
        with _failing("its backbone"):
            key = repr(config)
            if key not in self._backbones:
                self._backbones[key] = _initialised(config).to("meta")
            if (key, images, sides) not in self._maps:
                batch = torch.zeros(images, 3, *sides, device="meta")
                self._maps[key, images, sides] = _step_of_backbone(self._backbones[key], batch)
            return self._maps[key, images, sides]


def images_of(run: Run) -> int:
    """Images that batch norm sees at once: a process's part of a batch; with GPUs those of all
    processes, which share its sums."""
    together = run.training.batch_size // run.entry.accumulate
    return together if run.study.file.gpus else together // run.study.file.processes


def _step_of_backbone(backbone: nn.Module, batch: Tensor) -> Maps:
    maps = backbone(batch)
    total = sum(each.sum() for each in _tensors(maps) if each.requires_grad)
    if isinstance(total, Tensor):  # Not of a backbone that is frozen.
        total.backward()
    return _mapped(maps, torch.Tensor.detach)


def _initialised(config: ConfigDict) -> nn.Module:
    module = MODELS.build(config)
    module.init_weights()
    # The synchronised one refuses the CPU.
    module = revert_sync_batchnorm(module)
    module.train()
    return module


@MODELS.register_module()
class _RecordedBackbone(BaseModule):
    """Stands where a model has its backbone, and gives feature maps that are noise."""

    def __init__(self, maps: Callable[[], Maps]) -> None:
        super().__init__()
        self._maps = maps

    def forward(self, images: Tensor) -> Maps:
        return self._maps()


def _try_heads(run: Run, config: ConfigDict, maps: Maps, sides: Sides, images: int) -> None:
    """A step of all that comes after the backbone."""
    config = copy.deepcopy(config)
    config["backbone"] = {"type": "_RecordedBackbone", "maps": lambda: _noise(maps)}
    config["data_preprocessor"].update(size=sides, size_divisor=None)
    with _failing("it"):
        model: Any = _initialised(config)
        followers = [each for each in model.modules() if hasattr(each, "follows")]
        for part in range(min(run.entry.accumulate, _PARTS)):
            for module in followers:
                module.follows = part == 0
            _step(model, run, sides, images, needs_edges(config))


def _step(model: Any, run: Run, sides: Sides, images: int, edges: bool) -> None:
    data = model.data_preprocessor(_batch(run, sides, images, edges), True)
    with torch.autocast("cpu", torch.bfloat16, enabled=numerics(run).precision == "bf16"):
        loss, terms = model.parse_losses(model(**data, mode="loss"))
    wrong = [f"{name} is {term.item()}" for name, term in terms.items() if not _finite(term)]
    if wrong:
        raise NotTrainable(f"{', '.join(wrong)} in the first step, expected finite numbers")
    loss.backward()
    for name, weight in model.named_parameters():
        if weight.grad is not None and not _finite(weight.grad):
            raise NotTrainable(f"the gradient of {name} is not finite in the first step")


def _finite(value: Tensor) -> bool:
    return bool(torch.isfinite(value.detach()).all())


def _tensors(node: Maps) -> Iterator[Tensor]:
    if isinstance(node, Tensor):
        yield node
    elif isinstance(node, list | tuple):
        for value in node:
            yield from _tensors(value)


def _mapped(node: Maps, change: Callable[[Tensor], Tensor]) -> Maps:
    """The same nesting of other tensors."""
    if isinstance(node, Tensor):
        return change(node)
    if isinstance(node, list | tuple):
        return [_mapped(value, change) for value in node]
    return node


def _small(maps: Maps, sides: Sides) -> Sides:
    """Sides of the image whose coarsest map has two pixels a side; of the crop where it is less."""
    found = [each.shape for each in _tensors(maps) if each.ndim == 4]
    coarsest = [(height, width) for *_, height, width in found] or [sides]
    least = (min(each[0] for each in coarsest), min(each[1] for each in coarsest))
    height, width = (
        math.ceil(side * min(1.0, _COARSEST / coarse))
        for side, coarse in zip(sides, least, strict=True)
    )
    return height, width


def _resized(maps: Maps, sides: Sides, wanted: Sides, images: int) -> Maps:
    """The maps of that many images with other sides, without numbers."""

    def resized(each: Tensor) -> Tensor:
        shape = [images, *each.shape[1:]]
        if each.ndim == 4:
            shape[2] = max(1, round(each.shape[2] * wanted[0] / sides[0]))
            shape[3] = max(1, round(each.shape[3] * wanted[1] / sides[1]))
        return torch.empty(shape, device="meta", dtype=each.dtype)

    return _mapped(maps, resized)


def _noise(maps: Maps) -> Maps:
    return _mapped(maps, lambda each: torch.randn(each.shape, requires_grad=True))


def _batch(run: Run, sides: Sides, images: int, edges: bool) -> dict[str, list[Any]]:
    """What a loader gives: images that nobody looks at, labels of all classes and void, and maps
    of edges for who asks for them."""
    card = run.dataset.card
    samples = []
    for _ in range(images):
        labels = torch.randint(len(card.classes), (1, *sides))
        labels[torch.rand(labels.shape) < 0.1] = card.ignore_index
        sample = SegDataSample(gt_sem_seg=PixelData(data=labels))
        if edges:
            sample.gt_edge_map = PixelData(data=torch.randint(2, labels.shape))
        sample.set_metainfo({"img_shape": sides, "ori_shape": sides, "pad_shape": sides})
        samples.append(sample)
    inputs = [torch.zeros(3, *sides, dtype=torch.uint8) for _ in range(images)]
    return {"inputs": inputs, "data_samples": samples}


@contextmanager
def _failing(what: str) -> Iterator[None]:
    """Whatever a model's classes raise becomes NotTrainable, which says where."""
    try:
        yield
    except NotTrainable:
        raise
    except Exception as error:
        lines = str(error).split(" Please check")[0].strip().splitlines() or ["no reason given"]
        place = traceback.extract_tb(error.__traceback__)[-1]
        raise NotTrainable(
            f"{what} fails: {type(error).__name__}: {lines[0]} "
            f"({Path(place.filename).name}, line {place.lineno})"
        ) from error


@contextmanager
def quiet() -> Iterator[None]:
    """mmengine lists each weight that it initialises, or gives a rate of its own: hundreds."""
    logger = MMLogger.get_current_instance()
    level = logger.level
    logger.setLevel(logging.ERROR)
    try:
        yield
    finally:
        logger.setLevel(level)
