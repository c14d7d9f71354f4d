"""Which way up: what EXIF orientations of images and labels do, by one rule for a data set.

Tools that honour the tag draw masks on the turned image, others on the pixels as they are stored.
Where one of the two is of another size than the other, a pair tells which was the case; a half
turn, a mirrored or a square image does not. So those that tell decide for all.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

from PIL import Image

from pipelines.prepare.faults import Fault

Rule = Literal["turn", "ignore"]

_TURNS = {
    2: Image.Transpose.FLIP_LEFT_RIGHT,
    3: Image.Transpose.ROTATE_180,
    4: Image.Transpose.FLIP_TOP_BOTTOM,
    5: Image.Transpose.TRANSPOSE,
    6: Image.Transpose.ROTATE_270,
    7: Image.Transpose.TRANSVERSE,
    8: Image.Transpose.ROTATE_90,
}


@dataclass(frozen=True)
class Tagged:
    """A pair of which a file has an orientation, by which it may be turned."""

    image: str
    size: tuple[int, int]
    """(width, height) of the image as stored."""
    tag: int
    label: str
    label_size: tuple[int, int]
    label_tag: int

    @property
    def says(self) -> Rule | None:
        """The one rule by which image and label have one size, if only one gives that."""
        stored = self.size == self.label_size
        turned = _size(self.size, self.tag) == _size(self.label_size, self.label_tag)
        if stored == turned:
            return None
        return "ignore" if stored else "turn"

    @property
    def is_open(self) -> bool:
        """Whether both rules fit, and place image and label differently."""
        return self.says is None and self.size == self.label_size and self.tag != self.label_tag


def turned(picture: Image.Image, tag: int) -> Image.Image:
    """As the tag says."""
    return picture.transpose(_TURNS[tag]) if tag in _TURNS else picture


def rule_for(pairs: Sequence[Tagged]) -> tuple[Rule, list[Fault]]:
    """The rule for all pairs of a data set, from those whose sizes tell.

    Where there is none to tell and none that needs it, files are turned.
    """
    say: dict[Rule, Tagged] = {pair.says: pair for pair in reversed(pairs) if pair.says}
    if len(say) == 2:
        turn, ignore = say["turn"], say["ignore"]
        reason = (
            f"has an EXIF orientation and a label of its turned size, but the label of "
            f"{ignore.image} has the size that is stored; expected one of the two throughout: "
            "source.exif in the card is turn or ignore, and the other files have to be mended"
        )
        return "turn", [Fault(turn.image, reason, fatal=True)]
    still_open = [pair for pair in pairs if pair.is_open]
    if still_open and not say:
        reason = (
            f"has an EXIF orientation ({still_open[0].tag}) and its label another "
            f"({still_open[0].label_tag}), as {len(still_open)} pairs have, and no size tells "
            "whether labels were drawn on turned images; expected source.exif in the card: turn, "
            "or ignore if they were drawn on the pixels as stored"
        )
        return "turn", [Fault(still_open[0].image, reason, fatal=True)]
    return next(iter(say), "turn"), []


def _size(size: tuple[int, int], tag: int) -> tuple[int, int]:
    return (size[1], size[0]) if tag in (5, 6, 7, 8) else size
