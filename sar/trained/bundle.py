"""A trained model in one file: weights, how to build it, and the names and colours of its classes.

The file is a safetensors file. Its tensors have the names of the model's state dict, those of the
regularizer begin with ``regularizer.``; its header holds the rest as one JSON text. Nothing in it
is a program: the model's config stands there as a Python literal.
"""

from __future__ import annotations

import ast
import json
import os
import warnings
from collections.abc import Mapping
from dataclasses import dataclass, field
from importlib import import_module
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save
from torch import Tensor, nn

from sar.checkpoints import PREFIX
from sar.errors import SarError

KEY = "semantic_anchors"
"""Of the header: one entry, since safetensors writes several in any order."""

FORMAT = 1

_WRITTEN = ("classes", "palette", "image_steps", "imports", "source", "notes")


@dataclass(frozen=True)
class Bundle:
    """A trained model and what its prediction needs."""

    model: dict[str, Any]
    """Config of the bare model, in plain values."""
    weights: dict[str, Tensor]
    """State of the bare model."""
    classes: list[str]
    palette: list[list[int]] | None = None
    """(r, g, b) by class."""
    regularizer: dict[str, Tensor] = field(default_factory=dict)
    """State of the regularizer, its names beginning with ``regularizer.``; empty for a baseline."""
    image_steps: list[dict[str, Any]] = field(default_factory=list)
    """Transforms of an image before the model, as in a pipeline of mmsegmentation."""
    imports: list[str] = field(default_factory=list)
    """Modules that register what the model is made of."""
    source: dict[str, str] = field(default_factory=dict)
    """Where the weights come from: file, sha256, and what that file says of itself."""
    notes: list[str] = field(default_factory=list)
    """What reading them decided, for a person to see."""


def write_bundle(bundle: Bundle, path: Path) -> None:
    """Write the file, whole or not at all; equal bundles give equal bytes.

    Raises:
        SarError: when the config holds something that a literal cannot.
    """
    values = {name: getattr(bundle, name) for name in _WRITTEN}
    about = {
        "format": FORMAT,
        "model": _literal(bundle.model),
        **values,
        "image_steps": _literal(bundle.image_steps),
    }
    tensors = {
        name: tensor.detach().cpu().contiguous().clone()
        for name, tensor in sorted((bundle.weights | bundle.regularizer).items())
    }
    path.parent.mkdir(parents=True, exist_ok=True)
    new = path.with_name(f".{path.name}.{os.getpid()}")
    try:
        new.write_bytes(save(tensors, metadata={KEY: json.dumps(about, sort_keys=True)}))
        new.replace(path)
    finally:
        new.unlink(missing_ok=True)


def read_tensors(path: str | Path) -> tuple[dict[str, Tensor], dict[str, str]]:
    """Tensors and header of a safetensors file.

    Raises:
        FileNotFoundError: if there is no such file.
        SarError: if it is none, or cut off.
    """
    try:
        with safe_open(path, framework="pt") as file:
            return {name: file.get_tensor(name) for name in file.keys()}, file.metadata() or {}  # noqa: SIM118
    except SafetensorError as error:
        raise SarError(f"{path}: no whole safetensors file: {error}") from error


def unpack(tensors: Mapping[str, Tensor], header: Mapping[str, str], path: str | Path) -> Bundle:
    """The bundle that `read_tensors` read from ``path``."""
    about = json.loads(header[KEY])
    if about.get("format") != FORMAT:
        raise SarError(
            f"{path}: format {about.get('format')!r} of {KEY}, expected {FORMAT}: it was written "
            "by another version of this program"
        )
    values = {name: about[name] for name in _WRITTEN}
    return Bundle(
        model=ast.literal_eval(about["model"]),
        weights={k: v for k, v in tensors.items() if not k.startswith(PREFIX)},
        regularizer={k: v for k, v in tensors.items() if k.startswith(PREFIX)},
        **values | {"image_steps": ast.literal_eval(about["image_steps"])},
    )


def build_bare(model: Mapping[str, Any], imports: list[str]) -> nn.Module:
    """Build a model's config, on the CPU and with batch norm that it can compute.

    Raises:
        SarError: when it names what is not there, or cannot be built.
    """
    from mmengine.config import ConfigDict
    from mmengine.model import revert_sync_batchnorm
    from mmengine.registry import init_default_scope
    from mmseg.registry import MODELS
    from mmseg.utils import register_all_modules

    register_all_modules()
    init_default_scope("mmseg")
    for name in imports:
        try:
            import_module(name)
        except ImportError as error:
            raise SarError(f"the model needs the module {name}: {error}") from error
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # About training and missing compiled ops.
            built: nn.Module = revert_sync_batchnorm(MODELS.build(ConfigDict(model)))
            return built
    except (KeyError, TypeError, ValueError, AssertionError, ImportError) as error:
        raise SarError(
            f"the model's config cannot be built: {type(error).__name__}: {error}"
        ) from error


def load_model(bundle: Bundle, device: str | torch.device = "cpu") -> nn.Module:
    """The bare model with its weights, for inference."""
    model = build_bare(bundle.model, bundle.imports)
    model.load_state_dict(bundle.weights, strict=True)
    return model.to(device).eval()


def _literal(value: Any) -> str:
    """Python source of a plain value, which keeps its tuples."""
    text = repr(value)
    try:
        same = ast.literal_eval(text) == value
    except (ValueError, SyntaxError):
        same = False
    if not same:
        raise SarError(
            f"the model's config holds more than numbers, texts and plain containers: {text[:200]}"
        )
    return text
