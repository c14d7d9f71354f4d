"""What prepare prints of the data it wrote: counts, rare classes, imbalance."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any, get_args

from pipelines.study.digits import Split

_FEW_IMAGES = 10
"""A class in fewer training images is called rare."""
_SHOWN = 8


def summary(info: Mapping[str, Any]) -> Iterator[str]:
    """Lines on a data set.

    Args:
        info: contents of its info.json.
    """
    every = info["counts"]
    counts = ", ".join(f"{split} {every[split]}" for split in get_args(Split) if split in every)
    yield f"images: {counts}; classes: {len(info['classes'])}"
    share = {name: value for name, value in info["pixel_share"].items() if value}
    if not share:
        return
    ordered = sorted(share, key=lambda name: -share[name])
    most, least = ordered[0], ordered[-1]
    yield (
        f"imbalance: {most} has {100 * share[most]:.3g} % of train's labelled pixels, {least} "
        f"{100 * share[least]:.2g} %: {_rounded(share[most] / share[least])} to 1"
    )
    images = info.get("image_count", {})
    rare = sorted((n for n in ordered if images.get(n, _FEW_IMAGES) < _FEW_IMAGES), key=images.get)
    if rare:
        shown = ", ".join(f"{name} ({images[name]})" for name in rare[:_SHOWN])
        more = f" and {len(rare) - _SHOWN} more" if len(rare) > _SHOWN else ""
        yield f"in fewer than {_FEW_IMAGES} training images: {shown}{more}"
    if len(share) > 3:
        tail = info["groups"]["tail"]
        held = 100 * sum(info["pixel_share"][name] for name in tail)
        which = f"the {len(tail)} tail classes together have"
        if len(tail) == 1:
            which = f"the tail class, {tail[0]}, has"
        yield f"{which} {held:.2g} % of the labelled pixels"


def _rounded(ratio: float) -> str:
    return f"{ratio:,.0f}" if ratio >= 100 else f"{ratio:.3g}"
