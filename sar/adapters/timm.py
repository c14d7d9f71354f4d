"""An encoder of timm (PyTorch Image Models) as a backbone; extra ``timm``."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from mmengine.model import BaseModule
from torch import Tensor

from sar.adapters.maps import channels_first, package

__all__ = ["Encoder"]


class Encoder(BaseModule):
    """The feature maps of ``timm.create_model(name, features_only=True)``, finest first.

    Args:
        name: of the model, as timm knows it.
        out_indices: which of its maps, counted from the finest; by default all.
        **settings: further arguments of ``timm.create_model``, such as ``output_stride``.

    Raises:
        ImportError: without timm.
        ValueError: for a model that timm does not have, or that gives no feature maps.
    """

    def __init__(
        self, name: str, out_indices: Sequence[int] | None = None, **settings: Any
    ) -> None:
        super().__init__()
        timm = package("timm", "timm")
        if not timm.is_model(name):
            raise ValueError(f"timm {timm.__version__} has no model {name!r}")
        if out_indices is not None:
            settings["out_indices"] = tuple(out_indices)
        try:
            self.encoder = timm.create_model(name, features_only=True, pretrained=False, **settings)
        except (RuntimeError, AttributeError, AssertionError, IndexError) as error:
            raise ValueError(f"timm's {name!r} gives no such feature maps: {error}") from error
        self.channels: list[int] = list(self.encoder.feature_info.channels())
        """Of each map, for the decode head's ``in_channels``."""

    def forward(self, images: Tensor) -> tuple[Tensor, ...]:
        """Maps (N, C, h, w) of images (N, 3, H, W)."""
        maps = zip(self.encoder(images), self.channels, strict=True)
        return tuple(channels_first(each, channels) for each, channels in maps)

    def init_weights(self) -> None:
        """Nothing: timm initialised them when it made the model."""
