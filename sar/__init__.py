"""Semantic anchor regularization for semantic segmentation.

``import sar`` needs torch only. The plug-in for mmsegmentation is ``sar.mmseg`` and the import of
released weights is ``sar.checkpoints``; both are imported by name.
"""

from sar.regularizer import SemanticAnchorRegularizer

__version__ = "0.1.0"

__all__ = ["SemanticAnchorRegularizer", "__version__"]
