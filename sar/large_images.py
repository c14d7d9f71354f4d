"""How many pixels an image may have, in place of Pillow's limit, which no argument could raise."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

MAX_PIXELS = 178_956_970
"""Where Pillow stops by itself: more may be a file that is made to fill the memory. Whoever lifts
Pillow's limit to read a stranger's file holds this one, or the one that was asked for."""


@contextmanager
def any_size() -> Iterator[None]:
    """Without Pillow's limit, which is there again afterwards."""
    from PIL import Image

    before, Image.MAX_IMAGE_PIXELS = Image.MAX_IMAGE_PIXELS, None
    try:
        yield
    finally:
        Image.MAX_IMAGE_PIXELS = before


def allow_large_images() -> None:
    """Lift Pillow's limit for all of this process and those that it forks.

    For prepared images: they are this project's own, and prepare has held the limit of the data
    card (`source.max_pixels`).
    """
    from PIL import Image

    Image.MAX_IMAGE_PIXELS = None
