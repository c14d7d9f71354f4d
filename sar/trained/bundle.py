"""A trained model in one file: weights, how to build it, and the names and colours of its classes.

The file is a safetensors file. Its tensors have the names of the model's state dict, those of the
regularizer begin with ``regularizer.``; its header holds the rest as one JSON text. The model's
config stands there as a Python literal. A model that is made of somebody's own classes comes with
their code, as text: it runs for those alone who say that they trust it (`sar.trained.code`).
"""

from __future__ import annotations

import ast
import json
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
from sar.extras import need
from sar.trained.code import allow, checked
from sar.trained.files import written_whole

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
    code: dict[str, str] = field(default_factory=dict)
    """Texts of Python files of its own, by their paths: modules that ``imports`` may name."""
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
        **({"code": bundle.code} if bundle.code else {}),
    }
    tensors = {
        name: tensor.detach().cpu().contiguous().clone()
        for name, tensor in sorted((bundle.weights | bundle.regularizer).items())
    }
    with written_whole(path) as new:
        new.write_bytes(save(tensors, metadata={KEY: json.dumps(about, sort_keys=True)}))


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
    try:
        about = json.loads(header[KEY])
        written = about["format"]
        values = {name: about[name] for name in _WRITTEN} if written == FORMAT else {}
        literals = {name: ast.literal_eval(about[name]) for name in ("model", "image_steps")}
    except Exception as error:  # Any, from a header that is not what was written.
        raise SarError(
            f"{path}: the entry {KEY} of its header is damaged ({type(error).__name__}: {error}); "
            "copy or make the file again"
        ) from error
    code = checked(about.get("code", {}), f"{path}: code in the entry {KEY} of its header")
    if written != FORMAT:
        raise SarError(
            f"{path}: format {written!r} of {KEY}, expected {FORMAT}: it was written "
            "by another version of this program"
        )
    return Bundle(
        weights={k: v for k, v in tensors.items() if not k.startswith(PREFIX)},
        regularizer={k: v for k, v in tensors.items() if k.startswith(PREFIX)},
        code=code,
        **values | literals,
    )


def build_bare(
    model: Mapping[str, Any],
    imports: list[str],
    code: Mapping[str, str] | None = None,
    *,
    trust_code: bool = False,
) -> nn.Module:
    """Build a model's config, on the CPU and with batch norm that it can compute.

    Args:
        imports: modules that register what it is made of.
        code: files of its own, by their paths.
        trust_code: whether ``code`` may be run.

    Raises:
        SarError: when it names what is not there, cannot be built, or has code that is not trusted.
    """
    allow(code or {}, trusted=trust_code)
    need("mmseg", "mmseg", "mmengine", "mmcv", why="a model of mmsegmentation")

    from mmengine.config import ConfigDict
    from mmengine.model import revert_sync_batchnorm
    from mmengine.registry import init_default_scope
    from mmseg.registry import MODELS

    import sar.classifier  # noqa: F401  it registers models with another classifier
    from sar.packaged import register_mmseg

    register_mmseg()
    init_default_scope("mmseg")
    for name in imports:
        try:
            import_module(name)
        except ImportError as error:
            raise SarError(f"the model needs the module {name}: {error}") from error
        except Exception as error:  # It is a program: anything.
            raise SarError(
                f"the model's module {name} fails: {type(error).__name__}: {error}"
            ) from error
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # About training and missing compiled ops.
            built: nn.Module = revert_sync_batchnorm(MODELS.build(ConfigDict(model)))
            return built
    except (KeyError, TypeError, ValueError, AssertionError, ImportError) as error:
        raise SarError(
            f"the model's config cannot be built: {type(error).__name__}: {error}"
        ) from error


def load_model(
    bundle: Bundle, device: str | torch.device = "cpu", *, trust_code: bool = False
) -> nn.Module:
    """The bare model with its weights, for inference.

    Args:
        trust_code: whether Python code that came with it may be run.

    Raises:
        SarError: when it cannot be built, or has code that is not trusted.
    """
    model = build_bare(bundle.model, bundle.imports, bundle.code, trust_code=trust_code)
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
