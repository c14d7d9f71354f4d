"""Prepared images of any size: whether they are too large was settled when they were prepared."""

from __future__ import annotations


def allow_large_images() -> None:
    """Lift Pillow's own limit, for all of this process and those that it forks.

    It is there against files of strangers; prepared files are this project's own, and prepare has
    held the limit of the data card (`source.max_pixels`).
    """
    from PIL import Image

    Image.MAX_IMAGE_PIXELS = None
