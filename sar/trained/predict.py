"""Predict the classes of images with a trained model, and draw them."""

from __future__ import annotations

import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch
from PIL import Image

from sar.errors import SarError
from sar.large_images import MAX_PIXELS
from sar.trained.bundle import Bundle
from sar.trained.files import written_whole
from sar.trained.images import find_images, read_image, result_names
from sar.trained.model import TrainedModel
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
    trust_code: bool = False,
    max_pixels: int = MAX_PIXELS,
) -> tuple[int, list[str]]:
    """Write an overlay of each image into ``folder``, and what could not be read to the terminal.

    Args:
        names: images, folders and patterns.
        labels: write the class ids too, as ``labels/<name>.png`` of the image's size.
        palette: colours by class; None for the bundle's, or distinct ones where it has none.
        trust_code: whether Python code that came with the model may be run.
        max_pixels: an image of more is left out.

    Returns:
        How many images were predicted, and a line for each that was not.

    Raises:
        SarError: before any work, when there is no image, or a result would replace an image.
    """
    paths, lost = find_images(names, folder)
    if not paths:
        raise SarError("; ".join(lost))
    targets = [(folder / f"{name}.png") for name in result_names(paths)]
    _keep_apart(paths, targets, folder)
    place = choose_device(device)
    colours = palette or bundle.palette or distinct_colours(len(bundle.classes))
    model = TrainedModel(bundle, place, trust_code=trust_code)
    failures = list(lost)
    folder.mkdir(parents=True, exist_ok=True)
    for path, target in _progress(list(zip(paths, targets, strict=True))):
        try:
            image = read_image(path, max_pixels)
        except SarError as error:
            failures.append(str(error))
            continue
        ids = model.predict(image)
        _save(overlay(image, ids, bundle.classes, colours, opacity), target)
        if labels:
            _save(Image.fromarray(ids), folder / "labels" / target.name)
    return len(paths) + len(lost) - len(failures), failures


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
    with written_whole(path) as new:
        image.save(new, format="PNG")


def _progress(pairs: list[tuple[Path, Path]]) -> Any:
    from tqdm import tqdm

    return tqdm(pairs, unit="image", file=sys.stderr)
