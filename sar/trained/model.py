"""A trained model as one ``torch.nn.Module``: RGB images in, scores of classes out.

    import sar

    model = sar.load("results/default/runs/digits/fcn_hrnet_tiny/sar/seed0/train")
    ids = model.predict(Image.open("photo.jpg"))  # (H, W), indices into model.classes

What its training did to an image stands in the module: the normalisation is part of ``forward``,
the resize (where the config has one) is ``preprocess``, and ``predict`` does both.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from PIL import Image
from torch import Tensor, nn

from sar.errors import SarError
from sar.trained.bundle import Bundle, load_model
from sar.trained.images import bgr
from sar.trained.reading import read_trained

__all__ = ["TrainedModel", "load"]


def load(
    path: str | Path,
    config: str | Path | None = None,
    device: str | torch.device = "cpu",
    *,
    trust_code: bool = False,
) -> TrainedModel:
    """The trained model at ``path``, in eval mode.

    Args:
        path: the folder ``.../train`` of a run; its ``weights.safetensors``; what
            ``semantic-anchors import`` wrote; or a checkpoint of mmsegmentation, with its config.
        config: config file of mmsegmentation 1.x, for a checkpoint that has none: a path, or one
            below ``.mim/configs`` of the installed package.
        device: where the module lies.
        trust_code: whether Python code that came with the model may be run.

    Raises:
        sar.errors.SarError: when there is no such file, it cannot be read or does not fit the
            config, has code that is not trusted, or mmsegmentation is not installed.
    """
    bundle = read_trained(path, config, trust_code=trust_code)
    return TrainedModel(bundle, device, trust_code=trust_code)


class TrainedModel(nn.Module):
    """A trained segmentation model with its preprocessing and its classes; see `load`.

    Attributes:
        segmentor: the model of mmsegmentation.
        classes: names of the K classes.
        palette: (r, g, b) by class; None where neither checkpoint nor config has colours.
        image_steps: transforms of an image before the model, such as a resize, as in a pipeline of
            mmsegmentation; empty where images are fed at their own size.
        source: where the weights come from: file, sha256, and what that file says of itself.
        channels: "RGB" or "BGR", the order in which the segmentor was trained.
        mean, std: of each channel in that order, in 0..255; None where images are fed as they are.
        sliding: whether inference joins overlapping windows (``test_cfg`` of the config) instead of
            looking at the whole image at once.

    Args:
        bundle: of `sar.trained.reading.read_trained`.
        device: where the module lies.
        trust_code: whether Python code that came with the model may be run.
    """

    def __init__(
        self, bundle: Bundle, device: str | torch.device = "cpu", *, trust_code: bool = False
    ) -> None:
        super().__init__()
        segmentor: Any = load_model(bundle, device, trust_code=trust_code)
        self.segmentor = segmentor
        self.classes = list(bundle.classes)
        self.palette = bundle.palette
        self.image_steps = list(bundle.image_steps)
        self.source = dict(bundle.source)
        normal = segmentor.data_preprocessor
        if not hasattr(normal, "_channel_conversion"):
            raise SarError(
                f"data_preprocessor: found {type(normal).__name__}, expected SegDataPreProcessor"
            )
        self.channels = "RGB" if normal._channel_conversion else "BGR"
        self.mean: list[float] | None = None
        self.std: list[float] | None = None
        if normal._enable_normalize:
            self.mean, self.std = (x.flatten().tolist() for x in (normal.mean, normal.std))
        self._pad: Mapping[str, Any] = normal.test_cfg or {}
        self.sliding = (segmentor.test_cfg or {}).get("mode", "whole") == "slide"
        self._steps: Callable[[dict[str, Any]], Any] | None = None
        self.eval()

    def forward(self, images: Tensor) -> Tensor:
        """Scores of the classes, before softmax.

        Args:
            images: (N, 3, H, W), RGB in 0..255, of any type; of one size, as `preprocess` makes
                them.

        Returns:
            (N, K, H, W), floating point. ``argmax(1)`` are class ids; a model of one score a pixel
            (K = 1, binary) says 1 where its sigmoid exceeds ``segmentor.decode_head.threshold``.

        Raises:
            ValueError: for images of another shape.
        """
        if images.ndim != 4 or images.shape[1] != 3:
            raise ValueError(f"images of shape {tuple(images.shape)}, expected (N, 3, H, W)")
        height, width = images.shape[-2:]
        normal: Any = self.segmentor.data_preprocessor
        x = images.float() if self.channels == "RGB" else images.flip(1).float()
        if self.mean is not None:
            x = (x - normal.mean) / normal.std
        below, right = (self._padding(axis, size) for axis, size in enumerate((height, width)))
        if self._pad:
            x = F.pad(x, (0, right, 0, below), value=normal.pad_val)
        shape = x.shape[-2:]
        # Of the first image, which speaks for all: a graph of any number of them asks for it.
        meta = {"ori_shape": shape, "img_shape": shape, "pad_shape": shape}
        scores: Tensor = self.segmentor.inference(x, [meta])
        return scores[..., :height, :width] if self._pad else scores

    def preprocess(self, image: Image.Image) -> Tensor:
        """An image of W x H pixels as `forward` takes it: (1, 3, h, w), RGB, 0..255, float32.

        h and w are H and W, unless ``image_steps`` resize.
        """
        inputs: Tensor = self._packed(image)["inputs"]
        return inputs.flip(0)[None].float().to(self._device)

    def predict(self, image: Image.Image) -> np.ndarray:
        """Class ids (H, W) uint8 of an image of H rows and W columns, as mmsegmentation's own
        inference finds them: what ``semantic-anchors predict`` draws.
        """
        data = self._packed(image)
        batch = {"inputs": [data["inputs"]], "data_samples": [data["data_samples"]]}
        segmentor: Any = self.segmentor
        with torch.inference_mode():
            sample = segmentor.test_step(batch)[0]
        ids: np.ndarray = sample.pred_sem_seg.data[0].cpu().numpy().astype(np.uint8)
        return ids

    @property
    def _device(self) -> torch.device:
        return next(self.parameters()).device

    def _packed(self, image: Image.Image) -> Mapping[str, Any]:
        """What mmsegmentation's transforms make of an image: ``inputs`` (3, h, w) uint8 in BGR."""
        if self._steps is None:
            from mmcv.transforms import Compose

            # Registered under names of mmseg, which building the model has made known.
            self._steps = Compose(
                [{"type": "LoadImageFromNDArray"}, *self.image_steps, {"type": "PackSegInputs"}]
            )
        try:
            packed: Mapping[str, Any] = self._steps({"img": bgr(image.convert("RGB"))})
        except KeyError as error:
            raise SarError(
                f"image_steps: {error}; expected steps that need an image only"
            ) from error
        return packed

    def _padding(self, axis: int, size: int) -> int:
        """Rows below (axis 0) or columns to the right that the config's ``test_cfg`` adds."""
        if self._pad.get("size") is not None:
            return max(int(self._pad["size"][axis]) - size, 0)
        return -size % int(self._pad.get("size_divisor") or 1)
