"""Pixel contrast's sampling and loss, without a network.

Wang et al., "Exploring Cross-Image Pixel Contrast for Semantic Segmentation", ICCV 2021,
arXiv 2101.11939, eq. 3 to 6, as in tfzhou/ContrastiveSeg (287e5d3).
"""

from __future__ import annotations

import torch
from torch import Tensor

__all__ = ["contrast_loss", "draw", "memory_contrast", "sample_anchors"]

_BASE_TEMPERATURE = 0.07


def sample_anchors(
    embedded: Tensor,
    labels: Tensor,
    predicted: Tensor,
    max_samples: int,
    max_views: int,
    generator: torch.Generator,
) -> tuple[Tensor, Tensor]:
    """Pixels to contrast, of each image and each of its classes with more than ``max_views``.

    Each such class of an image gives as many, at most ``max_views`` and all together at most
    ``max_samples``: half of them wrongly predicted, or as many as there are. **A class with few
    pixels in an image gives none there.**

    Args:
        embedded: (N, D, P).
        labels: (N, P), -1 for void.
        predicted: (N, P).
        generator: on the CPU, of the draws.

    Returns:
        (A, V, D) and their classes (A,); A is 0 where there is nothing to sample.
    """
    found = []
    for image, row in enumerate(labels):
        classes, counts = row.unique(return_counts=True)
        found += [(image, k) for k in classes[(counts > max_views) & (classes >= 0)].tolist()]
    views = min(max_samples // len(found), max_views) if found else 0
    if not views:
        return embedded.new_zeros(0, 1, embedded.shape[1]), labels.new_zeros(0)
    rows = []
    for image, k in found:
        own, right = labels[image] == k, predicted[image] == k
        hard, easy = (own & ~right).nonzero().flatten(), (own & right).nonzero().flatten()
        keep = views // 2
        if len(hard) < views / 2:
            keep = len(hard)
        elif len(easy) < views / 2:
            keep = views - len(easy)
        chosen = [draw(hard, keep, generator), draw(easy, views - keep, generator)]
        rows.append(embedded[image][:, torch.cat(chosen)].T)
    return torch.stack(rows), torch.tensor([k for _, k in found], device=labels.device)


def draw(indices: Tensor, count: int, generator: torch.Generator) -> Tensor:
    """Some of the indices, all where there are no more."""
    order = torch.randperm(len(indices), generator=generator)
    return indices[order[:count].to(indices.device)]


def contrast_loss(
    anchors: Tensor,
    classes: Tensor,
    contrast: Tensor,
    contrast_classes: Tensor,
    temperature: float = 0.1,
) -> Tensor:
    """Mean over anchors a, and over their positives p, of

        -(tau / 0.07) log(exp(a.p / tau) / (exp(a.p / tau) + sum over negatives exp(a.n / tau))),

    where the i-th of the contrast is no positive of the i-th anchor: it is itself within a batch.

    Args:
        anchors: (A, D), unit vectors.
        classes: (A,).
        contrast: (B, D), unit vectors; may be the anchors.
        contrast_classes: (B,).
    """
    scores = anchors @ contrast.T / temperature
    scores = scores - scores.detach().amax(dim=1, keepdim=True)
    same = classes[:, None] == contrast_classes[None, :]
    positive = same.to(scores.dtype)
    positive.fill_diagonal_(0)
    exponents = scores.exp()
    negatives = torch.where(same, 0, exponents).sum(dim=1, keepdim=True)
    log_p = scores - (exponents + negatives).log()
    mean = (positive * log_p).sum(dim=1) / positive.sum(dim=1).clamp(min=1)
    return -(temperature / _BASE_TEMPERATURE) * mean.mean()


def memory_contrast(
    anchors: Tensor, classes: Tensor, queue: Tensor, temperature: float = 0.07
) -> Tensor:
    """`contrast_loss` against a memory (K, Q, D).

    As in the source, whose published numbers have it so: the memory of class 0 is not used, and in
    its place Q points at the origin, with label 0, stand at the end.
    """
    count, size, dim = queue.shape
    contrast = torch.cat([queue[1:].reshape(-1, dim), queue.new_zeros(size, dim)])
    labels = torch.arange(1, count + 1, device=queue.device) % count
    return contrast_loss(anchors, classes, contrast, labels.repeat_interleave(size), temperature)
