"""Encoders and models of other libraries as backbones of mmsegmentation, with its heads on top.

A config names one in full, such as ``type="sar.adapters.timm.Encoder"``; each needs an extra of
this package. They start from random weights: published ones are a model entry's ``pretrained``.
"""
