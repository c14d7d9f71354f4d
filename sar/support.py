"""Which mmsegmentation models can be regularised, and why others cannot.

The rule: a segmentor of the encoder-decoder family whose last decode head classifies one feature
map with ``cls_seg``, through a linear classifier ``conv_seg`` with one score per class. Of a head
with several branches, the one that enters ``cls_seg``, the classifier used at inference, is
regularised; the other branches and their own classifiers are left alone.
"""

from __future__ import annotations

import inspect
from collections.abc import Mapping
from typing import Any

from mmseg.models import BaseSegmentor, EncoderDecoder
from mmseg.models.decode_heads.decode_head import BaseDecodeHead
from mmseg.models.losses import CrossEntropyLoss
from mmseg.registry import MODELS
from torch import nn

__all__ = [
    "RECLASSIFIED",
    "UnsupportedModelError",
    "check_config",
    "check_head",
    "cross_entropies",
    "find_class",
    "last_head",
]

RECLASSIFIED = "ReclassifiedSegmentor"
"""Type of a model whose classifier a method has replaced, for good; see `sar.classifier`."""

# What the structure alone would refuse without a helpful word, or would let through.
_REASONS = {
    "DepthEstimator": "it estimates depth, not classes",
    "VPDDepthHead": "it estimates depth, not classes",
    "MultimodalEncoderDecoder": "its classifier is made of text embeddings",
    "SideAdapterCLIPHead": "its classifier is made of text embeddings",
    "MaskFormerHead": "it classifies masks, not pixels",
    "Mask2FormerHead": "it classifies masks, not pixels",
    "SegmenterMaskTransformerHead": "its classes are tokens of a transformer: it has no conv_seg",
    "IterativeDecodeHead": "its kernels are updated for each image: there is no one classifier",
    "PointHead": "it classifies sampled points, not a feature map",
}


class UnsupportedModelError(ValueError):
    """The model cannot be regularised; the message says why."""


def check_config(model_cfg: Mapping[str, Any]) -> None:
    """Refuse a segmentor's config that cannot be regularised.

    Raises:
        UnsupportedModelError: saying which part is the obstacle.
    """
    segmentor = find_class(model_cfg.get("type"), "model")
    _refuse_known(segmentor)
    if not issubclass(segmentor, EncoderDecoder):
        kind = "segmentor" if issubclass(segmentor, BaseSegmentor) else "class"
        raise UnsupportedModelError(
            f"{segmentor.__name__}: a {kind} outside the family of EncoderDecoder and "
            "CascadeEncoderDecoder"
        )
    head_cfg = last_head(model_cfg.get("decode_head"))
    if not isinstance(head_cfg, Mapping):
        raise UnsupportedModelError(f"{segmentor.__name__}: its config has no decode_head")
    head = find_class(head_cfg.get("type"), "decode_head")
    _refuse_known(head)
    if not issubclass(head, BaseDecodeHead):
        raise UnsupportedModelError(f"{head.__name__}: not a subclass of BaseDecodeHead")
    classes, outputs = head_cfg.get("num_classes"), head_cfg.get("out_channels")
    if classes is not None:
        _check_scores(head.__name__, classes, classes if outputs is None else outputs)


def check_head(head: BaseDecodeHead) -> None:
    """Refuse a built decode head that cannot be regularised: the last word, on what is there.

    Raises:
        UnsupportedModelError: saying what it lacks.
    """
    name = type(head).__name__
    _refuse_known(type(head))
    if not callable(getattr(head, "cls_seg", None)):
        raise UnsupportedModelError(f"{name}: it has no cls_seg to take features from")
    classifier: Any = getattr(head, "conv_seg", None)
    if not hasattr(classifier, "in_channels"):
        raise UnsupportedModelError(f"{name}: it has no convolution conv_seg as its classifier")
    _check_scores(name, head.num_classes, classifier.out_channels)


def cross_entropies(head: nn.Module) -> list[nn.Module]:
    """The softmax cross-entropies of a decode head, those of its other branches included.

    Raises:
        UnsupportedModelError: if it has none, or beside them one of another kind.
    """
    own: Any = head.loss_decode
    losses = list(own) if isinstance(own, nn.ModuleList) else [own]
    softmax = [
        x for x in losses if type(x) is CrossEntropyLoss and not (x.use_sigmoid or x.use_mask)
    ]
    others = [x for x in losses if x not in softmax and "CrossEntropy" in type(x).__name__]
    if others or not softmax:
        names = ", ".join(type(x).__name__ for x in losses)
        raise UnsupportedModelError(
            f"{type(head).__name__}: its losses are {names}; the method changes what a softmax "
            "CrossEntropyLoss sees, and needs one, with no cross-entropy of another kind beside it"
        )
    return softmax


def find_class(name: str | type | None, place: str) -> type:
    """The class registered under ``name``; a class itself is returned as it is.

    Raises:
        UnsupportedModelError: if there is none.
    """
    if inspect.isclass(name):
        return name
    if not isinstance(name, str):
        raise UnsupportedModelError(f"the config of {place} has type={name!r}, expected a name")
    try:
        found = MODELS.get(name)
    except (RuntimeError, ImportError):
        found = None
    if not inspect.isclass(found):
        raise UnsupportedModelError(
            f"{place} has type={name!r}, which is not registered in mmseg; if a module of yours "
            "registers it, name that module in the config's custom_imports (and import it first)"
        )
    return found


def last_head(decode_head: Any) -> Any:
    """The head whose scores are the prediction: a cascade's last. Takes configs and modules."""
    if isinstance(decode_head, (list, tuple, nn.ModuleList)):
        return decode_head[-1] if len(decode_head) else None
    return decode_head


def _refuse_known(cls: type) -> None:
    for base in cls.__mro__:
        if base.__name__ in _REASONS:
            raise UnsupportedModelError(f"{cls.__name__}: {_REASONS[base.__name__]}")


def _check_scores(name: str, num_classes: int, outputs: int) -> None:
    if outputs != num_classes or num_classes < 2:
        raise UnsupportedModelError(
            f"{name}: num_classes={num_classes} with out_channels={outputs}; one score per class "
            "and at least two classes are needed (a binary model can use num_classes=2, "
            "out_channels=2 and a softmax)"
        )
