"""Draw a prediction over its image, with a legend of the classes in it below."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from PIL import Image, ImageDraw, ImageFont

_LEAST_WIDTH = 400
"""Pixels; a smaller picture is enlarged by a whole factor, so that its legend can be read."""

_TEXT, _FAINT, _PAPER, _EDGE = (32, 32, 32), (96, 96, 96), (255, 255, 255), (120, 120, 120)


def overlay(
    image: Image.Image,
    ids: np.ndarray,
    classes: Sequence[str],
    palette: Sequence[Sequence[int]],
    opacity: float = 0.6,
) -> Image.Image:
    """The image in the colours of its classes, each outlined, above a legend.

    Args:
        image: RGB, of width W and height H.
        ids: class ids (H, W).
        palette: (r, g, b) by class.
        opacity: of the colours: 0 shows the image alone, 1 the classes alone.

    Raises:
        ValueError: when image and prediction differ in size.
    """
    if image.size != ids.shape[::-1]:
        raise ValueError(f"the image is {image.size}, the prediction {ids.shape[::-1]}")
    factor = max(1, -(-_LEAST_WIDTH // image.width))
    size = (image.width * factor, image.height * factor)
    picture = image.convert("RGB").resize(size, Image.Resampling.BICUBIC)
    ids = ids.repeat(factor, 0).repeat(factor, 1)
    if opacity:
        colours = np.zeros((256, 3), np.uint8)
        colours[: len(palette)] = palette
        # In grey, the image keeps its shapes and takes nothing from the hues of the classes.
        grey = picture.convert("L").convert("RGB")
        mixed = np.array(Image.blend(grey, Image.fromarray(colours[ids]), opacity))
        edge = _edges(ids, max(1, size[0] // 800))
        mixed[edge] = colours[ids[edge]]
        picture = Image.fromarray(mixed)
    return _with_legend(picture, ids, classes, palette)


def _edges(ids: np.ndarray, width: int) -> np.ndarray:
    """Where a pixel has one of another class up to ``width`` pixels up, down, left or right."""
    edge = np.zeros(ids.shape, bool)
    for step in range(1, width + 1):
        down, right = ids[step:] != ids[:-step], ids[:, step:] != ids[:, :-step]
        edge[step:] |= down
        edge[:-step] |= down
        edge[:, step:] |= right
        edge[:, :-step] |= right
    return edge


def _with_legend(
    picture: Image.Image,
    ids: np.ndarray,
    classes: Sequence[str],
    palette: Sequence[Sequence[int]],
) -> Image.Image:
    """The picture above the names, colours and shares of the classes in it, largest first."""
    counts = np.bincount(ids.ravel(), minlength=len(classes))
    present = [int(index) for index in np.argsort(-counts, kind="stable") if counts[index]]
    size = min(max(14, picture.width // 70), 40)
    font = ImageFont.load_default(size)
    gap, box = size // 2, size
    shares = [_percent(counts[index] / ids.size) for index in present]
    share_width = gap + max(round(font.getlength(share)) for share in shares)
    room = picture.width - 3 * gap - box - share_width
    names = [_fitted(classes[index].strip(), font, room) for index in present]
    cell = box + gap + max(round(font.getlength(name)) for name in names) + share_width + 2 * gap
    columns = max(1, min(len(names), (picture.width - gap) // cell))
    rows = -(-len(names) // columns)
    line = round(1.5 * size)
    page = Image.new("RGB", (picture.width, picture.height + rows * line + gap), _PAPER)
    page.paste(picture, (0, 0))
    draw = ImageDraw.Draw(page)
    for place, (index, name, share) in enumerate(zip(present, names, shares, strict=True)):
        # Down the columns, so that the largest classes stand below one another.
        column, row = divmod(place, rows)
        left, top = gap + column * cell, picture.height + gap + row * line
        colour = tuple(int(value) for value in palette[index])
        draw.rectangle(
            (left, top, left + box, top + box), fill=colour, outline=_EDGE, width=max(1, size // 14)
        )
        left, middle = left + box + gap, top + box / 2
        draw.text((left, middle), name, _TEXT, font, anchor="lm")
        left += round(font.getlength(name)) + gap
        draw.text((left, middle), share, _FAINT, font, anchor="lm")
    return page


def _fitted(name: str, font: ImageFont.FreeTypeFont | ImageFont.ImageFont, room: float) -> str:
    """The name, cut where it is too long for the room."""
    if font.getlength(name) <= room:
        return name
    while name and font.getlength(f"{name}…") > room:
        name = name[:-1]
    return f"{name}…"


def _percent(share: float) -> str:
    return f"{100 * share:.0f} %" if share >= 0.0095 else "<1 %"
