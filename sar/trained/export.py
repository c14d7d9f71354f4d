"""A trained model as a file that runs without this package and without mmsegmentation.

- ``onnx``: for ONNX Runtime and whatever else reads ONNX.
- ``torchscript``: ``torch.jit.load``, for C++ too.
- ``torch.export``: ``torch.export.load``, for what compiles PyTorch's own graphs.

Each holds `TrainedModel.forward`: RGB images (N, 3, H, W) of 0..255, float32, called ``images``,
in; scores (N, K, H, W), called ``logits``, out. Normalisation is inside. Number and size of the
images are free; where a size is given, it is one image of that size. A file gets its name only
after it was read back and gave the same scores as the model itself (`sar.trained.agreement`).

Beside the graph each file holds a JSON text (`describe`): in ONNX the metadata
``semantic_anchors``, in the two others the extra file ``semantic_anchors.json``.
"""

from __future__ import annotations

import functools
import json
import logging
import warnings
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

import sar
from sar.errors import SarError
from sar.extras import need
from sar.trained.agreement import Agreement, compare
from sar.trained.files import written_whole
from sar.trained.model import TrainedModel

__all__ = ["FORMATS", "SUFFIXES", "describe", "export"]

SUFFIXES = {"onnx": ".onnx", "torchscript": ".pt", "torch.export": ".pt2"}
"""Of the files, by format."""

FORMATS = tuple(SUFFIXES)

ENTRY = "semantic_anchors"

_TRACED = (2, 96, 128)
"""Number, height and width of the images that a graph of free size is recorded with."""

_CHECKED = ((1, 101, 150), (3, 128, 96))
"""Number, height and width of the images with which a graph of free size is compared."""


@dataclass(frozen=True)
class _Format:
    """How a graph is recorded and written, and how a file is read back."""

    write: Callable[[TrainedModel, Tensor, bool, Path, str], None]
    """Model, images, whether their number and size are free, file, description."""
    read: Callable[[Path], Callable[[Tensor], Tensor]]


def export(
    model: TrainedModel,
    path: Path,
    format: str,
    *,
    size: tuple[int, int] | None = None,
    whole: bool = False,
) -> list[Agreement]:
    """Write ``path``, after its content gave the same scores as ``model``, on the CPU.

    Args:
        format: one of `FORMATS`.
        size: (height, width) of the one image, for models whose graph cannot take any.
        whole: allow a model that joins sliding windows to be exported as one look at the whole
            image; the windows are then the caller's.

    Returns:
        How well file and model agreed, for each batch of random images that both were given.

    Raises:
        SarError: when a package is missing, the model cannot be recorded, or file and model differ;
            ``path`` is then what it was.
    """
    if format not in SUFFIXES:
        raise SarError(f"format={format!r}: expected one of {', '.join(FORMATS)}")
    if path.suffix != SUFFIXES[format]:
        raise SarError(f"{path}: expected a name that ends in {SUFFIXES[format]} for {format}")
    if model.sliding and not whole:
        raise SarError(
            "the model joins sliding windows (test_cfg of its config), which no graph of free size "
            "does; expected --whole, to export what it sees of one window"
        )
    if format == "onnx":
        need("export", "onnx", "onnxscript", "onnxruntime", why="an export to ONNX")
    one = _FORMATS[format]
    shapes = [(1, *size)] if size else list(_CHECKED)
    traced = random_images((1, *size) if size else _TRACED, seed=0)
    text = json.dumps(describe(model, size), sort_keys=True)
    with _on_cpu(model), _one_window(model), written_whole(path) as new:
        with _recording(format, size), _upsampling_by_whole_numbers(model):
            one.write(model, traced, size is None, new, text)
        with _running(format, shapes[0], size):
            exported = one.read(new)
        agreements = []
        for seed, shape in enumerate(shapes, 1):
            images = random_images(shape, seed)
            with torch.inference_mode():
                expected = model(images)
            with _running(format, shape, size):
                found = exported(images)
            agreements.append(compare(found, expected, f"{format}, images of {shape}"))
    return agreements


def describe(model: TrainedModel, size: tuple[int, int] | None = None) -> dict[str, Any]:
    """What a file says of itself: classes, normalisation, how images go in and labels come out."""
    segmentor: Any = model.segmentor
    outputs = segmentor.out_channels
    threshold = getattr(segmentor.decode_head, "threshold", None)
    return {
        "version": sar.__version__,
        "classes": model.classes,
        "palette": model.palette,
        "input": {
            "name": "images",
            "shape": [1, 3, *size] if size else ["N", 3, "H", "W"],
            "type": "float32",
            "channels": "RGB",
            "range": [0, 255],
        },
        "normalisation": {
            "inside": True,
            "channels": model.channels,
            "mean": model.mean,
            "std": model.std,
        },
        "image_steps": model.image_steps,
        "output": {
            "name": "logits",
            "shape": [1, outputs, *size] if size else ["N", outputs, "H", "W"],
            "labels": "argmax over axis 1"
            if outputs > 1
            else f"1 where the sigmoid exceeds {threshold}",
        },
        "windows": dict(segmentor.test_cfg) if model.sliding else None,
        "source": model.source,
    }


def random_images(shape: tuple[int, ...], seed: int) -> Tensor:
    """Noise in 0..255 on coarse patches, so that classes differ; (N, 3, H, W) of (N, H, W)."""
    number, height, width = shape
    generator = torch.Generator().manual_seed(seed)
    coarse = 255 * torch.rand(number, 3, 8, 8, generator=generator)
    patches = F.interpolate(coarse, (height, width))
    noise = 64 * torch.rand(number, 3, height, width, generator=generator) - 32
    return (patches + noise).clamp(0, 255)


def _write_onnx(model: TrainedModel, images: Tensor, free: bool, path: Path, text: str) -> None:
    program = torch.onnx.export(
        model,
        (images,),
        dynamo=True,
        dynamic_shapes=({0: "batch", 2: "height", 3: "width"},) if free else None,
        input_names=["images"],
        output_names=["logits"],
        verbose=False,
    )
    assert program is not None  # It is, with dynamo.
    program.model.metadata_props[ENTRY] = text
    program.save(path, external_data=False)


def _read_onnx(path: Path) -> Callable[[Tensor], Tensor]:
    import onnxruntime

    options = onnxruntime.SessionOptions()
    options.log_severity_level = 4  # What fails is raised, too.
    session = onnxruntime.InferenceSession(
        path.as_posix(), options, providers=["CPUExecutionProvider"]
    )
    return lambda images: torch.from_numpy(session.run(["logits"], {"images": images.numpy()})[0])


def _write_torchscript(
    model: TrainedModel, images: Tensor, free: bool, path: Path, text: str
) -> None:
    with torch.no_grad():
        traced = torch.jit.trace(model, images, check_trace=False)
    torch.jit.save(traced, path, _extra_files={f"{ENTRY}.json": text})


def _read_torchscript(path: Path) -> Callable[[Tensor], Tensor]:
    return _without_gradient(torch.jit.load(path))


def _write_torch_export(
    model: TrainedModel, images: Tensor, free: bool, path: Path, text: str
) -> None:
    sizes = dict.fromkeys((0, 2, 3), torch.export.Dim.DYNAMIC)
    # Or a graph recorded with two images is not for one.
    settings: Any = torch.fx.experimental._config  # its `patch` is not typed
    with settings.patch(backed_size_oblivious=True):
        program = torch.export.export(model, (images,), dynamic_shapes=(sizes,) if free else None)
    torch.export.save(program, path, extra_files={f"{ENTRY}.json": text})


def _read_torch_export(path: Path) -> Callable[[Tensor], Tensor]:
    return _without_gradient(torch.export.load(path).module())


def _without_gradient(module: Callable[[Tensor], Tensor]) -> Callable[[Tensor], Tensor]:
    def run(images: Tensor) -> Tensor:
        with torch.no_grad():
            return module(images)

    return run


_FORMATS = {
    "onnx": _Format(_write_onnx, _read_onnx),
    "torchscript": _Format(_write_torchscript, _read_torchscript),
    "torch.export": _Format(_write_torch_export, _read_torch_export),
}


@contextmanager
def _on_cpu(model: TrainedModel) -> Iterator[None]:
    device = next(model.parameters()).device
    model.to("cpu")
    try:
        yield
    finally:
        model.to(device)


@contextmanager
def _one_window(model: TrainedModel) -> Iterator[None]:
    """Let a model that slides look at the whole image while the block runs."""
    test_cfg: Any = model.segmentor.test_cfg
    mode = test_cfg.get("mode")
    test_cfg["mode"] = "whole"
    try:
        yield
    finally:
        test_cfg["mode"] = mode


@contextmanager
def _upsampling_by_whole_numbers(model: TrainedModel) -> Iterator[None]:
    """Let mmsegmentation's ``Upsample`` (HRNet's branches have it) multiply sizes by a whole number
    while the block runs: its ``int(size * 2.0)`` would make a constant of each recorded size.
    """
    from mmseg.models.utils import Upsample

    def forward(module: Any, x: Tensor) -> Tensor:
        size = [length * int(module.scale_factor) for length in x.shape[-2:]]
        return F.interpolate(x, size, mode=module.mode, align_corners=module.align_corners)

    changed: list[Any] = [
        module
        for module in model.modules()
        if type(module) is Upsample
        and not module.size
        and isinstance(module.scale_factor, float)
        and module.scale_factor.is_integer()
    ]
    for module in changed:
        module.forward = functools.partial(forward, module)
    try:
        yield
    finally:
        for module in changed:
            del module.forward


@contextmanager
def _recording(format: str, size: tuple[int, int] | None) -> Iterator[None]:
    """Quiet what exporters say on the way; what they cannot do is said in one line."""
    loggers = [logging.getLogger(name) for name in ("torch.onnx", "onnxscript", "onnx_ir")]
    levels = [logger.level for logger in loggers]
    try:
        for logger in loggers:
            logger.setLevel(logging.ERROR)
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # About sizes taken for constants: they are compared.
            yield
    except (OSError, KeyboardInterrupt):
        raise
    except Exception as error:  # Whatever an exporter meets in a model's code.
        raise SarError(
            f"the model cannot be recorded as {format}: {_in_short(error)}{_hint(size)}"
        ) from error
    finally:
        for logger, level in zip(loggers, levels, strict=True):
            logger.setLevel(level)


@contextmanager
def _running(format: str, shape: tuple[int, ...], size: tuple[int, int] | None) -> Iterator[None]:
    try:
        yield
    except Exception as error:  # A runtime's own.
        raise SarError(
            f"the {format} file does not run on images of {shape}: {_in_short(error)}{_hint(size)}"
        ) from error


def _hint(size: tuple[int, int] | None) -> str:
    return "" if size else "; expected --size HEIGHTxWIDTH where a model's graph depends on it"


def _in_short(error: BaseException) -> str:
    """The first line of what lies at the bottom of an error."""
    while error.__cause__ is not None:
        error = error.__cause__
    lines = [line.strip() for line in str(error).splitlines() if line.strip()]
    # TorchScript begins with where it was and ends with why.
    told = [lines[0], *lines[-1:]] if len(lines) > 1 else lines
    return f"{type(error).__name__}: {' ... '.join(line[:200] for line in told)}"
