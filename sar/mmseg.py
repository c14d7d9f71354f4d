"""The plug-in for mmsegmentation: any supported model config, trained with semantic anchors.

    from sar.mmseg import apply_sar
    cfg.model = apply_sar(cfg.model, pull_weight=0.1)
    cfg.custom_imports = dict(imports=["sar.mmseg"], allow_failed_imports=False)

The result is an ordinary config. What it builds is the baseline's class with a regularizer beside
it: the state dict is the baseline's plus ``regularizer.*``, prediction is the baseline's. No decode
head is copied: during ``loss`` the argument of the last head's ``cls_seg`` is looked at, before
dropout.
"""

from __future__ import annotations

import copy
import functools
import inspect
from collections.abc import Iterator, Mapping, MutableMapping
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any, TypeVar

import torch
from mmengine.config import ConfigDict
from mmengine.model import revert_sync_batchnorm
from mmseg.registry import MODELS
from torch import Tensor, nn
from torch.nn.modules.dropout import _DropoutNd

from sar.checkpoints import baseline_state_dict
from sar.regularizer import SemanticAnchorRegularizer, check_options
from sar.support import UnsupportedModelError, check_config, check_head, find_class, last_head

if TYPE_CHECKING:
    from mmseg.models import EncoderDecoder as _Segmentor
else:
    _Segmentor = object  # The segmentor's class joins in `_regularized`.

__all__ = [
    "UnsupportedModelError",
    "apply_sar",
    "baseline_state_dict",
    "build_sar_segmentor",
    "remove_sar",
]

TYPE = "SARSegmentor"

# Options of the regularizer that the built decode head answers.
_FROM_HEAD = {"num_classes", "channels", "ignore_index", "generator"}

_Config = TypeVar("_Config", bound=MutableMapping[str, Any])


def apply_sar(model_cfg: _Config, **options: Any) -> _Config:
    """Make the config of a model into that of the same model trained with semantic anchors.

    Args:
        model_cfg: config of a segmentor (``cfg.model``); not changed.
        **options: ``anchors``, ``pull_weight``, ``aux_weight``, ``filter_confidence``,
            ``update_confidence`` and ``momentum`` of `SemanticAnchorRegularizer`, and ``seed`` of
            its random draws (by default the seed of torch's global generator, from which nothing is
            drawn).

    Returns:
        A config of the same mapping type, to build in mmseg's ``MODELS``.

    Raises:
        UnsupportedModelError: for a model that cannot be regularised, or that is already.
        ValueError: for an option that is not known or out of range.
        TypeError: if ``model_cfg`` is no mapping.
    """
    if not isinstance(model_cfg, MutableMapping):
        raise TypeError(f"model_cfg is a {type(model_cfg).__name__}, expected a model's config")
    if model_cfg.get("type") in (TYPE, f"mmseg.{TYPE}", build_sar_segmentor):
        raise UnsupportedModelError("the config already has semantic anchors: apply_sar works once")
    _check(options)
    check_config(model_cfg)
    cfg = copy.deepcopy(model_cfg)
    cfg["base_type"] = cfg["type"]
    cfg["type"] = TYPE
    cfg["sar"] = {name: _plain(value) for name, value in options.items()}
    return cfg


def remove_sar(model_cfg: _Config) -> _Config:
    """The config that `apply_sar` was given, from the one that it made; another is only copied."""
    cfg = copy.deepcopy(model_cfg)
    if cfg.get("type") in (TYPE, f"mmseg.{TYPE}"):
        cfg["type"] = cfg.pop("base_type")
        del cfg["sar"]
    return cfg


@MODELS.register_module(name=TYPE)
def build_sar_segmentor(*, base_type: str | type, sar: Mapping[str, Any], **cfg: Any) -> nn.Module:
    """Build the segmentor ``base_type`` with a regularizer; registered as ``SARSegmentor``.

    Args:
        base_type: the segmentor's own type.
        sar: options as given to `apply_sar`.
        **cfg: the segmentor's own arguments.
    """
    # Segmentors read nested settings as attributes (test_cfg.mode), which plain dicts do not have.
    return _regularized(find_class(base_type, "model"))(sar=sar, **ConfigDict(cfg))


class _Regularized(_Segmentor):
    """What a regularised segmentor adds to its base class. `_regularized` sets ``base``."""

    base: type

    def __init__(self, *args: Any, sar: Mapping[str, Any], **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        head = last_head(self.decode_head)
        check_head(head)
        options = dict(sar)
        _check(options)
        seed = options.pop("seed", None)
        generator = torch.Generator().manual_seed(torch.initial_seed() if seed is None else seed)
        self.regularizer = SemanticAnchorRegularizer(
            head.num_classes,
            head.conv_seg.in_channels,
            ignore_index=head.ignore_index,
            generator=generator,
            **options,
        )
        if not torch.cuda.is_available():
            # Synchronised batch norm refuses CPU tensors.
            revert_sync_batchnorm(self)

    def init_weights(self) -> None:
        """Initialise the baseline's weights as the baseline would; the regularizer has its own."""
        modules = dict(self._modules)
        del self._modules["regularizer"]
        try:
            super().init_weights()
        finally:
            self._modules["regularizer"] = modules["regularizer"]

    def loss(self, inputs: Tensor, data_samples: list[Any]) -> dict[str, Tensor]:
        """The baseline's losses, ``sar.loss_aux_ce`` and ``sar.loss_p2a``, and two values for the
        log.

        Raises:
            RuntimeError: if the last decode head did not classify exactly one feature map.
        """
        head = last_head(self.decode_head)
        with _watch_classifier(head) as features:
            losses: dict[str, Tensor] = super().loss(inputs, data_samples)
        if len(features) != 1:
            raise RuntimeError(
                f"{type(head).__name__} called cls_seg {len(features)} times in one loss, expected "
                "once: semantic anchors need the one feature map that is classified"
            )
        labels = torch.stack([sample.gt_sem_seg.data for sample in data_samples]).squeeze(1)
        terms = self.regularizer(features[0], labels, functools.partial(_classify, head))
        losses.update({f"sar.{name}": value for name, value in terms.items()})
        # Names without "loss" are logged and not summed.
        now = self.regularizer.diagnostics()
        losses["sar.min_confidence"] = now["confidence"].min()
        losses["sar.gate"] = now["gate"][0]
        return losses

    def __reduce__(self) -> tuple[Any, ...]:
        # The class is made on demand and has no importable name; its base has.
        return _blank, (self.base,), self.__dict__


@functools.cache
def _regularized(base: type) -> type[nn.Module]:
    """The regularised subclass of a segmentor class."""
    name = f"SAR{base.__name__}"
    return type(name, (_Regularized, base), {"base": base, "__module__": __name__})


def _blank(base: type) -> nn.Module:
    """An instance without state, for pickle and copy to fill."""
    cls = _regularized(base)
    return cls.__new__(cls)


@contextmanager
def _watch_classifier(head: Any) -> Iterator[list[Tensor]]:
    """Collect the arguments of ``head.cls_seg`` while the block runs.

    The wrapper lives on the instance and only for the block, so that copies and pickles of the
    model never hold it.
    """
    features: list[Tensor] = []
    original = head.cls_seg
    own = "cls_seg" in head.__dict__

    def watched(feat: Tensor) -> Tensor:
        features.append(feat)
        scores: Tensor = original(feat)
        return scores

    head.cls_seg = watched
    try:
        yield features
    finally:
        if own:
            head.cls_seg = original
        else:
            del head.cls_seg


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


def _check(options: Mapping[str, Any]) -> None:
    """Check what can be checked before the model is built."""
    parameters = inspect.signature(SemanticAnchorRegularizer).parameters
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
    numeric = inspect.signature(check_options).parameters
    check_options(**{name: value for name, value in options.items() if name in numeric})


def _plain(value: Any) -> Any:
    """Anchors given as a tensor or array become lists, which a dumped config can hold."""
    return value.tolist() if hasattr(value, "tolist") else copy.deepcopy(value)
