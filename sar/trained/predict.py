"""Predict the classes of images with a trained model, and draw them."""

from __future__ import annotations

import os
import sys
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from PIL import Image

from sar.errors import SarError
from sar.trained.bundle import Bundle, load_model
from sar.trained.images import bgr, find_images, read_image, result_names
from sar.trained.overlay import overlay
from sar.trained.palette import distinct_colours


def predict_images(
    bundle: Bundle,
    names: Sequence[str],
    folder: Path,
    *,
    labels: bool = False,
    device: str = "auto",
    opacity: float = 0.6,
    palette: Sequence[Sequence[int]] | None = None,
) -> tuple[int, list[str]]:
    """Write an overlay of each image into ``folder``, and what could not be read to the terminal.

    Args:
        names: images, folders and patterns.
        labels: write the class ids too, as ``labels/<name>.png`` of the image's size.
        palette: colours by class; None for the bundle's, or distinct ones where it has none.

    Returns:
        How many images were predicted, and a line for each that was not.

    Raises:
        SarError: before any work, when there is no image, or a result would replace an image.
    """
    paths, lost = find_images(names, folder)
    if not paths:
        raise SarError(f"no image found: {', '.join(names)}")
    targets = [(folder / f"{name}.png") for name in result_names(paths)]
    _keep_apart(paths, targets, folder)
    place = choose_device(device)
    colours = palette or bundle.palette or distinct_colours(len(bundle.classes))
    predictor = Predictor(bundle, place)
    failures = [f"{name}: no such file, and no image fits it" for name in lost]
    folder.mkdir(parents=True, exist_ok=True)
    for path, target in _progress(list(zip(paths, targets, strict=True))):
        try:
            image = read_image(path)
        except SarError as error:
            failures.append(str(error))
            continue
        ids = predictor(image)
        _save(overlay(image, ids, bundle.classes, colours, opacity), target)
        if labels:
            _save(Image.fromarray(ids), folder / "labels" / target.name)
    return len(paths) + len(lost) - len(failures), failures


class Predictor:
    """Class ids (H, W) uint8 of an RGB image of H rows and W columns."""

    def __init__(self, bundle: Bundle, device: torch.device) -> None:
        from mmcv.transforms import Compose

        self.model: Any = load_model(bundle, device)
        # Registered under names of mmseg, which `load_model` has made known.
        self._prepare: Callable[[dict[str, Any]], Any] = Compose(
            [{"type": "LoadImageFromNDArray"}, *bundle.image_steps, {"type": "PackSegInputs"}]
        )

    def __call__(self, image: Image.Image) -> np.ndarray:
        data: Mapping[str, Any] = self._prepare({"img": bgr(image)})
        batch = {"inputs": [data["inputs"]], "data_samples": [data["data_samples"]]}
        with torch.inference_mode():
            sample = self.model.test_step(batch)[0]
        ids: np.ndarray = sample.pred_sem_seg.data[0].cpu().numpy().astype(np.uint8)
        return ids


def choose_device(name: str) -> torch.device:
    """``auto`` is a GPU where there is one.

    Raises:
        SarError: when there is no such device.
    """
    if name == "auto":
        name = "cuda" if torch.cuda.is_available() else "cpu"
    try:
        device = torch.device(name)
    except RuntimeError as error:
        raise SarError(f"--device {name}: {str(error).splitlines()[0]}") from error
    if device.type == "cuda":
        count = torch.cuda.device_count()
        if (device.index or 0) >= count:
            raise SarError(f"--device {name}: PyTorch sees {count} CUDA devices on this machine")
    elif device.type != "cpu":
        raise SarError(f"--device {name}: expected auto, cpu, cuda or cuda:<number>")
    return device


def _keep_apart(paths: Sequence[Path], targets: Sequence[Path], folder: Path) -> None:
    inputs = {path.resolve() for path in paths}
    for target in targets:
        for result in (target, folder / "labels" / target.name):
            if result.resolve() in inputs:
                raise SarError(f"{result}: is one of the images; expected results elsewhere")
    if folder.exists() and not folder.is_dir():
        raise SarError(f"{folder}: expected a folder for the results, found a file")


def _save(image: Image.Image, path: Path) -> None:
    """Write a PNG file, whole or not at all."""
    path.parent.mkdir(parents=True, exist_ok=True)
    new = path.with_name(f".{path.name}.{os.getpid()}")
    try:
        image.save(new, format="PNG")
        new.replace(path)
    finally:
        new.unlink(missing_ok=True)


def _progress(pairs: list[tuple[Path, Path]]) -> Any:
    from tqdm import tqdm

    return tqdm(pairs, unit="image", file=sys.stderr)
