"""Names of classes in a file beside the data: classes.txt, class_dict.csv, label_list.mat, ..."""

from __future__ import annotations

import csv
import json
import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import scipy.io

from pipelines.prepare.faults import Unusable
from pipelines.prepare.lists import read_text

_NAME = re.compile(
    r"(class(es)?|labels?|names|categor(y|ies)|obj|codes|colou?rs?|palette|meta)", re.I
)
_SUFFIXES = {".txt", ".json", ".csv", ".tsv", ".names", ".mat"}
_BYTES = 1_000_000
_MOST_FILES = 5
_VOID = re.compile(r"_*(void|ignored?|unlabell?ed|unknown|undefined|don'?t ?care)_*", re.I)
_KEYS = ("classes", "categories", "labels", "names", "class_names")
_CALLED = ("name", "title", "label", "class")
_NUMBERED = ("id", "idx", "index", "train_id", "value", "pixel value")
_COLOURED = ("color", "colour", "rgb")

VOC = (
    *("background", "aeroplane", "bicycle", "bird", "boat", "bottle", "bus", "car", "cat"),
    *("chair", "cow", "diningtable", "dog", "horse", "motorbike", "person", "pottedplant"),
    *("sheep", "sofa", "train", "tvmonitor"),
)
"""PASCAL VOC's classes by their ids; 255 is the void border."""


@dataclass
class Known:
    """What a file says of classes: names in its order, and those by raw id or colour."""

    source: str = ""
    names: list[str] = field(default_factory=list)
    of_id: dict[int, str] = field(default_factory=dict)
    of_colour: dict[int, str] = field(default_factory=dict)
    """By red << 16 | green << 8 | blue."""

    def of_ids(self, ids: Sequence[int]) -> dict[int, str]:
        """The names of raw ids, by the file's own ids or else by their order from 0 or from 1.

        Empty where neither fits.
        """
        if self.of_id:
            return self.of_id
        if not ids or not self.names:
            return {}
        if ids == [0, 255] and len(self.names) in (1, 2):
            both = self.names if len(self.names) == 2 else ["background", self.names[0]]
            return dict(zip(ids, both, strict=True))
        few = [each for each in ids if each != 255]
        if max(few) < len(self.names):
            return dict(enumerate(self.names))
        if max(few) == len(self.names):
            return {0: "background"} | dict(enumerate(self.names, start=1))
        return {}


def is_void(name: str) -> bool:
    return _VOID.fullmatch(name.strip()) is not None


def find_names(folders: Iterable[Path]) -> tuple[Known, list[str]]:
    """The first file in these folders that names classes, and lines on others that do not."""
    told: list[str] = []
    for folder in folders:
        called = [
            path
            for path in sorted(folder.iterdir())
            if path.suffix.lower() in _SUFFIXES and _NAME.search(path.stem) and path.is_file()
        ]
        # More are labels of images, a file each.
        for path in called if len(called) <= _MOST_FILES else ():
            if path.stat().st_size > _BYTES:
                continue
            try:
                return read_names(path), told
            except Unusable as reason:
                told.append(f"{path} {reason}; names were not taken from it")
    return Known(), told


def read_names(path: Path) -> Known:
    """The names in a text, CSV, JSON or MATLAB file.

    Raises:
        Unusable: when it names no classes in any way that is known.
    """
    rows: list[_Row]
    if path.suffix.lower() == ".json":
        try:
            rows = list(_of_json(json.loads(read_text(path))))
        except (ValueError, RecursionError) as error:
            raise Unusable(f"is not JSON ({error})") from error
    elif path.suffix.lower() == ".mat":
        rows = [(name, None, None) for name in _of_matlab(path)]
    else:
        rows = list(_of_lines(read_text(path).splitlines()))
    known = Known(path.name)
    for name, number, colour in rows:
        name = " ".join(name.split())
        if not name or not name.isprintable() or len(name) > 100 or name in known.names:
            raise Unusable(f"has the name {name!r} twice, or it is no name of a class")
        known.names.append(name)
        if number is not None:
            known.of_id[number] = name
        if colour is not None:
            known.of_colour[colour] = name
    if not known.names:
        raise Unusable("names no classes; expected a name a line, with its colour or its id if any")
    for found in (known.of_id, known.of_colour):
        if found and len(found) < len(known.names):
            raise Unusable("has an id or a colour twice, or of some names only")
    return known


_Row = tuple[str, int | None, int | None]


def _of_lines(lines: Iterable[str]) -> Iterable[_Row]:
    """Lines such as `tree`, `3 tree`, `64 128 64 tree`, `tree,64,128,64`, `tree:64,128,64::`."""
    kept = [line.strip() for line in lines if line.strip() and not line.lstrip().startswith("#")]
    if kept:
        comma = "\t" if "\t" in kept[0] else ","
        titles = [each.strip(' "').lower() for each in kept[0].split(comma)]
        coloured = re.search(r"\b(r|red)\b.*\b(b|blue)\b", kept[0], re.I)
        if coloured or (set(titles) & set(_CALLED) and set(titles) & set(_NUMBERED)):
            yield from _of_table(titles, csv.reader(kept[1:], delimiter=comma), bool(coloured))
            return
    for line in kept:
        words = [word for word in re.split(r"[\s,;:]+", line) if word]
        numbers = [int(word) for word in words if word.isdecimal()]
        name = line
        if len(numbers) >= 3 and len(words) > len(numbers):
            lead = words[0].isdecimal()
            if lead:
                name = re.sub(r"^(\d+[\s,;:]+){3}", "", line)
            else:
                name = re.sub(r"[\s,;:]+\d+[\s,;:]+\d+[\s,;:]+\d+[\s,;:]*.*$", "", line)
            chosen = numbers[:3]
            if max(chosen) > 255:
                raise Unusable(f"has the colour {chosen}; expected values up to 255")
            yield name, None, _code(chosen)
        elif len(numbers) == 1 and len(words) > 1 and words[0].isdecimal():
            yield re.sub(r"^\d+[\s,;:]+", "", line), numbers[0], None
        elif (
            len(numbers) == 1
            and len(words) > 1
            and words[-1].isdecimal()
            and ("," in line or ":" in line)
        ):
            yield re.sub(r"[\s,;:]+\d+$", "", line), numbers[0], None
        else:
            yield name, None, None


def _of_table(header: Sequence[str], rows: Iterable[Sequence[str]], coloured: bool) -> list[_Row]:
    """Of a table with red, green and blue in each row, or else with an id."""
    name = next((header.index(each) for each in _CALLED if each in header), 0)
    found: list[_Row] = []
    try:
        number = next((header.index(each) for each in _NUMBERED if each in header), None)
        bands = [
            next(i for i, word in enumerate(header) if word in (c, c[0]))
            for c in (("red", "green", "blue") if coloured else ())
        ]
        for row in rows:
            code = _code([int(row[band]) for band in bands]) if coloured else None
            own = int(row[number]) if number is not None and not coloured else None
            found.append((row[name], own, code))
    except (StopIteration, IndexError, ValueError, csv.Error) as error:
        raise Unusable(
            "is a table without a name and red, green and blue, or an id, in each row"
        ) from error
    return found


def _of_matlab(path: Path) -> list[str]:
    """The one list of names in a .mat file: a cell array of texts, or a matrix with a text a row.

    Cells are counted as they stand in the file, so the first is that of id 0 or of id 1.
    """
    try:
        content = scipy.io.loadmat(path, appendmat=False)
    except Exception as error:  # On broken files scipy raises anything, down to IndexError.
        raise Unusable(f"cannot be read: {error}") from error
    lists = {}
    for variable, value in content.items():
        if variable.startswith("__") or not isinstance(value, np.ndarray):
            continue
        if value.dtype == object:
            cells = [np.ravel(cell) for cell in value.ravel()]
            if cells and all(cell.dtype.kind == "U" for cell in cells):
                lists[variable] = ["".join(cell.tolist()) for cell in cells]
        elif value.dtype.kind == "U" and value.size > 1:
            lists[variable] = value.ravel().tolist()
    if len(lists) != 1:
        found = ", ".join(lists) or "none"
        raise Unusable(f"has the lists of names {found}; expected one, a cell array of texts")
    return next(iter(lists.values()))


def _of_json(value: Any) -> Iterable[_Row]:
    if isinstance(value, dict):
        inner = next((value[k] for k in _KEYS if isinstance(value.get(k), list | dict)), None)
        if inner is not None:
            yield from _of_json(inner)
            return
        for key, item in value.items():
            if isinstance(item, str) and key.isdecimal():
                yield item, int(key), None
            elif isinstance(item, int) and not isinstance(item, bool):
                yield key, item, None
            else:
                yield key, None, _colour(item)
    elif isinstance(value, list):
        for item in value:
            if isinstance(item, str):
                yield item, None, None
            elif isinstance(item, dict):
                name = next((item[k] for k in _CALLED if isinstance(item.get(k), str)), None)
                if name is None:
                    raise Unusable("has an entry without a name")
                number = next((item[k] for k in _NUMBERED if isinstance(item.get(k), int)), None)
                colour = next((item[k] for k in _COLOURED if item.get(k)), None)
                yield name, number, None if colour is None else _colour(colour)
            else:
                raise Unusable(f"has the entry {item!r}; expected a name")
    else:
        raise Unusable("is no list of names and no mapping")


def _colour(value: Any) -> int:
    """The code of [r, g, b] or #rrggbb."""
    if isinstance(value, str) and re.fullmatch(r"#[0-9a-fA-F]{6}", value):
        return int(value[1:], 16)
    whole = isinstance(value, list) and len(value) >= 3
    if whole and all(isinstance(band, int) and 0 <= band <= 255 for band in value[:3]):
        return _code(value)
    raise Unusable(f"has {value!r} where an id or a colour is expected")


def _code(colour: Sequence[int]) -> int:
    return colour[0] << 16 | colour[1] << 8 | colour[2]
