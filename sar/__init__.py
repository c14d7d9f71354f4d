"""Semantic anchor regularization for semantic segmentation.

``import sar`` needs torch only, and not before it is used. The plug-in for mmsegmentation is
``sar.mmseg`` and the import of released weights is ``sar.checkpoints``; both are imported by name.
``sar.load`` reads a trained model, for which mmsegmentation has to be installed (the extra
``mmseg``).
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from sar.regularizer import SemanticAnchorRegularizer
    from sar.trained.model import TrainedModel, load

__version__ = "0.1.0"

__all__ = ["SemanticAnchorRegularizer", "TrainedModel", "__version__", "load"]

_PLACES = {
    "SemanticAnchorRegularizer": "sar.regularizer",
    "TrainedModel": "sar.trained.model",
    "load": "sar.trained.model",
}


def __getattr__(name: str) -> object:
    # Help and file names take a fraction of a second, torch takes seconds.
    if name in _PLACES:
        return getattr(import_module(_PLACES[name]), name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
