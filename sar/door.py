"""How a training method enters any supported mmsegmentation model, and leaves prediction alone.

A method is a module beside the baseline. While the model computes its losses, the door shows it
what the last decode head classifies: the feature that enters ``cls_seg`` (before dropout), the
scores that come out, and the labels. A method is one of two kinds:

- *beside*: ``forward`` returns further losses. It is given those of ``features`` (N, C, h, w),
  ``logits`` (N, K, h, w), ``labels`` (N, H, W) and ``classifier`` (features to logits, without
  dropout) that it declares.
- *inside*: it has ``adjust(logits, labels)``, which returns the logits that the head's softmax
  cross-entropy sees instead, at the size of the labels, and a weight a pixel or None.

The constructor is given those of ``num_classes``, ``channels``, ``ignore_index`` and ``generator``
that it declares; whatever it draws from torch's global generator comes from a seed of its own. What
``forward`` returns under a name with "loss" in it is summed; the rest, and what an optional
``logged()`` returns, is for the log. The state dict is the baseline's plus ``regularizer.*``.
"""

from __future__ import annotations

import copy
import functools
import importlib
import inspect
from collections.abc import Callable, Iterator, Mapping, MutableMapping, Sequence
from contextlib import ExitStack, contextmanager
from typing import Any, TypeVar

import torch
from mmengine.config import ConfigDict
from mmengine.model import revert_sync_batchnorm
from mmseg.models import BaseSegmentor
from mmseg.registry import MODELS
from torch import Tensor, nn
from torch.nn.modules.dropout import _DropoutNd

from sar.support import (
    UnsupportedModelError,
    check_config,
    check_head,
    cross_entropies,
    find_class,
    last_head,
)

__all__ = ["Config", "attach", "attached", "build_regularized", "detach", "plain_values", "plug"]

# Of a model: a dict, an mmengine ConfigDict, ...; what is made of one is of the same type.
Config = TypeVar("Config", bound=MutableMapping[str, Any])

TYPE = "RegularizedSegmentor"
SAR_TYPE = "SARSegmentor"

# Arguments of a method's constructor that the built decode head answers.
_FROM_HEAD = ("num_classes", "channels", "ignore_index", "generator")


def attach(model_cfg: Config, method: type[nn.Module], **options: Any) -> Config:
    """Make the config of a model into that of the same model trained with a method.

    Args:
        model_cfg: config of a segmentor (``cfg.model``); not changed.
        method: class of the method's module, importable by name.
        **options: arguments of its constructor, and ``seed`` of its random draws (by default the
            seed of torch's global generator, from which nothing is drawn).

    Returns:
        A config of the same mapping type, to build in mmseg's ``MODELS``. It holds plain values
        only: dumped and read again, it builds the same model.

    Raises:
        sar.support.UnsupportedModelError: for a model that the method cannot enter, or that has
            one already.
        ValueError: for an option that is not known or out of range.
        TypeError: if ``model_cfg`` is no mapping.
    """
    cfg = plug(model_cfg, method, options, TYPE)
    name = f"{method.__module__}:{method.__qualname__}"
    cfg["regularizer"] = {"type": name} | plain_values(options)
    return cfg


def plug(
    model_cfg: Config, method: type[nn.Module], options: Mapping[str, Any], kind: str
) -> Config:
    """A checked copy of a config with another ``type``; for `attach` and its like."""
    if not isinstance(model_cfg, MutableMapping):
        raise TypeError(f"model_cfg is a {type(model_cfg).__name__}, expected a model's config")
    if attached(model_cfg):
        raise UnsupportedModelError(
            "the config already has a training method (semantic anchors or another): one can be "
            "attached, and it works once"
        )
    check_method_options(method, options)
    check_config(model_cfg)
    cfg = copy.deepcopy(model_cfg)
    cfg["base_type"] = cfg["type"]
    cfg["type"] = kind
    return cfg


def attached(model_cfg: Mapping[str, Any]) -> bool:
    """Whether a model's config has a training method."""
    kind, types = model_cfg.get("type"), (TYPE, SAR_TYPE)
    known = [scope + name for scope in ("", "mmseg.") for name in types]
    return kind in known or (callable(kind) and kind in map(MODELS.get, types))


def detach(model_cfg: Config) -> Config:
    """The config that a method was attached to; another is only copied."""
    cfg = copy.deepcopy(model_cfg)
    if attached(cfg):
        cfg["type"] = cfg.pop("base_type")
        for name in ("sar", "regularizer"):
            cfg.pop(name, None)
    return cfg


def check_method_options(method: type[nn.Module], options: Mapping[str, Any]) -> None:
    """Check what can be checked before the model is built: the names, and whatever the method's
    own ``check_options`` (static, keyword arguments) is able to.
    """
    parameters = inspect.signature(method).parameters
    known = [name for name in parameters if name not in _FROM_HEAD] + ["seed"]
    for name in options:
        if name not in known:
            note = "; the decode head decides it" if name in _FROM_HEAD else ""
            raise ValueError(f"option {name!r} is not known{note}; known are {', '.join(known)}")
    seed = options.get("seed")
    if seed is not None and (
        not isinstance(seed, int) or isinstance(seed, bool) or not 0 <= seed < 2**64
    ):
        raise ValueError(f"seed={seed!r}: expected None or an integer in [0, 2**64)")
    if hasattr(method, "check_options"):
        checked = inspect.signature(method.check_options).parameters
        method.check_options(**{name: v for name, v in options.items() if name in checked})


@MODELS.register_module(name=TYPE)
def build_regularized_segmentor(
    *, base_type: str | type, regularizer: Mapping[str, Any], **cfg: Any
) -> nn.Module:
    """Build what `attach` describes; registered as ``RegularizedSegmentor``."""
    options = dict(regularizer)
    module, _, name = options.pop("type").partition(":")
    method: Any = functools.reduce(getattr, name.split("."), importlib.import_module(module))
    return build_regularized(base_type, method, options, cfg)


def build_regularized(
    base_type: str | type,
    method: type[nn.Module],
    options: Mapping[str, Any],
    cfg: Mapping[str, Any],
    label: str = "Regularized",
    prefix: str = "regularizer",
) -> nn.Module:
    """Build the segmentor ``base_type`` with a method.

    Args:
        base_type: the segmentor's own type.
        method: class of the method's module.
        options: as given to `attach`.
        cfg: the segmentor's own arguments.
        label: begins the name of the class.
        prefix: begins the names of the losses, before a dot. "loss" must not be in it.
    """
    # Segmentors read nested settings as attributes (test_cfg.mode), which plain dicts do not have.
    segmentor = _regularized(find_class(base_type, "model"), label)
    return segmentor(method=method, options=options, prefix=prefix, **ConfigDict(cfg))


class _Regularized(BaseSegmentor):
    """What a segmentor with a method adds to its base class. `_regularized` sets the two names."""

    base: type
    label: str

    def __init__(
        self,
        *args: Any,
        method: type[nn.Module],
        options: Mapping[str, Any],
        prefix: str,
        **kwargs: Any,
    ) -> None:
        super().__init__(*args, **kwargs)
        head = last_head(self.decode_head)
        check_head(head)
        if hasattr(method, "adjust"):
            cross_entropies(head)
        self.prefix = prefix
        self.regularizer = _build(method, options, head)
        if not torch.cuda.is_available():
            # Synchronised batch norm refuses CPU tensors.
            revert_sync_batchnorm(self)

    def init_weights(self) -> None:
        """Initialise the baseline's weights as the baseline would; the method has its own."""
        modules = dict(self._modules)
        del self._modules["regularizer"]
        try:
            super().init_weights()
        finally:
            self._modules["regularizer"] = modules["regularizer"]

    def loss(self, inputs: Tensor, data_samples: Sequence[Any]) -> dict[str, Tensor]:
        """The baseline's losses, and what the method adds to them and to the log.

        Raises:
            RuntimeError: if the last decode head did not classify exactly one feature map.
        """
        head = last_head(self.decode_head)
        method: Any = self.regularizer
        with ExitStack() as stack:
            if hasattr(method, "adjust"):
                for loss in cross_entropies(head):
                    stack.enter_context(_adjusted(loss, method.adjust))
            seen = stack.enter_context(_watch_classifier(head))
            losses: dict[str, Tensor] = super().loss(inputs, data_samples)
        if not hasattr(method, "adjust"):
            if len(seen) != 1:
                raise RuntimeError(
                    f"{type(head).__name__} called cls_seg {len(seen)} times in one loss, expected "
                    "once: the method needs the one feature map that is classified"
                )
            terms = _forward(method, head, *seen[0], data_samples)
            losses.update({f"{self.prefix}.{name}": value for name, value in terms.items()})
        if hasattr(method, "logged"):
            # Names without "loss" are logged and not summed.
            losses.update({f"{self.prefix}.{name}": v for name, v in method.logged().items()})
        return losses

    def __reduce__(self) -> tuple[Any, ...]:
        # The class is made on demand and has no importable name; its base has.
        return _blank, (self.base, self.label), self.__dict__


@functools.cache
def _regularized(base: type, label: str) -> type[_Regularized]:
    """The subclass of a segmentor class that trains with a method."""
    body = {"base": base, "label": label, "__module__": __name__}
    return type(f"{label}{base.__name__}", (_Regularized, base), body)


def _blank(base: type, label: str) -> nn.Module:
    """An instance without state, for pickle and copy to fill."""
    cls = _regularized(base, label)
    return cls.__new__(cls)


def _build(method: type[nn.Module], options: Mapping[str, Any], head: Any) -> nn.Module:
    """The method's module, without a draw from the global generator."""
    options = dict(options)
    check_method_options(method, options)
    seed = options.pop("seed", None)
    seed = torch.initial_seed() if seed is None else seed
    answers = {
        "num_classes": head.num_classes,
        "channels": head.conv_seg.in_channels,
        "ignore_index": head.ignore_index,
        "generator": torch.Generator().manual_seed(seed),
    }
    wanted = inspect.signature(method).parameters
    state = torch.default_generator.get_state()
    torch.default_generator.manual_seed(seed)
    try:
        return method(**{k: v for k, v in answers.items() if k in wanted}, **options)
    finally:
        torch.default_generator.set_state(state)


def _forward(
    method: nn.Module,
    head: nn.Module,
    features: Tensor,
    logits: Tensor,
    data_samples: Sequence[Any],
) -> dict[str, Tensor]:
    """Call a method with what it declares, in the precision that its tensors have."""
    labels = torch.stack([sample.gt_sem_seg.data for sample in data_samples]).squeeze(1)
    offered = {
        "features": features,
        "logits": logits,
        "labels": labels,
        "classifier": functools.partial(_classify, head),
    }
    wanted = inspect.signature(type(method).forward).parameters
    with torch.autocast(features.device.type, enabled=False):
        terms: dict[str, Tensor] = method(**{k: v for k, v in offered.items() if k in wanted})
        return terms


@contextmanager
def _replaced(owner: nn.Module, name: str, function: Callable[..., Tensor]) -> Iterator[None]:
    """Let a function stand on the instance in place of its method while the block runs.

    Only for the block, so that copies and pickles of the model never hold it.
    """
    own, original = name in owner.__dict__, getattr(owner, name)
    setattr(owner, name, function)
    try:
        yield
    finally:
        if own:
            setattr(owner, name, original)
        else:
            delattr(owner, name)


@contextmanager
def _watch_classifier(head: Any) -> Iterator[list[tuple[Tensor, Tensor]]]:
    """Collect arguments and results of ``head.cls_seg`` while the block runs."""
    seen: list[tuple[Tensor, Tensor]] = []
    original: Callable[[Tensor], Tensor] = head.cls_seg

    def watched(feat: Tensor) -> Tensor:
        scores = original(feat)
        seen.append((feat, scores))
        return scores

    with _replaced(head, "cls_seg", watched):
        yield seen


@contextmanager
def _adjusted(
    loss: nn.Module, adjust: Callable[[Tensor, Tensor], tuple[Tensor, Tensor | None]]
) -> Iterator[None]:
    """Let a cross-entropy see adjusted logits while the block runs."""
    original = loss.forward

    def forward(
        scores: Tensor, labels: Tensor, weight: Tensor | None = None, **rest: Any
    ) -> Tensor:
        scores, own = adjust(scores, labels)
        if own is not None:
            weight = own if weight is None else own * weight
        loss_of_all: Tensor = original(scores, labels, weight=weight, **rest)
        return loss_of_all

    with _replaced(loss, "forward", forward):
        yield


def _classify(head: Any, embedded: Tensor) -> Tensor:
    """``head.cls_seg`` without dropout."""
    dropouts = [m for m in head.modules() if isinstance(m, _DropoutNd) and m.training]
    for dropout in dropouts:
        dropout.training = False
    try:
        scores: Tensor = head.cls_seg(embedded)
        return scores
    finally:
        for dropout in dropouts:
            dropout.training = True


def plain_values(options: Mapping[str, Any]) -> dict[str, Any]:
    """Tensors and arrays become lists, which a dumped config can hold."""
    return {
        name: value.tolist() if hasattr(value, "tolist") else copy.deepcopy(value)
        for name, value in options.items()
    }
