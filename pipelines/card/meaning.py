"""Which classes the values of labels are: `classes`, `palette` and `source.labels` of a card.

Whatever is guessed here is said in the card beside what was made of it.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from pipelines.base.errors import PipelineError
from pipelines.card.class_names import VOC, Known, is_void
from pipelines.card.look import Look
from pipelines.card.values import EDGES, as_colours, common_palette, seldom, without_edges
from sar.trained.palette import distinct_colours

_SMALL_ID = 64
_VOC_VOID = 0xE0E0C0
_SHOWN = 6


@dataclass
class Meaning:
    """The part of a card that says what labels mean."""

    classes: list[str]
    palette: list[list[int]]
    labels: dict[str, Any]
    """`source.labels`."""
    ids: dict[int, int]
    """Class id by raw id or colour; what it lacks is void."""
    notes: dict[str, list[str]] = field(default_factory=dict)
    """Lines that stand above a key of the card: `classes`, `palette`, `labels`."""
    raw: list[str] = field(default_factory=list)
    """What a label has for each class, to be shown beside its name."""
    coloured: bool = False
    """Whether `ids` are by colour."""

    def pixels(self, look: Look) -> np.ndarray:
        """Pixels (K,) int64 of each class in a label."""
        counts = np.zeros(len(self.classes), np.int64)
        own = as_colours(look) if self.coloured and not look.coloured else look.pixels
        for value, number in own.items():
            if value in self.ids:
                counts[self.ids[value]] += number
        return counts


def of_values(looks: Sequence[Look], known: Known, encoding: str, key: str = "") -> Meaning:
    """The classes of labels that hold numbers or colours.

    Args:
        known: names beside the data, if any.
        encoding: raster, array or matrix, as `look.Reader` has it.
        key: of a matrix.

    Raises:
        PipelineError: when the labels hold one value alone, or too many for classes.
    """
    palette = common_palette(looks)
    coloured = any(look.coloured for look in looks) or palette is None
    counts = Counter[int]()
    for look in looks:
        counts.update(as_colours(look) if coloured and not look.coloured else look.pixels)
    values, edges = without_edges(counts, looks, coloured)
    if coloured:
        meaning = _of_colours(values, edges, known)
    else:
        meaning = _of_ids(values, edges, known, palette or {})
    if encoding != "raster":
        meaning.labels = {"encoding": encoding} | meaning.labels
    if key:
        meaning.labels["key"] = key
    holds = np.stack([meaning.pixels(look) > 0 for look in looks])
    meaning.notes["classes"] += seldom(meaning.classes, holds, [look.label for look in looks])
    return meaning


def of_names(looks: Sequence[Look], names: Sequence[str], labels: dict[str, Any]) -> Meaning:
    """The classes of labels with names, which were drawn with `names` as their classes: those that
    have a pixel.

    Args:
        labels: `source.labels`; its `background` is dropped where nothing is left uncovered.

    Raises:
        PipelineError: when fewer than two have one.
    """
    counts = Counter[int]()
    for look in looks:
        counts.update(look.pixels)
    held = [index for index in range(len(names)) if counts[index]]
    absent = [name for index, name in enumerate(names) if not counts[index]]
    _two(len(held), "labels", [names[index] for index in held])
    raw = {clean: each for each, clean in labels.get("names", {}).items() if clean is not None}
    background = labels.get("background")
    if background in absent:
        labels = {key: value for key, value in labels.items() if key != "background"}
    # Shapes may have such a name, without an area or below others.
    gone = {raw.get(name, name): None for name in absent if name != background}
    if gone and labels["encoding"] != "class_masks":
        labels = labels | {"names": labels.get("names", {}) | gone}
    notes = [f"named in the files, without a pixel: {', '.join(gone)}"] if gone else []
    return Meaning(
        classes=[names[index] for index in held],
        palette=[list(colour) for colour in distinct_colours(len(held))],
        labels=labels,
        ids={index: place for place, index in enumerate(held)},
        notes={"classes": notes},
    )


def _of_ids(values: list[int], edges: int, known: Known, palette: Mapping[int, int]) -> Meaning:
    voc = _is_voc(values, palette)
    names = dict(enumerate(VOC)) if voc else known.of_ids(values)
    for value in values:
        if value not in names and palette.get(value) in known.of_colour:
            names = names | {value: known.of_colour[palette[value]]}
    void = [value for value in values if value in names and is_void(names[value])]
    guessed = _void_ids(values, names)
    void = sorted({*void, *guessed})
    held = [value for value in values if value not in void]
    _two(len(held), "labels", values)
    notes: list[str] = []
    if held == [0, 255]:
        notes.append("masks are 0 and 255: two classes, 0 and 1 after this mapping")
    if guessed:
        notes.append(
            f"{', '.join(map(str, guessed))} is taken for void, which neither trains nor counts; "
            "if it is a class, move it into mapping and add a name and a colour"
        )
    if voc:
        notes.append("the pictures have PASCAL VOC's palette: its names, 255 is the void border")
    labels: dict[str, Any] = {}
    if held != list(range(len(held))):
        labels["mapping"] = {value: index for index, value in enumerate(held)}
    if void:
        labels["ignore"] = void
    if edges:
        labels["others"] = "ignore"
        notes.append(_edges_note(edges))
    classes, told = _named(held, names, known, "id", _binary(held))
    if not void and len(held) > 2 and not names:
        notes.append(
            "all ids are classes; one that is void goes out of classes, palette and mapping, into "
            "ignore: [ID]"
        )
    colours = [palette[value] for value in held if value in palette]
    own = len(set(colours)) == len(held) and not all(_is_grey(code) for code in colours)
    notes_of = {"labels": notes, "classes": [] if voc else told}
    given = {name: code for code, name in known.of_colour.items()}
    if own:
        notes_of["palette"] = ["the colours of the pictures' own palettes"]
    elif all(name in given for name in classes):
        own, colours = True, [given[name] for name in classes]
        notes_of["palette"] = [f"colours from {known.source}"]
    invented = [list(colour) for colour in distinct_colours(len(held))]
    return Meaning(
        classes=classes,
        palette=[_colour(code) for code in colours] if own else invented,
        labels=labels,
        ids={value: index for index, value in enumerate(held)},
        notes=notes_of,
        raw=[str(value) for value in held],
    )


def _of_colours(values: list[int], edges: int, known: Known) -> Meaning:
    names = known.of_colour
    void = [value for value in values if value in names and is_void(names[value])]
    if _VOC_VOID in values and _VOC_VOID not in names and 0 in values:
        void.append(_VOC_VOID)
    held = [value for value in values if value not in void]
    places = {name: place for place, name in enumerate(known.names)}
    held.sort(key=lambda value: places.get(names.get(value, ""), len(places)))
    _two(len(held), "labels", [str(_colour(value)) for value in values])
    labels: dict[str, Any] = {"encoding": "colour"}
    notes = []
    if void:
        labels["ignore_colours"] = [_colour(value) for value in void]
    if 0 in held and 0 not in names:
        notes.append(
            "black is taken for a class; if it is void, take its name and colour away and write "
            f"ignore_colours: {[*labels.get('ignore_colours', []), [0, 0, 0]]}"
        )
    if edges:
        labels["others"] = "ignore"
        notes.append(_edges_note(edges))
    classes, told = _named(held, names, known, "colour", _binary(held))
    return Meaning(
        classes=classes,
        palette=[_colour(value) for value in held],
        labels=labels,
        ids={value: index for index, value in enumerate(held)},
        notes={"labels": notes, "classes": told, "palette": ["the colours of the masks"]},
        raw=[str(_colour(value)) for value in held],
        coloured=True,
    )


def _named(
    held: Sequence[int], names: Mapping[int, str], known: Known, kind: str, binary: bool
) -> tuple[list[str], list[str]]:
    """A name for each value, and what has to be said of them."""
    classes = []
    invented = 0
    for value in held:
        if value in names and names[value] not in classes:
            classes.append(names[value])
            continue
        invented += 1
        if binary:
            name = "foreground" if value else "background"
        elif value == 0 and (kind == "colour" or names):
            name = "background"
        elif kind == "id":
            name = f"class {value}"
        else:
            name = "colour {}-{}-{}".format(*_colour(value))
        while name in classes:
            name += " again"
        classes.append(name)
    told = []
    if invented < len(held):
        told.append(f"names from {known.source}" if known.source else "")
    if invented:
        which = "all of these" if invented == len(held) else f"of these {invented}"
        told.append(
            f"invented names, {which}: write yours in their places (before a study trains, since "
            "prepare has to run again)"
        )
    absent = [name for value, name in names.items() if value not in held and not is_void(name)]
    if absent and known.source:
        told.append(f"without a pixel in any mask, so no classes: {', '.join(absent)}")
    return classes, [line for line in told if line]


def _void_ids(values: Sequence[int], names: Mapping[int, str]) -> list[int]:
    """255 (or 65535) beside small ids, unless it has a name."""
    for top in (255, 65535):
        others = [value for value in values if value != top]
        if top in values and top not in names and len(others) >= 2:
            small = max(others) < _SMALL_ID or max(others) <= 2 * len(others)
            return [top] if small else []
    return []


def _edges_note(edges: int) -> str:
    return (
        f"{edges} other values with at most {EDGES:.0%} of all pixels look like blurred edges "
        "(masks that were scaled or smoothed): they are void"
    )


def _two(count: int, what: str, values: Sequence[object]) -> None:
    if count < 2:
        shown = ", ".join(map(str, values[:_SHOWN])) or "nothing"
        raise PipelineError(
            f"all {what} hold {shown}, so {count} class: expected two classes or more. Pixels of "
            "no class may be one of their own, called background"
        )


def _is_voc(values: Sequence[int], palette: Mapping[int, int]) -> bool:
    """Whether indices up to 20 (and 255) have PASCAL VOC's colours."""
    inside = [value for value in values if value != 255]
    return (
        len(inside) > 2
        and max(inside) < len(VOC)
        and all(palette.get(value) == _voc_colour(value) for value in inside)
    )


def _voc_colour(index: int) -> int:
    """By the rule of VOC's development kit: bits of the index, taken in turn from the top."""
    bands = [0, 0, 0]
    for shift in range(8):
        for band in range(3):
            bands[band] |= (index >> band & 1) << (7 - shift)
        index >>= 3
    return bands[0] << 16 | bands[1] << 8 | bands[2]


def _binary(held: Sequence[int]) -> bool:
    return len(held) == 2 and held[0] == 0


def _is_grey(code: int) -> bool:
    red, green, blue = _colour(code)
    return red == green == blue


def _colour(code: int) -> list[int]:
    return [code >> 16, code >> 8 & 255, code & 255]
