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

A method that takes the classifier's place, at inference too, enters by `sar.classifier`.
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
    RECLASSIFIED,
    UnsupportedModelError,
    check_config,
    check_head,
    cross_entropies,
    find_class,
    last_head,
)

__all__ = [
    "Config",
    "Derived",
    "attach",
    "attached",
    "build_method",
    "build_regularized",
    "derived",
    "detach",
    "named",
    "plug",
    "replaced",
    "stacked_labels",
]

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
    return plug(model_cfg, method, options, TYPE, "regularizer")


def plug(
    model_cfg: Config,
    method: type[nn.Module],
    options: Mapping[str, Any],
    kind: str,
    key: str,
    *,
    with_name: bool = True,
) -> Config:
    """A checked copy of a config with another ``type``; for `attach` and its like.

    Args:
        kind: the new ``type``.
        key: below which the options stand, after the method's name.
        with_name: False where ``kind`` tells the method.
    """
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
    name = {"type": f"{method.__module__}:{method.__qualname__}"} if with_name else {}
    cfg[key] = name | plain_values(options)
    return cfg


def attached(model_cfg: Mapping[str, Any]) -> bool:
    """Whether a model's config has a training method."""
    return _is_of(model_cfg, TYPE, SAR_TYPE, RECLASSIFIED)


def _is_of(model_cfg: Mapping[str, Any], *types: str) -> bool:
    kind = model_cfg.get("type")
    known = [scope + name for scope in ("", "mmseg.") for name in types]
    return kind in known or (callable(kind) and kind in map(MODELS.get, types))


def detach(model_cfg: Config) -> Config:
    """The config of what predicts: the one that a method was attached to. Another is only copied,
    such as that of a model whose classifier a method has replaced.
    """
    cfg = copy.deepcopy(model_cfg)
    if _is_of(cfg, TYPE, SAR_TYPE):
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
    return build_regularized(base_type, named(options.pop("type")), options, cfg)


def named(name: str) -> Any:
    """The class named ``module:name``."""
    module, _, name = name.partition(":")
    return functools.reduce(getattr, name.split("."), importlib.import_module(module))


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
    segmentor = derived(_Regularized, find_class(base_type, "model"), label)
    return segmentor(method=method, options=options, prefix=prefix, **ConfigDict(cfg))


class Derived(BaseSegmentor):
    """What a segmentor with a method adds to its base class; `derived` joins the two."""

    made_of: tuple[type, type, str]

    def __reduce__(self) -> tuple[Any, ...]:
        # The class is made on demand and has no importable name; what it is made of has.
        return _blank, self.made_of, self.__dict__


class _Regularized(Derived):
    """A segmentor with a method beside it."""

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
        self.regularizer = build_method(method, options, head)
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


@functools.cache
def derived(mixin: type, base: type, label: str) -> type[nn.Module]:
    """The subclass of a segmentor class that trains with a method, as the mixin does it."""
    body = {"made_of": (mixin, base, label), "__module__": mixin.__module__}
    return type(f"{label}{base.__name__}", (mixin, base), body)


def _blank(mixin: type, base: type, label: str) -> nn.Module:
    """An instance without state, for pickle and copy to fill."""
    cls = derived(mixin, base, label)
    return cls.__new__(cls)


def build_method(method: type[nn.Module], options: Mapping[str, Any], head: Any) -> nn.Module:
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
    offered = {
        "features": features,
        "logits": logits,
        "labels": stacked_labels(data_samples),
        "classifier": functools.partial(_classify, head),
    }
    wanted = inspect.signature(type(method).forward).parameters
    with torch.autocast(features.device.type, enabled=False):
        terms: dict[str, Tensor] = method(**{k: v for k, v in offered.items() if k in wanted})
        return terms


def stacked_labels(data_samples: Sequence[Any]) -> Tensor:
    """The labels of a batch, (N, H, W)."""
    return torch.stack([sample.gt_sem_seg.data for sample in data_samples]).squeeze(1)


@contextmanager
def replaced(owner: nn.Module, name: str, function: Callable[..., Tensor]) -> Iterator[None]:
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

    with replaced(head, "cls_seg", watched):
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

    with replaced(loss, "forward", forward):
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
