"""Encoders and whole models of segmentation_models.pytorch as backbones; extra ``smp``."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from mmengine.model import BaseModule
from torch import Tensor

from sar.adapters.maps import chosen, package

__all__ = ["Encoder", "Model"]


class Encoder(BaseModule):
    """The feature maps of ``segmentation_models_pytorch.encoders.get_encoder``.

    Args:
        name: of the encoder, as that package knows it.
        out_indices: which of its maps; 0 is the image itself, each further one has half the size
            of the one before. By default strides 4 to 32.
        **settings: further arguments of ``get_encoder``, such as ``output_stride``.

    Raises:
        ImportError: without segmentation_models_pytorch.
        ValueError: for an encoder or maps that it does not have.
    """

    def __init__(
        self, name: str, out_indices: Sequence[int] = (2, 3, 4, 5), **settings: Any
    ) -> None:
        super().__init__()
        smp = package("segmentation_models_pytorch", "smp")
        try:
            self.encoder = smp.encoders.get_encoder(name, weights=None, **settings)
        except KeyError as error:
            raise ValueError(f"segmentation_models_pytorch has no such encoder: {error}") from error
        self.out_indices, self._what = tuple(out_indices), f"encoder {name!r}"
        self.channels: list[int] = list(
            chosen(list(self.encoder.out_channels), self.out_indices, self._what)
        )
        """Of each map, for the decode head's ``in_channels``."""

    def forward(self, images: Tensor) -> tuple[Tensor, ...]:
        """Maps (N, C, h, w) of images (N, 3, H, W)."""
        return chosen(self.encoder(images), self.out_indices, self._what)

    def init_weights(self) -> None:
        """Nothing: they were initialised when the encoder was made."""


class Model(BaseModule):
    """Encoder and decoder of a whole model, such as a U-Net, without its own classifier.

    Its one map goes to a decode head of mmsegmentation, whose ``conv_seg`` classifies it:
    ``FCNHead`` with ``num_convs=0``, ``concat_input=False``.

    Args:
        architecture: name of a class of ``segmentation_models_pytorch``, such as ``Unet``.
        encoder_name: of the encoder, as that package knows it.
        **settings: further arguments of the class, such as ``decoder_channels``.

    Raises:
        ImportError: without segmentation_models_pytorch.
        ValueError: for an architecture or an encoder that it does not have.
    """

    def __init__(self, architecture: str, encoder_name: str, **settings: Any) -> None:
        super().__init__()
        smp = package("segmentation_models_pytorch", "smp")
        made = getattr(smp, architecture, None)
        if not isinstance(made, type):
            raise ValueError(f"segmentation_models_pytorch has no model {architecture!r}")
        try:
            model = made(encoder_name=encoder_name, encoder_weights=None, **settings)
        except KeyError as error:
            raise ValueError(f"segmentation_models_pytorch has no such encoder: {error}") from error
        if getattr(model, "decoder", None) is None:
            raise ValueError(f"segmentation_models_pytorch's {architecture!r} has no decoder")
        self.encoder, self.decoder = model.encoder, model.decoder

    def forward(self, images: Tensor) -> tuple[Tensor]:
        """The decoder's map (N, C, h, w) of images (N, 3, H, W)."""
        features: Tensor = self.decoder(self.encoder(images))
        return (features,)

    def init_weights(self) -> None:
        """Nothing: they were initialised when the model was made."""
