"""The plug-in for mmsegmentation: any supported model config, trained with semantic anchors.

    from sar.mmseg import apply_sar
    cfg.model = apply_sar(cfg.model, pull_weight=0.1)
    cfg.custom_imports = dict(imports=["sar.mmseg"], allow_failed_imports=False)

The result is an ordinary config. What it builds is the baseline's class with a regularizer beside
it: the state dict is the baseline's plus ``regularizer.*``, prediction is the baseline's. No decode
head is copied: ``sar.door`` looks at the argument of the last head's ``cls_seg``, before dropout.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from mmseg.registry import MODELS
from torch import nn

from sar.checkpoints import baseline_state_dict
from sar.door import SAR_TYPE, Config, build_regularized, detach, plug
from sar.regularizer import SemanticAnchorRegularizer, scaled_momentum
from sar.support import UnsupportedModelError

__all__ = [
    "UnsupportedModelError",
    "apply_sar",
    "baseline_state_dict",
    "build_sar_segmentor",
    "remove_sar",
]


def apply_sar(model_cfg: Config, *, iterations: int | None = None, **options: Any) -> Config:
    """Make the config of a model into that of the same model trained with semantic anchors.

    Args:
        model_cfg: config of a segmentor (``cfg.model``); not changed.
        iterations: of the training; needed by ``momentum="auto"`` alone, and not in the result.
        **options: ``anchors``, ``pull_weight``, ``aux_weight``, ``filter_confidence``,
            ``update_confidence``, ``momentum``, ``pull_mean``, ``pull_target``, ``gated`` and
            ``embedded`` of `SemanticAnchorRegularizer`, and ``seed`` of its random draws (by
            default the seed of torch's global generator, from which nothing is drawn).
            ``momentum="auto"`` is `sar.regularizer.scaled_momentum` of the iterations.

    Returns:
        A config of the same mapping type, to build in mmseg's ``MODELS``.

    Raises:
        UnsupportedModelError: for a model that cannot be regularised, or that is already.
        ValueError: for an option that is not known or out of range.
        TypeError: if ``model_cfg`` is no mapping.
    """
    if options.get("momentum") == "auto":
        options["momentum"] = scaled_momentum(iterations)
    return plug(model_cfg, SemanticAnchorRegularizer, options, SAR_TYPE, "sar", with_name=False)


def remove_sar(model_cfg: Config) -> Config:
    """The config that `apply_sar`, or another plug-in of `sar.door`, was given; another is only
    copied, such as that of a model whose classifier a method has replaced.
    """
    return detach(model_cfg)


@MODELS.register_module(name=SAR_TYPE)
def build_sar_segmentor(*, base_type: str | type, sar: Mapping[str, Any], **cfg: Any) -> nn.Module:
    """Build the segmentor ``base_type`` with a regularizer; registered as ``SARSegmentor``.

    Args:
        base_type: the segmentor's own type.
        sar: options as given to `apply_sar`.
        **cfg: the segmentor's own arguments.
    """
    return build_regularized(
        base_type, SemanticAnchorRegularizer, sar, cfg, label="SAR", prefix="sar"
    )
