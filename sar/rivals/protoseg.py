"""ProtoSeg: the classes are sets of prototypes on the unit sphere, means of clusters of pixels.

Zhou et al., "Rethinking Semantic Segmentation: A Prototype View", CVPR 2022, arXiv 2203.15102,
eq. 6 to 13, as in tfzhou/ProtoSeg (1c4a778). It takes the classifier's place: unlike the other
rivals it predicts in another way than the baseline, with weights of its own.
"""

from __future__ import annotations

from typing import NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from sar.checks import check_integer, check_number
from sar.classifier import Classifier, replace_classifier
from sar.door import Config
from sar.regularizer import scaled_momentum
from sar.rivals.class_means import pixel_labels, sum_over_processes

__all__ = ["Clusters", "Matches", "PrototypeClassifier", "apply_protoseg", "sinkhorn"]


class Matches(NamedTuple):
    """Pixels compared with prototypes."""

    pixels: Tensor
    """i, (N, h, w, C), unit vectors."""
    cosines: Tensor
    """i.p, (N, h, w, K, M)."""
    logits: Tensor
    """(N, K, h, w)."""


class Clusters(NamedTuple):
    """How the labelled pixels of a batch are shared out, n in all."""

    places: Tensor
    """(n,), their indices among all pixels."""
    classes: Tensor
    """y, (n,)."""
    cosines: Tensor
    """i.p, (n, K, M)."""
    shares: Tensor
    """Of each prototype of the class, (n, M)."""
    nearest: Tensor
    """a, the one with the largest share, (n,)."""

    @property
    def target(self) -> Tensor:
        """(y, a) as one number in 0..KM-1, (n,)."""
        return self.classes * self.shares.shape[1] + self.nearest


class PrototypeClassifier(Classifier):
    """M prototypes p a class; the score of a class is the cosine of the nearest, normalised.

        i = l2(LN(l2(conv1x1(ReLU(conv1x1(f))))))        a pixel
        z = LN_k(max_m i.p_km)                           its scores, LN over the classes
        loss = ppc_weight CE(i.p, (y, a)) + ppd_weight mean (1 - i.p_ya)^2

    with a the pixel's prototype among the M of its class y: the pixels of a class are shared out
    among them by `sinkhorn`. The head's own cross-entropy of z is beside it. After the losses each
    prototype moves: p = l2(``momentum`` p + (1 - ``momentum``) l2(sum of its pixels)). Of these are
    only those that z classifies rightly, and they are drawn: with Gumbel noise g to the largest of
    share + g (the source's hard Gumbel softmax of shares, and not of their logarithms).

    The pixels shared out, counted and averaged are those of all processes; the source shares them
    out process by process and averages the prototypes. In eval mode prototypes stay.

    Args:
        num_classes: K.
        channels: C.
        num_prototypes: M.
        momentum: of the prototypes; in [0, 1].
        ppc_weight: of the pixel-prototype contrast.
        ppd_weight: of the pixel-prototype distance.
        ignore_index: label of void; None for none.

    Attributes:
        prototypes: buffer (K, M, C), p; at first normal numbers, normalised.
        iteration: buffer, 0-dim int64: how often they have moved.
        follows: whether they move in train mode. Gradient accumulation sets it to False for all
            parts of a batch but the first. Not in the state.

    Raises:
        ValueError: for an argument out of range, naming it.
    """

    prototypes: Tensor
    seed: Tensor
    iteration: Tensor

    def __init__(
        self,
        num_classes: int,
        channels: int,
        *,
        num_prototypes: int = 10,
        momentum: float = 0.999,
        ppc_weight: float = 0.01,
        ppd_weight: float = 0.001,
        ignore_index: int | None = 255,
        generator: torch.Generator | None = None,
    ) -> None:
        super().__init__(channels, num_classes)
        self.check_options(
            num_prototypes=num_prototypes,
            momentum=momentum,
            ppc_weight=ppc_weight,
            ppd_weight=ppd_weight,
        )
        self.momentum, self.ignore_index = momentum, ignore_index
        self.ppc_weight, self.ppd_weight = ppc_weight, ppd_weight
        self.project = nn.Sequential(
            nn.Conv2d(channels, channels, 1), nn.ReLU(), nn.Conv2d(channels, channels, 1)
        )
        self.pixel_norm, self.class_norm = nn.LayerNorm(channels), nn.LayerNorm(num_classes)
        drawn = torch.empty(num_classes, num_prototypes, channels)
        nn.init.trunc_normal_(drawn, std=0.02, generator=generator)
        self.register_buffer("prototypes", F.normalize(drawn, dim=2))
        self.register_buffer("seed", torch.randint(2**31, (), generator=generator))
        self.register_buffer("iteration", torch.tensor(0))
        self.follows = True

    @staticmethod
    def check_options(
        *,
        num_prototypes: int = 10,
        momentum: float = 0.999,
        ppc_weight: float = 0.01,
        ppd_weight: float = 0.001,
    ) -> None:
        check_integer("num_prototypes", num_prototypes, 1)
        check_number("momentum", momentum, "[0, 1]")
        check_number("ppc_weight", ppc_weight)
        check_number("ppd_weight", ppd_weight)

    def scores(self, features: Tensor) -> Matches:
        """Pixels, cosines and logits of f, (N, C, h, w)."""
        projected = self.project(features).to(self.prototypes.dtype).movedim(1, -1)
        device = features.device.type
        if not torch.is_autocast_enabled(device):  # Exporters know no context that does nothing.
            return self.match(F.normalize(projected, dim=-1))
        with torch.autocast(device, enabled=False):
            return self.match(F.normalize(projected, dim=-1))

    def match(self, projected: Tensor) -> Matches:
        """The same from pixels before the layer norm, (N, h, w, C)."""
        pixels = F.normalize(self.pixel_norm(projected), dim=-1)
        prototypes = self.prototypes.clone()  # Backward reads what `losses` moves.
        cosines = pixels @ prototypes.flatten(0, 1).T
        cosines = cosines.unflatten(-1, prototypes.shape[:2])
        logits = self.class_norm(cosines.amax(dim=-1)).movedim(-1, 1)
        return Matches(pixels, cosines, logits)

    def losses(
        self, scores: Matches, labels: Tensor, noise: Tensor | None = None
    ) -> dict[str, Tensor]:
        """``loss_ppc`` and ``loss_ppd`` of one batch, 0 where all is void; moves the prototypes.

        Of several processes each has its pixels' share of the mean over all, times their number.

        Args:
            scores: of this batch.
            labels: (N, H, W), integers in 0..K-1 or ``ignore_index``.
            noise: g of the labelled pixels in their order, (n, M), instead of one that is drawn.
        """
        found = self.clusters(scores, labels)
        cosines = found.cosines.flatten(1)
        contrast = F.cross_entropy(cosines, found.target, reduction="sum")
        distance = (1 - cosines.gather(1, found.target[:, None])).square().sum()
        if self.training and self.follows:
            right = scores.logits.detach().argmax(dim=1).flatten()[found.places] == found.classes
            pixels = scores.pixels.detach().flatten(0, 2)[found.places]
            noise = self._noise(found.shares) if noise is None else noise
            drawn = found._replace(nearest=(found.shares + noise).argmax(dim=1))
            self._move(pixels[right], drawn.target[right])
        count = torch.tensor([len(cosines), 1.0], device=cosines.device, dtype=cosines.dtype)
        pixels_of_all, processes = sum_over_processes(count)
        scale = processes / pixels_of_all.clamp(min=1)
        return {
            "loss_ppc": self.ppc_weight * scale * contrast,
            "loss_ppd": self.ppd_weight * scale * distance,
        }

    def clusters(self, scores: Matches, labels: Tensor) -> Clusters:
        """The pixels of each class shared out among its prototypes."""
        known = pixel_labels(labels, scores.logits.shape[-2:], self.ignore_index).flatten()
        places = (known >= 0).nonzero().flatten()
        classes = known[places]
        # Void pixels leave before the losses: what is NaN there has no gradient of them.
        cosines = scores.cosines.flatten(0, 2).index_select(0, places)
        own = cosines.detach()[torch.arange(len(places), device=places.device), classes]
        shares = sinkhorn(own, classes, len(self.prototypes))
        return Clusters(places, classes, cosines, shares, shares.argmax(dim=1))

    def _noise(self, like: Tensor) -> Tensor:
        """Gumbel noise that depends on the iteration alone, so that a training can be resumed."""
        generator = torch.Generator(like.device).manual_seed(int(self.seed) + int(self.iteration))
        return -torch.empty_like(like).exponential_(generator=generator).log()

    def _move(self, pixels: Tensor, cluster: Tensor) -> None:
        """Move the prototypes to the pixels (n, C) of each, by their numbers in 0..KM-1."""
        old = self.prototypes.flatten(0, 1)
        belongs = F.one_hot(cluster, len(old)).to(pixels.dtype)
        found = torch.cat([belongs.T @ pixels, belongs.sum(dim=0)[:, None]], dim=1)
        found = sum_over_processes(found)
        means = F.normalize(found[:, :-1], dim=1)
        moved = self.momentum * old + (1 - self.momentum) * means
        moved = F.normalize(torch.where(found[:, -1:] > 0, moved, old), dim=1)
        self.prototypes.copy_(moved.view_as(self.prototypes))
        self.iteration += 1


def sinkhorn(
    own: Tensor, classes: Tensor, num_classes: int, rounds: int = 3, epsilon: float = 0.05
) -> Tensor:
    """Share the pixels of each class out among its prototypes, equally many to each.

    exp(own / epsilon) scaled in turns: the M of a class to equal sums, each pixel to the same sum.

    Args:
        own: (n, M), cosines with the prototypes of a pixel's own class.
        classes: (n,), in 0..K-1.
        num_classes: K.

    Returns:
        (n, M), rows of the sum 1.
    """
    belongs = F.one_hot(classes, num_classes).to(own.dtype)

    def of_class(values: Tensor) -> Tensor:
        """For each pixel the sums over those of its class, of all processes."""
        return sum_over_processes(belongs.T @ values)[classes]

    shares = (own / epsilon).exp()
    count = of_class(torch.ones_like(shares[:, :1]))
    shares = shares / of_class(shares).sum(dim=1, keepdim=True)
    for _ in range(rounds):
        shares = shares / of_class(shares) / own.shape[1]
        shares = shares / shares.sum(dim=1, keepdim=True) / count
    return shares * count


def apply_protoseg(
    model_cfg: Config,
    *,
    num_prototypes: int = 10,
    momentum: float | str = 0.999,
    ppc_weight: float = 0.01,
    ppd_weight: float = 0.001,
    seed: int | None = None,
    iterations: int | None = None,
) -> Config:
    """Let prototypes classify what a model's last decode head does; see
    `sar.classifier.replace_classifier`.

    Args:
        iterations: of the training; ``momentum="auto"`` needs them, as in `sar.mmseg.apply_sar`.
    """
    if momentum == "auto":
        momentum = scaled_momentum(iterations)
    return replace_classifier(
        model_cfg,
        PrototypeClassifier,
        num_prototypes=num_prototypes,
        momentum=momentum,
        ppc_weight=ppc_weight,
        ppd_weight=ppd_weight,
        seed=seed,
    )
