"""Pre-defined class anchors: one fixed point per class, never trained.

Scale convention: every built-in kind has rows of norm sqrt(C), exactly (``orthonormal``,
``simplex``) or in expectation of the square (``gaussian``). The embedding therefore sees entries of
unit variance whichever kind is chosen, and kinds differ in direction only. Anchors given as numbers
are used as they are.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor

__all__ = ["check_anchors", "gaussian", "make_anchors", "orthonormal", "simplex"]


def gaussian(num_classes: int, channels: int, generator: torch.Generator | None = None) -> Tensor:
    """Independent standard normal entries, not normalised: the paper's anchors. Shape (K, C)."""
    return torch.randn(num_classes, channels, generator=generator)


def orthonormal(
    num_classes: int, channels: int, generator: torch.Generator | None = None
) -> Tensor:
    """Mutually orthogonal rows in a random orientation, scaled to norm sqrt(C). Shape (K, C).

    Raises:
        ValueError: if C < K; a C-dimensional space has no more than C orthogonal directions.
    """
    if channels < num_classes:
        raise ValueError(
            "anchors='orthonormal' needs channels >= num_classes, got "
            f"channels={channels}, num_classes={num_classes}"
        )
    return _random_frame(num_classes, channels, generator) * math.sqrt(channels)


def simplex(num_classes: int, channels: int, generator: torch.Generator | None = None) -> Tensor:
    """A simplex equiangular tight frame in a random orientation, scaled to norm sqrt(C). Shape (K,
    C).

    The K rows sum to zero and every two of them have cosine -1 / (K - 1), the widest separation
    that K directions can have.

    Raises:
        ValueError: if C < K - 1, the dimension of a simplex with K corners.
    """
    if channels < num_classes - 1:
        raise ValueError(
            "anchors='simplex' needs channels >= num_classes - 1, got "
            f"channels={channels}, num_classes={num_classes}"
        )
    centred = torch.eye(num_classes, dtype=torch.float64) - 1.0 / num_classes
    # The centred corners span K - 1 dimensions: write them in a basis of that span, then turn the
    # span at random.
    basis: Tensor = torch.linalg.svd(centred).Vh[: num_classes - 1]
    corners = centred @ basis.T
    corners /= corners.norm(dim=1, keepdim=True)
    frame = _random_frame(num_classes - 1, channels, generator).double()
    return (corners @ frame * math.sqrt(channels)).float()


_KINDS = {"gaussian": gaussian, "orthonormal": orthonormal, "simplex": simplex}


def make_anchors(
    kind_or_tensor: str | Tensor | Sequence[Sequence[float]],
    num_classes: int,
    channels: int,
    generator: torch.Generator | None = None,
) -> Tensor:
    """Make the anchors of ``num_classes`` classes with ``channels`` channels.

    Args:
        kind_or_tensor: ``"gaussian"``, ``"orthonormal"``, ``"simplex"``, or the anchors themselves
            as a tensor or nested list of shape (K, C).
        generator: source of the random draws; None takes torch's global one.

    Returns:
        float32 tensor (K, C) on the CPU, sharing no memory with the argument.

    Raises:
        ValueError: for an unknown kind, a kind that K and C do not allow, a wrong shape, or numbers
            that are complex or not finite in float32.
    """
    if isinstance(kind_or_tensor, str):
        if kind_or_tensor not in _KINDS:
            raise ValueError(
                f"anchors={kind_or_tensor!r}: expected one of {sorted(_KINDS)} or a "
                f"({num_classes}, {channels}) tensor"
            )
        return _KINDS[kind_or_tensor](num_classes, channels, generator)
    return _numbers(kind_or_tensor, (num_classes, channels))


def check_anchors(kind_or_tensor: str | Tensor | Sequence[Sequence[float]]) -> None:
    """Check what can be checked before K and C are known; `"learned"` is a kind, too.

    Raises:
        ValueError: as `make_anchors`.
    """
    if not isinstance(kind_or_tensor, str):
        _numbers(kind_or_tensor, None)
    elif kind_or_tensor not in (*_KINDS, "learned"):
        raise ValueError(
            f"anchors={kind_or_tensor!r}: expected one of {sorted([*_KINDS, 'learned'])} or a "
            "(K, C) tensor"
        )


def _numbers(values: Any, shape: tuple[int, int] | None) -> Tensor:
    """Given anchors as float32 (K, C), of any K and C where no shape is wanted."""
    expected = f"expected finite numbers of shape {shape or '(K, C)'}"
    try:
        given = torch.as_tensor(values).detach()
        if given.is_complex() or given.layout != torch.strided:
            raise TypeError(f"they are {given.dtype}, {given.layout}")
        anchors = given.to("cpu", torch.float32, copy=True)
    except (TypeError, ValueError, RuntimeError) as error:
        raise ValueError(
            f"anchors of type {type(values).__name__}: {expected} ({error})"
        ) from error
    if anchors.ndim != 2 or shape not in (None, tuple(anchors.shape)):
        raise ValueError(f"anchors of shape {tuple(anchors.shape)}: {expected}")
    if not torch.isfinite(anchors).all():
        row = int((~torch.isfinite(anchors)).any(dim=1).nonzero()[0])
        raise ValueError(f"anchors hold NaN or infinity (that of class {row}): {expected}")
    return anchors


def _random_frame(rows: int, columns: int, generator: torch.Generator | None) -> Tensor:
    """Orthonormal rows in a random orientation. Shape (rows, columns), rows <= columns."""
    draw = torch.randn(columns, rows, generator=generator, dtype=torch.float64)
    q, r = torch.linalg.qr(draw)
    # QR fixes the signs of q by its own convention; those of r's diagonal make the orientation
    # uniform.
    frame: Tensor = q * torch.sign(torch.diagonal(r))
    return frame.T.float()
