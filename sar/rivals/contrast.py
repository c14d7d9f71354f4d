"""Pixel contrast: embedded pixels near those of their class and far from the others', within the
batch or against a memory.

Wang et al., "Exploring Cross-Image Pixel Contrast for Semantic Segmentation", ICCV 2021,
arXiv 2101.11939, eq. 3 to 6, as in tfzhou/ContrastiveSeg (287e5d3).
"""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from sar.checks import check_flag, check_integer, check_number
from sar.door import Config, attach
from sar.rivals.class_means import clear_void, pixel_labels, zero_loss
from sar.rivals.contrast_terms import contrast_loss, draw, memory_contrast, sample_anchors

__all__ = ["PixelContrast", "apply_contrast"]


class PixelContrast(nn.Module):
    """weight * contrast of g = l2(conv1x1 C -> C, BN, ReLU, conv1x1 C -> 256) of sampled pixels.

    Begins after ``start`` iterations. With memory, each class keeps the ``memory_size`` last mean
    embeddings of its regions (an image's pixels of the class) and as many single ones, ten of each
    region; they enter after the loss. The source draws the ten among the first pixels of the
    image, whatever their class, and moves their place by one; here they are pixels of the class,
    and move it by their number. Each process samples and remembers its own images.

    Args:
        num_classes: K.
        channels: C.
        weight: of the loss.
        temperature: tau.
        max_samples: pixels to contrast in a batch.
        max_views: of them, of one class in one image; one with no more pixels gives none.
        start: iterations before the loss begins.
        memory: whether pixels are contrasted with a memory and not with each other.
        memory_size: means, and pixels, that it keeps of each class.
        ignore_index: label of void; None for none.

    Attributes:
        iteration: buffer, 0-dim int64: forwards in train mode.
        queue: buffer (K, 2 ``memory_size``, 256), means first; random unit vectors at first.
        place: buffer (K, 2) int64: where the next of each goes.

    Raises:
        ValueError: for an argument out of range, naming it.
    """

    seed: Tensor
    iteration: Tensor
    queue: Tensor
    place: Tensor

    def __init__(
        self,
        num_classes: int,
        channels: int,
        *,
        weight: float = 0.1,
        temperature: float = 0.1,
        max_samples: int = 1024,
        max_views: int = 100,
        start: int = 0,
        memory: bool = False,
        memory_size: int = 5000,
        ignore_index: int | None = 255,
        generator: torch.Generator | None = None,
    ) -> None:
        super().__init__()
        self.check_options(
            weight=weight,
            temperature=temperature,
            max_samples=max_samples,
            max_views=max_views,
            start=start,
            memory=memory,
            memory_size=memory_size,
        )
        self.weight, self.temperature, self.start = weight, temperature, start
        self.max_samples, self.max_views, self.ignore_index = max_samples, max_views, ignore_index
        self.project = nn.Sequential(
            nn.Conv2d(channels, channels, 1),
            nn.BatchNorm2d(channels),
            nn.ReLU(),
            nn.Conv2d(channels, 256, 1),
        )
        seed = torch.randint(2**31, (), generator=generator)
        self.register_buffer("seed", seed)
        self.register_buffer("iteration", torch.tensor(0))
        self.memory = memory
        if memory:
            queue = torch.randn(num_classes, 2 * memory_size, 256, generator=generator)
            self.register_buffer("queue", F.normalize(queue, dim=2))
            self.register_buffer("place", torch.zeros(num_classes, 2, dtype=torch.long))

    @staticmethod
    def check_options(
        *,
        weight: float = 0.1,
        temperature: float = 0.1,
        max_samples: int = 1024,
        max_views: int = 100,
        start: int = 0,
        memory: bool = False,
        memory_size: int = 5000,
    ) -> None:
        check_number("weight", weight)
        check_number("temperature", temperature, "(0, inf)")
        check_integer("max_samples", max_samples, 2)
        check_integer("max_views", max_views, 2)
        check_integer("start", start, 0)
        check_flag("memory", memory)
        check_integer("memory_size", memory_size, 10)

    def forward(self, features: Tensor, logits: Tensor, labels: Tensor) -> dict[str, Tensor]:
        """The loss of one batch, ``{"loss_contrast": scalar}``; 0 where nothing can be sampled.

        Args:
            features: f, (N, C, h, w).
            logits: z, (N, K, h, w).
            labels: (N, H, W), integers in 0..K-1 or ``ignore_index``.
        """
        iteration = int(self.iteration)
        self.iteration += self.training
        features = features.to(next(self.project.parameters()).dtype)
        if features.numel() <= features.shape[1]:  # One pixel has no statistics.
            return {"loss_contrast": zero_loss(self, features)}
        generator = torch.Generator().manual_seed(int(self.seed) + iteration)
        known = pixel_labels(labels, features.shape[-2:], self.ignore_index)
        embedded = F.normalize(self.project(clear_void(features, known)).flatten(2), dim=1)
        anchors, classes = sample_anchors(
            embedded,
            known,
            logits.argmax(dim=1).flatten(1),
            self.max_samples,
            self.max_views,
            generator,
        )
        views = anchors.shape[1]
        anchors = anchors.transpose(0, 1).flatten(0, 1)
        classes = classes.repeat(views)
        if iteration < self.start or not len(anchors):
            loss = zero_loss(self, features)
        elif self.memory:
            loss = memory_contrast(anchors, classes, self.queue.clone(), self.temperature)
        else:
            loss = contrast_loss(anchors, classes, anchors, classes, self.temperature)
        if self.memory and self.training:
            self._remember(embedded.detach(), known, generator)
        return {"loss_contrast": self.weight * loss}

    def _remember(self, embedded: Tensor, labels: Tensor, generator: torch.Generator) -> None:
        size = self.queue.shape[1] // 2
        for image, row in zip(embedded, labels, strict=True):
            for k in row.unique().tolist():
                if k < 0:
                    continue
                pixels = (row == k).nonzero().flatten()
                mean = F.normalize(image[:, pixels].mean(dim=1), dim=0)
                single = image[:, draw(pixels, 10, generator)].T
                for part, entries in enumerate((mean[None], single)):
                    place = self.place[k, part] + torch.arange(len(entries), device=row.device)
                    self.queue[k, part * size + place % size] = entries
                    self.place[k, part] = (place[-1] + 1) % size


def apply_contrast(
    model_cfg: Config,
    *,
    weight: float = 0.1,
    temperature: float | None = None,
    max_samples: int = 1024,
    max_views: int = 100,
    memory: bool = False,
    memory_size: int = 5000,
    seed: int | None = None,
    iterations: int,
) -> Config:
    """Train a model with pixel contrast on what its last decode head classifies; see
    `sar.door.attach`.

    Args:
        temperature: 0.1 by default, and 0.07 with memory.
        iterations: of the training; the loss begins after an eighth of them.
    """
    check_integer("iterations", iterations, 1)
    if temperature is None:
        temperature = 0.07 if memory else 0.1
    return attach(
        model_cfg,
        PixelContrast,
        weight=weight,
        temperature=temperature,
        max_samples=max_samples,
        max_views=max_views,
        start=iterations // 8,
        memory=memory,
        memory_size=memory_size,
        seed=seed,
    )
