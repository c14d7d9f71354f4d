"""Seesaw loss: rare classes get less of the push that other classes' pixels give them.

Wang et al., "Seesaw Loss for Long-Tailed Instance Segmentation", CVPR 2021, arXiv 2008.10032,
eq. 3 to 6, with the constants of mmdet 3.3.0.
"""

from __future__ import annotations

import torch
from torch import Tensor

from sar.checks import check_number
from sar.door import Config, attach
from sar.pull import count_classes
from sar.rivals.class_means import sum_over_processes
from sar.rivals.cross_entropy import AdjustedCrossEntropy

__all__ = ["SeesawLoss", "apply_seesaw"]


class SeesawLoss(AdjustedCrossEntropy):
    """CE(z + (1 - onehot) log(M C)): class j of a pixel of class y is scaled by

        M_yj = min(1, n_j / n_y)^p          (mitigation; n counts labelled pixels so far, >= 1)
        C_j  = max(1, p_j / max(p_y, eps))^q  (compensation; p = softmax(z), detached)

    The counts are those of all processes, and hold the batch before it is used. In eval mode they
    stay.

    Args:
        num_classes: K.
        p: exponent of the mitigation; 0 leaves it out.
        q: exponent of the compensation; 0 leaves it out.
        eps: least probability of the pixel's class in the compensation.
        ignore_index: label of void; None for none.

    Attributes:
        counts: buffer (K,) float64, n.

    Raises:
        ValueError: for an argument out of range, naming it.
    """

    counts: Tensor

    def __init__(
        self,
        num_classes: int,
        *,
        p: float = 0.8,
        q: float = 2.0,
        eps: float = 0.01,
        ignore_index: int | None = 255,
    ) -> None:
        super().__init__(ignore_index)
        self.check_options(p=p, q=q, eps=eps)
        self.p, self.q, self.eps = p, q, eps
        self.register_buffer("counts", torch.zeros(num_classes, dtype=torch.float64))

    @staticmethod
    def check_options(*, p: float = 0.8, q: float = 2.0, eps: float = 0.01) -> None:
        check_number("p", p)
        check_number("q", q)
        check_number("eps", eps, "(0, 1]")

    def _adjust(self, logits: Tensor, labels: Tensor) -> tuple[Tensor, None]:
        if self.training:
            seen = count_classes(labels, len(self.counts), self.ignore_index)
            self.counts += sum_over_processes(seen)
        scores = logits.float() if logits.dtype != torch.float64 else logits
        _, labels = self.known(labels)
        own = labels.unsqueeze(1)
        counts = self.counts.clamp(min=1).log().to(scores.dtype)
        # log M and log C: what min(1, .) and max(1, .) are to a ratio is clamping its logarithm.
        table = self.p * (counts[None, :] - counts[:, None]).clamp(max=0)
        mitigation = table[labels].movedim(-1, 1)
        log_p = scores.detach().log_softmax(dim=1)
        floor = torch.tensor(self.eps, dtype=scores.dtype, device=scores.device).log()
        compensation = self.q * (log_p - log_p.gather(1, own).clamp(min=floor)).clamp(min=0)
        return scores + (mitigation + compensation).scatter(1, own, 0), None


def apply_seesaw(
    model_cfg: Config,
    *,
    p: float = 0.8,
    q: float = 2.0,
    eps: float = 0.01,
    seed: int | None = None,
) -> Config:
    """Train a model's last decode head with the seesaw loss; see `sar.door.attach`."""
    return attach(model_cfg, SeesawLoss, p=p, q=q, eps=eps, seed=seed)
