"""Semantic anchor regularization: two loss terms beside a segmentation head's own, and nothing at
inference.

Ge et al., "Beyond Prototypes: Semantic Anchor Regularization for Better Representation Learning",
AAAI 2024, arXiv 2312.11872.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence

import torch
import torch.distributed as dist
import torch.nn.functional as F
from torch import Tensor, nn

from sar.anchors import check_anchors, make_anchors
from sar.checks import check_choice, check_flag, check_integer, check_number
from sar.embedding import AnchorEmbedding
from sar.pull import count_classes, count_valid, pixel_to_anchor_pull, resize_labels

__all__ = ["SemanticAnchorRegularizer", "check_options", "scaled_momentum"]

FEATURE_TYPES = (torch.float32, torch.float64, torch.float16, torch.bfloat16)


def check_options(
    *,
    pull_weight: float = 0.1,
    aux_weight: float = 1.0,
    filter_confidence: float = 0.9,
    update_confidence: float = 0.8,
    momentum: float = 0.999,
    pull_mean: str = "pixels",
    pull_target: str = "class",
    gated: bool = True,
    embedded: bool = True,
    anchors: str | Tensor | Sequence[Sequence[float]] = "gaussian",
) -> None:
    """Check the options of `SemanticAnchorRegularizer`, but for the shape of its anchors.

    Raises:
        ValueError: naming the argument, its value and what was expected.
    """
    check_number("pull_weight", pull_weight)
    check_number("aux_weight", aux_weight)
    check_number("filter_confidence", filter_confidence, "(0, 1]")
    check_number("update_confidence", update_confidence, "(0, 1]")
    check_number("momentum", momentum, "[0, 1]")
    check_choice("pull_mean", pull_mean, ("pixels", "classes"))
    check_choice("pull_target", pull_target, ("class", "common"))
    check_flag("gated", gated)
    check_flag("embedded", embedded)
    check_anchors(anchors)


def scaled_momentum(iterations: int | None) -> float:
    """The momentum whose half-life is the share of a training that 0.999's is of 80,000 iterations.

    The released code takes 0.999 whatever the training's length. In a short one the semantic
    anchors then stay where they were first put: after 1,000 iterations 37 % of them is still their
    first value.

    Returns:
        0.999 ** (80000 / iterations): 0.948 for 1,500, 0.923 for 1,000.

    Raises:
        ValueError: for no iterations.
    """
    if not isinstance(iterations, int) or isinstance(iterations, bool) or iterations < 1:
        raise ValueError(
            f"momentum='auto' with iterations={iterations!r}: expected the number of iterations of "
            "the training, at least 1"
        )
    return math.pow(0.999, 80_000 / iterations)


class SemanticAnchorRegularizer(nn.Module):
    """Learns semantic anchors of K classes with a head's classifier and pulls pixels to them.

    Fixed class anchors A (K, C) are embedded as e = embed(A). The classifier scores e,
    p_k = softmax(classifier(e_k))_k, and the *classifier-aware auxiliary cross-entropy* is

        L_aux-ce = sum_k w_k c_k,  c_k = -log p_k,  w_k = log p_k / (sum_j log p_j + 1e-9),

    where anchors with p_k > ``filter_confidence`` have weight 0 and the weights carry gradient. The
    gate is open where all K anchors are classified right with c_k < -log(``update_confidence``).
    Only then the *semantic anchors* m follow the embedded ones (first a copy, then m = ``momentum``
    m + (1 - ``momentum``) e) and the *pixel-to-anchor pull* acts on the features f:

        L_p2a = mean over channels and valid pixels of (f - m[label])^2.

    Features of images as a whole, (N, C) with labels (N,), are regularised as the pixels of a
    segmentation are (the journal version, IJCV 133(10), 2025, uses both).

    No gradient of L_p2a reaches the anchors, and none of L_aux-ce the features. With more than one
    process in ``torch.distributed``, and in train mode, L_p2a divides by the valid pixels of all
    processes, so that the mean over processes is the loss of the whole batch; the gate opens if it
    is open everywhere. In eval mode m stays.

    Args:
        num_classes: K, at least 2.
        channels: C, channels of the features that enter the classifier.
        anchors: "gaussian" (the paper's), "orthonormal", "simplex", "learned" (gaussian, and
            trained by L_aux-ce like the embedding), or the anchors as a (K, C) tensor or list.
        pull_weight: weight of L_p2a.
        aux_weight: weight of L_aux-ce.
        filter_confidence: above this p_k an anchor is left alone; in (0, 1].
        update_confidence: the gate's threshold; in (0, 1], and 1 never opens it.
        momentum: of the semantic anchors; in [0, 1]. 1 keeps their first value.
        pull_mean: "pixels" (the paper's), or "classes": the pull averaged over the pixels of each
            class and then over the classes present, so that rare ones weigh as much as frequent.
        pull_target: "class" (the paper's), or "common": a placebo, all pixels are pulled to one
            point, the mean of the semantic anchors.
        gated: False lets the anchors move and pull in every iteration.
        embedded: False leaves the embedding out: e = A.
        ignore_index: label of the pixels to leave out; None leaves out none.
        generator: CPU generator of all random draws; None takes torch's global one.

    Attributes:
        anchors: buffer (K, C), A; a parameter if learned.
        semantic_anchors: buffer (K, C), m; zero until the gate opens for the first time.
        initialized: buffer, 0-dim bool: m has its first value.
        follows: whether m moves in train mode, True at first. Gradient accumulation sets it to
            False for all parts of a batch but the first, so that m moves once a step. Not in the
            state.
        confidence: p_k of the last forward, (K,), detached; None before. Not in the state.
        gate: the last forward's gate, 0-dim bool; None before. Not in the state.

    Raises:
        ValueError: for an argument out of range, naming it.
    """

    anchors: Tensor
    semantic_anchors: Tensor
    initialized: Tensor
    _classes: Tensor

    def __init__(
        self,
        num_classes: int,
        channels: int,
        *,
        anchors: str | Tensor | Sequence[Sequence[float]] = "gaussian",
        pull_weight: float = 0.1,
        aux_weight: float = 1.0,
        filter_confidence: float = 0.9,
        update_confidence: float = 0.8,
        momentum: float = 0.999,
        pull_mean: str = "pixels",
        pull_target: str = "class",
        gated: bool = True,
        embedded: bool = True,
        ignore_index: int | None = 255,
        generator: torch.Generator | None = None,
    ) -> None:
        super().__init__()
        check_integer("num_classes", num_classes, 2)
        check_integer("channels", channels, 1)
        check_options(
            pull_weight=pull_weight,
            aux_weight=aux_weight,
            filter_confidence=filter_confidence,
            update_confidence=update_confidence,
            momentum=momentum,
            pull_mean=pull_mean,
            pull_target=pull_target,
            gated=gated,
            embedded=embedded,
        )
        if ignore_index is not None:
            check_integer("ignore_index", ignore_index)
        if generator is not None and not (
            isinstance(generator, torch.Generator) and generator.device.type == "cpu"
        ):
            raise ValueError(f"generator={generator!r}: expected a torch.Generator on the CPU")
        self.num_classes = num_classes
        self.channels = channels
        self.pull_weight = float(pull_weight)
        self.aux_weight = float(aux_weight)
        self.filter_confidence = float(filter_confidence)
        self.update_confidence = float(update_confidence)
        self.momentum = float(momentum)
        self.pull_mean = pull_mean
        self.pull_target = pull_target
        self.gated = gated
        self.ignore_index = ignore_index
        if isinstance(anchors, str) and anchors == "learned":
            start = make_anchors("gaussian", num_classes, channels, generator)
            self.anchors = nn.Parameter(start)
        else:
            self.register_buffer("anchors", make_anchors(anchors, num_classes, channels, generator))
        self.register_buffer("semantic_anchors", torch.zeros(num_classes, channels))
        self.register_buffer("initialized", torch.tensor(False))
        self.embedding = AnchorEmbedding(channels, generator) if embedded else None
        self.follows = True
        self.confidence: Tensor | None = None
        self.gate: Tensor | None = None
        self._last: tuple[Tensor, Tensor] | None = None  # e and m, of which `lag` is made
        # A constant that need not be made in each forward.
        self.register_buffer("_classes", torch.arange(num_classes), persistent=False)

    check_options = staticmethod(check_options)

    def forward(
        self, features: Tensor, labels: Tensor, classifier: Callable[[Tensor], Tensor]
    ) -> dict[str, Tensor]:
        """Both terms, weighted, for one batch.

        Nothing here waits for the GPU: the gate is a tensor, and decides by ``torch.where``. What
        the features hold at void pixels, or anywhere while the gate is closed, reaches neither loss
        nor gradient, even if it is NaN or infinite.

        Args:
            features: f, floating point, as they enter the classifier (before dropout): (N, C, h,
                w), or (N, C) of images as a whole.
            labels: integers in 0..K-1 or ``ignore_index``: (N, H, W), resized to (h, w) by nearest
                neighbour; or (N,), with features (N, C).
            classifier: maps (K, C, 1, 1) to scores (K, K, 1, 1), or, with features (N, C), (K, C)
                to (K, K), as ``nn.Linear`` does; without dropout. Receives the gradient of
                L_aux-ce.

        Returns:
            ``{"loss_aux_ce": scalar, "loss_p2a": scalar}``; loss_p2a is 0 while the gate is closed,
            and for an empty batch.

        Raises:
            ValueError: for features, labels or scores of a wrong shape or type, and (CPU only: a
                check would make a GPU wait) for labels out of range.
        """
        if features.ndim == 2:
            features, labels, classifier = _as_maps(features, labels, classifier)
        self._check_inputs(features, labels)
        with torch.autocast(features.device.type, enabled=False):
            embedded = self._embed()
            log_p, correct = self._score(classifier(embedded))
            confidence = log_p.detach().exp()
            loss_aux_ce = self._auxiliary_cross_entropy(log_p, confidence)

            gate = (correct & (log_p.detach() > math.log(self.update_confidence))).all()
            if not self.gated:
                gate = torch.ones_like(gate)
            world = self._processes()
            counts = None
            if world > 1 or self.pull_mean == "classes":  # else the pull counts its pixels itself
                labels = resize_labels(labels, features.shape[-2:]).long()
                counts = self._count(labels)
            counts, gate = self._agree(counts, gate, world)
            semantic_anchors, ready = self._follow(embedded.detach().flatten(1), gate)
            loss_p2a = self._pull(features, labels, semantic_anchors, counts, ready, world)

        self.confidence = confidence
        self.gate = gate
        last = embedded.detach().flatten(1)
        # Without an embedding it is the anchors themselves, which an optimizer may move.
        self._last = last.clone() if self.embedding is None else last, semantic_anchors
        return {"loss_aux_ce": loss_aux_ce, "loss_p2a": loss_p2a}

    def logged(self) -> dict[str, Tensor]:
        """Two values of the last forward for a training's log, 0-dim tensors; none before any."""
        if self.confidence is None or self.gate is None:
            return {}
        return {"min_confidence": self.confidence.min(), "gate": self.gate.float()}

    @property
    def lag(self) -> Tensor | None:
        """Root mean square over channels of e - m after the last forward, (K,), detached; NaN until
        the gate opens for the first time, None before any forward. In an iteration with an open
        gate, m moves by (1 - momentum) / momentum times as much.
        """
        if self._last is None:
            return None
        embedded, semantic_anchors = self._last
        distance = (embedded - semantic_anchors).square().mean(dim=1).sqrt()
        return torch.where(self.initialized, distance, torch.full_like(distance, torch.nan))

    def diagnostics(self) -> dict[str, Tensor]:
        """How the anchors stand after the last forward, for a log: detached 1-D tensors.

        Returns:
            ``confidence`` (K,), ``gate`` (1,) of 0 or 1, ``lag`` (K,), and ``norm`` (K,), the root
            mean square over channels of each semantic anchor; empty before the first forward.
        """
        lag = self.lag
        if self.confidence is None or self.gate is None or lag is None:
            return {}
        return {
            "confidence": self.confidence,
            "gate": self.gate.float().reshape(1),
            "lag": lag,
            "norm": self.semantic_anchors.square().mean(dim=1).sqrt(),
        }

    def extra_repr(self) -> str:
        return (
            f"num_classes={self.num_classes}, channels={self.channels}, "
            f"pull_weight={self.pull_weight}, aux_weight={self.aux_weight}, "
            f"filter_confidence={self.filter_confidence}, "
            f"update_confidence={self.update_confidence}, momentum={self.momentum}, "
            f"pull_mean={self.pull_mean}, pull_target={self.pull_target}, gated={self.gated}, "
            f"embedded={self.embedding is not None}, ignore_index={self.ignore_index}"
        )

    def _embed(self) -> Tensor:
        """e, (K, C, 1, 1)."""
        if self.embedding is None:
            return self.anchors[:, :, None, None]
        embedded: Tensor = self.embedding(self.anchors)
        return embedded

    def _count(self, labels: Tensor) -> Tensor:
        """What the pull divides by: the valid pixels, 0-dim, or those of each class, (K,)."""
        if self.pull_mean == "pixels":
            return count_valid(labels, self.ignore_index)
        return count_classes(labels, self.num_classes, self.ignore_index)

    def _pull(
        self,
        features: Tensor,
        labels: Tensor,
        semantic_anchors: Tensor,
        counts: Tensor | None,
        ready: Tensor,
        world: int,
    ) -> Tensor:
        """L_p2a with its weight, of this process's pixels; 0 unless `ready`."""
        if self.pull_target == "common":
            semantic_anchors = semantic_anchors.mean(dim=0).expand_as(semantic_anchors)
        pixels, weights = counts, None
        if counts is not None and self.pull_mean == "classes":
            # Each pixel is divided by those of its class, and by the classes present.
            pixels = (counts > 0).sum()
            weights = 1 / counts.clamp(min=1)
        return pixel_to_anchor_pull(
            features,
            labels,
            semantic_anchors,
            self.ignore_index,
            pixels,
            weights,
            # Each process has its share of the sum over the pixels of all; the mean over processes
            # divides by their number.
            factor=self.pull_weight * world,
            active=ready,
        )

    def _score(self, scores: Tensor) -> tuple[Tensor, Tensor]:
        """log p_k, and whether anchor k is classified right, each (K,), of scores (K, K, 1, 1)."""
        k = self.num_classes
        if tuple(scores.shape) != (k, k, 1, 1):
            raise ValueError(
                f"classifier returned shape {tuple(scores.shape)}, expected ({k}, {k}, 1, 1): "
                "one score per class for each embedded anchor"
            )
        scores = scores.flatten(1)
        if scores.dtype in (torch.float16, torch.bfloat16):
            scores = scores.float()
        log_p = F.log_softmax(scores, dim=1).diagonal()
        correct = scores.detach().argmax(dim=1) == self._classes
        return log_p, correct

    def _auxiliary_cross_entropy(self, log_p: Tensor, confidence: Tensor) -> Tensor:
        """L_aux-ce with its weight; exactly 0 when every anchor is confident."""
        hard = log_p.masked_fill(confidence > self.filter_confidence, 0.0)
        weights = hard / (hard.sum() + 1e-9)
        return (weights * log_p).sum() * -self.aux_weight

    def _processes(self) -> int:
        """The number of processes whose batches are one batch."""
        distributed = self.training and dist.is_available() and dist.is_initialized()
        return dist.get_world_size() if distributed else 1

    def _agree(
        self, counts: Tensor | None, gate: Tensor, world: int
    ) -> tuple[Tensor | None, Tensor]:
        """Counts of pixels and gate of all processes."""
        if world == 1 or counts is None:
            return counts, gate
        both = torch.cat([counts.reshape(-1), gate.to(counts.dtype).reshape(1)])
        dist.all_reduce(both)
        return both[:-1].reshape(counts.shape), both[-1] == world

    def _follow(self, embedded: Tensor, gate: Tensor) -> tuple[Tensor, Tensor]:
        """Let the semantic anchors follow the embedded ones (K, C) where the gate is open.

        Returns the semantic anchors, a tensor of its own that later updates leave alone (backward
        still reads it), and whether the pull acts on them.
        """
        if not (self.training and self.follows):
            return self.semantic_anchors.clone(), gate & self.initialized
        moved = self.momentum * self.semantic_anchors + (1 - self.momentum) * embedded
        candidate = torch.where(self.initialized, moved, embedded)
        semantic_anchors = torch.where(gate, candidate, self.semantic_anchors)
        self.semantic_anchors.copy_(semantic_anchors)
        self.initialized.logical_or_(gate)
        return semantic_anchors, gate

    def _check_inputs(self, features: Tensor, labels: Tensor) -> None:
        if features.ndim != 4 or features.shape[1] != self.channels:
            raise ValueError(
                f"features of shape {tuple(features.shape)}, expected (N, {self.channels}, h, w) "
                f"or (N, {self.channels})"
            )
        if features.dtype not in FEATURE_TYPES:
            known = ", ".join(map(str, FEATURE_TYPES))
            raise ValueError(f"features of type {features.dtype}, expected floating point: {known}")
        if labels.ndim != 3 or labels.shape[0] != features.shape[0]:
            raise ValueError(
                f"labels of shape {tuple(labels.shape)}, expected (N, H, W) with the features' "
                f"batch size N={features.shape[0]}"
            )
        if features.numel() and not labels.numel():
            raise ValueError(
                f"labels of shape {tuple(labels.shape)} have no pixel, and the features have the "
                f"shape {tuple(features.shape)}"
            )
        if labels.is_floating_point() or labels.is_complex() or labels.dtype == torch.bool:
            raise ValueError(f"labels of type {labels.dtype}, expected integers")
        if labels.device.type == "cpu":
            self._check_range(labels)

    def _check_range(self, labels: Tensor) -> None:
        # Of int64: an ignore_index of -1 must not wrap round to 255 in uint8.
        labels = labels.long()
        known = (labels >= 0) & (labels < self.num_classes)
        if self.ignore_index is not None:
            known |= labels == self.ignore_index
        if not known.all():
            found = torch.unique(labels[~known]).tolist()
            raise ValueError(
                f"labels hold {found[:8]}, expected 0..{self.num_classes - 1}"
                + ("" if self.ignore_index is None else f" or ignore_index={self.ignore_index}")
            )


def _as_maps(
    features: Tensor, labels: Tensor, classifier: Callable[[Tensor], Tensor]
) -> tuple[Tensor, Tensor, Callable[[Tensor], Tensor]]:
    """Features (N, C), labels (N,) and a classifier of such as those of maps of one pixel."""
    if labels.ndim != 1 or len(labels) != len(features):
        raise ValueError(
            f"labels of shape {tuple(labels.shape)}, expected ({len(features)},) with features of "
            f"shape {tuple(features.shape)}"
        )

    def classify(embedded: Tensor) -> Tensor:
        scores = classifier(embedded.flatten(1))
        # Another shape is left to the check of all scores.
        return scores[:, :, None, None] if scores.ndim == 2 else scores

    return features[:, :, None, None], labels[:, None, None], classify
