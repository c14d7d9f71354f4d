"""Toy data and a toy network for the examples: made in a second, learned in a minute on a CPU."""

import torch
import torch.nn.functional as F
from torch import nn

CLASSES = ["ground", "red", "green", "blue"]
VOID = 255


def scenes(count, size=32, seed=0):
    """Images (N, 3, H, W) of 0..1 with coloured boxes on a grey ground, and labels (N, H, W).

    The last row of the labels is void, as edges of real labels are.
    """
    generator = torch.Generator().manual_seed(seed)
    images = 0.5 + 0.15 * torch.randn(count, 3, size, size, generator=generator)
    labels = torch.zeros(count, size, size, dtype=torch.long)
    for index in range(count):
        for colour in torch.randperm(3, generator=generator)[:2].tolist():
            top, left = torch.randint(0, size - 12, (2,), generator=generator).tolist()
            box = (slice(top, top + 12), slice(left, left + 12))
            images[index, colour][box] += 0.35
            labels[index][box] = colour + 1
    labels[:, -1] = VOID
    return images, labels


def photos(count, size=16, seed=0):
    """Images (N, 3, H, W) that have the colour of their class, faintly, and labels (N,)."""
    generator = torch.Generator().manual_seed(seed)
    labels = torch.randint(0, len(CLASSES), (count,), generator=generator)
    images = 0.5 + 0.2 * torch.randn(count, 3, size, size, generator=generator)
    for colour in range(3):
        images[labels == colour + 1, colour] += 0.2
    return images, labels


class SegmentationNet(nn.Module):
    """Images to scores (N, K, H, W), by way of features (N, C, H / 2, W / 2)."""

    def __init__(self, channels=16):
        super().__init__()
        self.channels = channels
        self.body = nn.Sequential(
            *(nn.Conv2d(3, channels, 3, stride=2, padding=1), nn.BatchNorm2d(channels), nn.ReLU()),
            *(nn.Conv2d(channels, channels, 3, padding=1), nn.BatchNorm2d(channels), nn.ReLU()),
        )
        self.dropout = nn.Dropout2d(0.1)
        self.classifier = nn.Conv2d(channels, len(CLASSES), 1)

    def classify(self, features, size):
        scores = self.classifier(self.dropout(features))
        return F.interpolate(scores, size, mode="bilinear")

    def forward(self, images):
        return self.classify(self.body(images), images.shape[-2:])


def accuracy(scores, labels):
    """Share of the pixels, or images, of a class that get it, averaged over the classes."""
    right = scores.argmax(1) == labels
    return sum(right[labels == k].float().mean().item() for k in range(len(CLASSES))) / len(CLASSES)
