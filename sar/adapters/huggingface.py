"""An encoder of Hugging Face's transformers as a backbone; extra ``huggingface``."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from mmengine.model import BaseModule
from torch import Tensor

from sar.adapters.maps import chosen, package

__all__ = ["Encoder"]


class Encoder(BaseModule):
    """The feature maps of a model of transformers, finest first.

    A model that transformers has as a backbone (ResNet, ConvNeXt, Swin, DINOv2, ...) gives its
    ``feature_maps``; any other its hidden states, where these are maps (SegFormer).

    Args:
        model_type: as ``config.json`` of a published model has it, such as ``segformer``.
        settings: keys of that model's configuration; those left out have its defaults. Nothing is
            downloaded.
        out_indices: which of the maps; by default all.

    Raises:
        ImportError: without transformers.
        ValueError: for a type that transformers does not have.
    """

    def __init__(
        self,
        model_type: str,
        settings: Mapping[str, Any] | None = None,
        out_indices: Sequence[int] | None = None,
    ) -> None:
        super().__init__()
        transformers = package("transformers", "huggingface")
        try:
            config = transformers.AutoConfig.for_model(model_type, **dict(settings or {}))
        except (KeyError, ValueError) as error:
            raise ValueError(
                f"transformers {transformers.__version__} has no model of type {model_type!r}: "
                f"{str(error).splitlines()[0][:200]}"
            ) from error
        backbones = transformers.AutoBackbone._model_mapping
        self._is_backbone = type(config) in backbones
        if self._is_backbone and getattr(config, "out_features", None):
            # All stages, of which `out_indices` then chooses; by default it gives the last alone.
            config.out_features = [name for name in config.stage_names if name != "stem"]
        auto = transformers.AutoBackbone if self._is_backbone else transformers.AutoModel
        self.encoder = auto.from_config(config)
        self._what = f"{model_type!r} of transformers"
        self.out_indices = None if out_indices is None else tuple(out_indices)

    def forward(self, images: Tensor) -> tuple[Tensor, ...]:
        """Maps (N, C, h, w) of images (N, 3, H, W).

        Raises:
            ValueError: when the model gives no maps, or has none at one of ``out_indices``.
        """
        if self._is_backbone:
            maps = self.encoder(pixel_values=images).feature_maps
        else:
            maps = self.encoder(pixel_values=images, output_hidden_states=True).hidden_states or ()
        found = [each for each in maps if each.ndim == 4]
        if not found:
            shapes = [tuple(each.shape) for each in maps]
            raise ValueError(
                f"{self._what} gives no feature maps, but {shapes}; expected one with maps "
                "(N, C, h, w)"
            )
        return chosen(found, self.out_indices, self._what)

    def init_weights(self) -> None:
        """Nothing: transformers initialised them when it made the model."""
