"""What a data card says of how raw labels name their classes."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Annotated, Literal

from pydantic import Field, model_validator

from pipelines.study.strict import Colour, Strict

CLASS = "{class}"
"""In the pattern of labels, what a class is called there."""

NAMED = ("coco", "labelme", "class_masks")
"""Encodings in which classes have names, and pixels may have none or several."""

ClassId = Annotated[int, Field(ge=0, le=254)]
RawId = Annotated[int, Field(ge=0, lt=2**16)]


class Labels(Strict):
    """How the pixels of a raw label name their class."""

    encoding: Literal[
        "index", "colour", "matrix", "array", "coco", "labelme", "class_masks", "pascal_context"
    ] = "index"
    """`index`: the value of a grey or indexed image (8 or 16 bit); `colour`: the palette's colour;
    `matrix`: the number in a matrix of a MATLAB file (.mat, of any version before 7.3); `array`:
    that in an array (H, W) of a NumPy file (.npy); `coco`: polygons and run-length codes of a COCO
    file; `labelme`: the shapes of a LabelMe file an image; `class_masks`: a black and white image
    for each class; `pascal_context`: masks of the Pascal-Context JSON or of its .mat archive."""
    key: Annotated[str, Field(pattern=r"^[A-Za-z]\w*(\.[A-Za-z]\w*)*$")] | None = None
    """Of `matrix`, the variable's name; `GTcls.Segmentation` is a field of a structure."""
    reduce_zero: bool = False
    """Raw 0 is void and raw k is class k-1."""
    mapping: dict[RawId, ClassId] | None = None
    """Class ids by raw id; a raw id that it lacks is void only if `ignore` or `others` say so."""
    ignore: list[RawId] = []
    """Raw ids that are void."""
    ignore_colours: list[Colour] = []
    """Colours that are void."""
    palette: Literal["check", "ignore"] = "check"
    """Of `index`, whether an indexed image is refused whose own palette has the colours of the
    classes, or their ids as grey, in another order; `ignore` takes the indices at their word."""
    names: dict[str, str | None] = {}
    """Of `coco`, `labelme` and `class_masks`: the class (null: void) of what the files call
    otherwise than the card."""
    background: str | None = None
    """Of the same: the class of pixels that nothing covers; without it they are void."""
    overlap: Literal["error", "last", "ignore"] = "error"
    """Of the same: what a pixel is that two classes cover. `last` is the one that comes later in
    the file (of `class_masks`, in `classes`), `ignore` makes it void."""
    others: Literal["error", "ignore"] = "error"
    """What to do with raw ids, colours and names that nothing above speaks of."""

    def class_names(self) -> Iterator[tuple[str, str]]:
        """Keys whose values have to be classes, and these."""
        for raw, name in self.names.items():
            if name is not None:
                yield f"names.{raw}", name
        if self.background is not None:
            yield "background", self.background

    @model_validator(mode="after")
    def _options_fit_the_encoding(self) -> Labels:
        if (self.key is None) == (self.encoding == "matrix"):
            raise ValueError("key goes with encoding: matrix, and names the matrix of each file")
        if self.ignore_colours and self.encoding != "colour":
            raise ValueError("ignore_colours goes with encoding: colour")
        if self.palette != "check" and self.encoding != "index":
            raise ValueError("palette goes with encoding: index")
        numbers = self.reduce_zero or self.mapping or self.ignore
        if self.encoding == "colour" and numbers:
            raise ValueError("encoding colour reads classes from palette; expected no raw ids")
        if self.encoding in NAMED and numbers:
            raise ValueError(f"encoding {self.encoding} has names; expected no raw ids but names")
        if self.encoding not in NAMED and (
            self.names or self.background is not None or self.overlap != "error"
        ):
            raise ValueError(f"names, background and overlap go with {', '.join(NAMED)}")
        both = sorted(set(self.ignore) & set(self.mapping or {}))
        if both:
            raise ValueError(f"raw id {both[0]} stands in ignore and in mapping; expected one")
        if self.reduce_zero and self.mapping is not None:
            raise ValueError("reduce_zero and mapping contradict each other; expected one of them")
        return self
