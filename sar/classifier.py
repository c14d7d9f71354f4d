"""How a method takes the place of a model's classifier, in training and at inference.

What stands in the last decode head's ``conv_seg`` is then a `Classifier`: the head calls it with
the feature map that enters ``conv_seg`` (after dropout) and gets scores of the classes. Its
parameters and buffers are ``conv_seg.*`` of that head in the state dict, so that saved weights hold
all that prediction needs, and the config that trained builds what predicts.

    cfg.model = replace_classifier(cfg.model, MyClassifier, weight=0.1)
    cfg.custom_imports = dict(imports=["sar.classifier"], allow_failed_imports=False)
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from typing import Any, Protocol

import torch
from mmengine.config import ConfigDict
from mmengine.model import revert_sync_batchnorm
from mmseg.registry import MODELS
from torch import Tensor, nn
from torch.nn.utils import skip_init

from sar.door import (
    Config,
    Derived,
    build_method,
    derived,
    named,
    plug,
    replaced,
    stacked_labels,
)
from sar.support import RECLASSIFIED, UnsupportedModelError, check_head, find_class, last_head

__all__ = ["Classifier", "Scores", "replace_classifier"]


class Scores(Protocol):
    """What a classifier finds in a feature map: logits, and what else its losses need."""

    @property
    def logits(self) -> Tensor:
        """(N, K, h, w)."""


class Classifier(nn.Module, ABC):
    """A classifier of pixels with losses of its own.

    Its constructor is given those of ``num_classes``, ``channels``, ``ignore_index`` and
    ``generator`` that it declares, as a method's of `sar.door`.

    Args:
        in_channels: C, of the feature map.
        out_channels: K, scores a pixel.
    """

    def __init__(self, in_channels: int, out_channels: int) -> None:
        super().__init__()
        self.in_channels, self.out_channels = in_channels, out_channels

    def forward(self, features: Tensor) -> Tensor:
        """Logits (N, K, h, w) of features (N, C, h, w)."""
        return self.scores(features).logits

    @abstractmethod
    def scores(self, features: Tensor) -> Scores:
        """The logits, and what `losses` needs of the way to them."""

    @abstractmethod
    def losses(self, scores: Any, labels: Tensor) -> dict[str, Tensor]:
        """What the model's loss has beside the head's own; names with "loss" in them are summed.

        Args:
            scores: what `scores` returned in this iteration.
            labels: (N, H, W).
        """


def replace_classifier(model_cfg: Config, classifier: type[Classifier], **options: Any) -> Config:
    """Make the config of a model into that of the same model with another classifier.

    Args:
        model_cfg: config of a segmentor (``cfg.model``); not changed.
        classifier: class of the classifier, importable by name.
        **options: arguments of its constructor, and ``seed`` of its random draws (by default the
            seed of torch's global generator, from which nothing is drawn).

    Returns:
        A config of the same mapping type, to build in mmseg's ``MODELS`` for training and for
        inference alike. It holds plain values only.

    Raises:
        sar.support.UnsupportedModelError: for a model without such a classifier, or that has a
            training method already.
        ValueError: for an option that is not known or out of range.
        TypeError: if ``model_cfg`` is no mapping.
    """
    return plug(model_cfg, classifier, options, RECLASSIFIED, "classifier")


@MODELS.register_module(name=RECLASSIFIED)
def build_reclassified_segmentor(
    *, base_type: str | type, classifier: Mapping[str, Any], **cfg: Any
) -> nn.Module:
    """Build what `replace_classifier` describes; registered as ``ReclassifiedSegmentor``.

    Raises:
        sar.support.UnsupportedModelError: if the classifier's type names no `Classifier`. A file
            that somebody sent can name no other function to be called here.
    """
    options = dict(classifier)
    name = options.pop("type", None)
    try:
        found = named(name)
    except (AttributeError, ImportError, ValueError) as error:
        raise UnsupportedModelError(f"classifier has type={name!r}: {error}") from error
    if not (isinstance(found, type) and issubclass(found, Classifier)):
        raise UnsupportedModelError(
            f"classifier has type={name!r}, expected a class made from sar.classifier.Classifier"
        )
    segmentor = derived(_Reclassified, find_class(base_type, "model"), "Reclassified")
    return segmentor(classifier=found, options=options, **ConfigDict(cfg))


class _Reclassified(Derived):
    """A segmentor whose last decode head has another classifier."""

    def __init__(
        self, *args: Any, classifier: type[Classifier], options: Mapping[str, Any], **kwargs: Any
    ) -> None:
        super().__init__(*args, **kwargs)
        head = last_head(self.decode_head)
        check_head(head)
        # The one that was there has drawn its weights: all else is the baseline's with this seed.
        head.conv_seg = build_method(classifier, options, head)
        if not torch.cuda.is_available():
            # Synchronised batch norm refuses CPU tensors.
            revert_sync_batchnorm(self)

    def init_weights(self) -> None:
        """Initialise the baseline's weights as the baseline would; the classifier has its own.

        In its place stands one of the baseline's shape, whose numbers are drawn and dropped.
        """
        head = last_head(self.decode_head)
        own = head.conv_seg
        device = next(own.parameters()).device
        shape = (own.in_channels, own.out_channels, 1)
        head.conv_seg = skip_init(nn.Conv2d, *shape, device=device)
        try:
            super().init_weights()
        finally:
            head.conv_seg = own

    def loss(self, inputs: Tensor, data_samples: Sequence[Any]) -> dict[str, Tensor]:
        """The losses of the model's heads, and those of the classifier.

        Raises:
            RuntimeError: if the last decode head did not classify exactly one feature map.
        """
        head = last_head(self.decode_head)
        classifier: Classifier = head.conv_seg
        seen: list[Scores] = []

        def watched(features: Tensor) -> Tensor:
            seen.append(classifier.scores(features))
            return seen[-1].logits

        with replaced(classifier, "forward", watched):
            losses: dict[str, Tensor] = super().loss(inputs, data_samples)
        if len(seen) != 1:
            raise RuntimeError(
                f"{type(head).__name__} called conv_seg {len(seen)} times in one loss, expected "
                "once: the method needs the one feature map that is classified"
            )
        with torch.autocast(inputs.device.type, enabled=False):
            terms = classifier.losses(seen[0], stacked_labels(data_samples))
        losses.update({f"regularizer.{name}": value for name, value in terms.items()})
        return losses
