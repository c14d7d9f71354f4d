"""Keep what a training method trains of its own out of weight decay, in a group of its own.

An embedding that gets no gradient, as SAR's while all anchors are confident, is shrunk by decay
alone; its anchors shrink, and the features that are pulled to them.

    cfg.optim_wrapper.update(without_decay(cfg.optim_wrapper.get("paramwise_cfg")))
    cfg.custom_imports = dict(imports=["sar.mmseg", "sar.weight_decay"], allow_failed_imports=False)
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from mmengine.optim import DefaultOptimWrapperConstructor
from mmengine.registry import OPTIM_WRAPPER_CONSTRUCTORS
from torch import nn

__all__ = ["MergedGroups", "without_decay"]


def without_decay(paramwise_cfg: Mapping[str, Any] | None = None) -> dict[str, Any]:
    """What an ``optim_wrapper`` config needs for it, other settings by parameter kept.

    The optimizer's config must name its ``weight_decay``.
    """
    cfg = dict(paramwise_cfg or {})
    cfg["custom_keys"] = {**cfg.get("custom_keys", {}), "regularizer": {"decay_mult": 0.0}}
    return {"constructor": "MergedGroups", "paramwise_cfg": cfg}


@OPTIM_WRAPPER_CONSTRUCTORS.register_module()
class MergedGroups(DefaultOptimWrapperConstructor):
    """mmengine's constructor, with one group for all parameters of equal settings.

    mmengine makes a group of each parameter, and the optimizer then updates them one by one.
    """

    def add_params(
        self, params: list[dict[str, Any]], module: nn.Module, prefix: str = "", **kwargs: Any
    ) -> None:
        super().add_params(params, module, prefix, **kwargs)
        if prefix:  # A part of the model: it calls itself for each.
            return
        groups: dict[str, dict[str, Any]] = {}
        for group in params:
            settings = {name: value for name, value in group.items() if name != "params"}
            merged = groups.setdefault(repr(sorted(settings.items())), {"params": [], **settings})
            merged["params"] += group["params"]
        params[:] = groups.values()
