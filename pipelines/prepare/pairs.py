"""Which raw files are the images of a split, and which label belongs to each.

Images are named by their stem. Where two images of a split share one, all of that split are named
by their paths below what `images` has before its first `*`, with `__` for each slash.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Collection, Iterator
from dataclasses import dataclass, replace
from fnmatch import fnmatchcase
from pathlib import Path, PurePosixPath

from pipelines.prepare import pascal_context
from pipelines.prepare.faults import Fault
from pipelines.prepare.pascal_context import Annotations, Masks
from pipelines.study.cards import FilesSource, Pairs
from pipelines.study.digits import Split

SUFFIXES = {".png", ".jpg", ".jpeg", ".bmp", ".tif", ".tiff", ".webp"}
"""What counts as an image in a folder; its other files are left alone."""

Key = tuple[str, ...]
"""What the `*` of a path stand for, or a file's stem: equal for an image and its label."""


@dataclass(frozen=True)
class Pair:
    """An image and its label, as paths below `files/`."""

    stem: str
    image: str
    label: str | Masks


def find_all(files: Path, source: FilesSource) -> dict[Split, tuple[list[Pair], list[Fault]]]:
    """What `find_pairs` finds for each split, in the form in which Pascal-Context is there, too."""
    encoding = source.labels.encoding
    if encoding != "pascal_context" or not (files / pascal_context.JSON).is_file():
        suffixes = {".mat"} if encoding in ("pascal_context", "matrix") else SUFFIXES
        return {
            split: find_pairs(files, split, spec, suffixes) for split, spec in source.splits.items()
        }
    annotations = pascal_context.read_annotations(files / pascal_context.JSON)
    return {
        split: _annotated(annotations, files, split, spec) for split, spec in source.splits.items()
    }


def _annotated(
    annotations: Annotations, files: Path, split: str, spec: Pairs
) -> tuple[list[Pair], list[Fault]]:
    """The pairs that the JSON file of Pascal-Context puts into `split`, whatever `list` says."""
    pairs, faults = [], []
    for name in sorted(annotations.images.get(split, [])):
        image = f"{spec.images.rstrip('/')}/{name}"
        if (files / image).is_file():
            pairs.append(Pair(PurePosixPath(name).stem, image, annotations.masks[name]))
        else:
            faults.append(Fault(image, f"is not there, but {pascal_context.JSON} names it"))
    if not pairs and not faults:
        faults = [Fault(pascal_context.JSON, f"has no image of split {split}", fatal=True)]
    return pairs, faults


def find_pairs(
    files: Path, split: str, spec: Pairs, label_suffixes: Collection[str] = SUFFIXES
) -> tuple[list[Pair], list[Fault]]:
    """The pairs of `split` in order of their stems, and what is wrong with all others.

    Args:
        files: the folder of the raw files.
        label_suffixes: what counts as a label in a folder.
    """
    labels = matches(files, spec.labels, label_suffixes)
    images = matches(files, spec.images)
    if spec.images != spec.labels:
        # Where both lie in one folder, what is a label may look like an image.
        images = {image: key for image, key in images.items() if image not in labels}
    faults = [
        Fault(path, f"no such files; source.splits.{split}.{key} expects some", fatal=True)
        for key, path, found in (("images", spec.images, images), ("labels", spec.labels, labels))
        if not found
    ]
    if faults:
        return [], faults
    if spec.list is None:
        pairs, faults = _all(spec, images, labels)
    else:
        pairs, faults = _listed(files, split, spec, spec.list, images, labels)
    if not pairs and not faults:
        faults = [Fault(spec.list or spec.images, f"gives split {split} no image", fatal=True)]
    pairs, idle = _without(split, spec, pairs)
    faults += idle
    pairs, clashes = _named(spec.images, pairs)
    return pairs, faults + clashes


def _without(split: str, spec: Pairs, pairs: list[Pair]) -> tuple[list[Pair], list[Fault]]:
    """The pairs that no pattern of `without` leaves out, and the patterns that leave out none."""
    out = {
        pattern: [pair for pair in pairs if fnmatchcase(PurePosixPath(pair.image).stem, pattern)]
        for pattern in spec.without or []
    }
    idle = [
        Fault(
            spec.images, f"source.splits.{split}.without: {pattern!r} leaves out none", fatal=True
        )
        for pattern, found in out.items()
        if not found
    ]
    gone = {pair.image for found in out.values() for pair in found}
    return [pair for pair in pairs if pair.image not in gone], idle


def matches(files: Path, pattern: str, suffixes: Collection[str] = SUFFIXES) -> dict[str, Key]:
    """The paths below `files` that a folder or a pattern stands for, in order, and their keys."""
    if "*" not in pattern:
        inside = (files / pattern).iterdir() if (files / pattern).is_dir() else []
        paths = [path for path in inside if path.suffix.lower() in suffixes]
    else:
        paths = list(files.glob(pattern))
    names = sorted(
        path.relative_to(files).as_posix()
        for path in paths
        if path.is_file() and not path.name.startswith(".")
    )
    if "*" not in pattern:
        return {name: (PurePosixPath(name).stem,) for name in names}
    plain = PurePosixPath(pattern).as_posix()
    expression = re.compile("([^/]*)".join(re.escape(part) for part in plain.split("*")))
    found = {name: expression.fullmatch(name) for name in names}
    return {name: match.groups() for name, match in found.items() if match}


def _all(
    spec: Pairs, images: dict[str, Key], labels: dict[str, Key]
) -> tuple[list[Pair], list[Fault]]:
    pairs, faults = [], []
    of_key = _by_key(labels)
    for image, key in images.items():
        found = of_key.get(key, [])
        if len(found) == 1:
            pairs.append(Pair(PurePosixPath(image).stem, image, found[0]))
        else:
            faults.append(_no_label(image, spec, key, found))
    keys = set(images.values())
    for label, key in labels.items():
        if key not in keys:
            reason = f"is a label without an image; expected {_expected(spec.images, key)}"
            faults.append(Fault(label, reason))
    return pairs, faults


def _listed(
    files: Path,
    split: str,
    spec: Pairs,
    name: str,
    images: dict[str, Key],
    labels: dict[str, Key],
) -> tuple[list[Pair], list[Fault]]:
    if not (files / name).is_file():
        reason = f"no such file; source.splits.{split}.list expects it"
        return [], [Fault(name, reason, fatal=True)]
    pairs, faults, seen = [], [], set()
    of_key = _by_key(labels)
    of_stem = _by_key({image: PurePosixPath(image).stem for image in images})
    for where, columns in _lines(files, spec, name):
        wrong = _wrong_line(split, columns)
        if wrong:
            faults.append(Fault(where, wrong, fatal=True))
            continue
        image, *label = columns
        if image not in images and not (files / image).is_file():
            named = of_stem.get(image, [])
            if len(named) > 1:
                reason = f"{image} may be {named[0]} or {named[1]}; expected a path below files/"
                faults.append(Fault(where, reason, fatal=True))
                continue
            if not named:
                faults.append(Fault(image, f"is not there, but {where} names it"))
                continue
            image = named[0]
        if image in seen:
            faults.append(Fault(where, f"{image} stands in this list twice", fatal=True))
            continue
        seen.add(image)
        if label and not (files / label[0]).is_file():
            faults.append(Fault(label[0], f"is not there, but {where} names it"))
            continue
        if not label:
            key = images.get(image)
            if key is None:
                reason = f"is not among {spec.images}, but {where} names it without its label"
                faults.append(Fault(image, reason, fatal=True))
                continue
            label = of_key.get(key, [])
            if len(label) != 1:
                faults.append(_no_label(image, spec, key, label))
                continue
        pairs.append(Pair(PurePosixPath(image).stem, image, label[0]))
    return pairs, faults


def _lines(files: Path, spec: Pairs, name: str) -> Iterator[tuple[str, list[str]]]:
    """Where each line of the list `name` stands, and its paths; one path may hold spaces."""
    text = (files / name).read_text(encoding="utf-8-sig")
    for number, line in enumerate(text.splitlines(), start=1):
        shortened = line.strip().removeprefix(spec.strip or "")
        columns = [word.removeprefix(spec.strip or "") for word in line.split()]
        if " " in shortened and (files / shortened).is_file():
            columns = [shortened]
        if columns:
            yield f"{name}, line {number}", columns


def _wrong_line(split: str, columns: list[str]) -> str | None:
    if len(columns) > 2:
        return f"has {len(columns)} columns; expected an image and at most its label"
    for column in columns:
        if PurePosixPath(column).is_absolute() or ".." in PurePosixPath(column).parts:
            return (
                f"{column} is not below files/; source.splits.{split}.strip takes away what "
                "the list's paths begin with"
            )
    return None


def _by_key(keys: dict[str, Key] | dict[str, str]) -> dict[Key | str, list[str]]:
    paths: dict[Key | str, list[str]] = {}
    for path, key in keys.items():
        paths.setdefault(key, []).append(path)
    return paths


def _no_label(image: str, spec: Pairs, key: Key, found: list[str]) -> Fault:
    if found:
        return Fault(image, f"has {len(found)} labels: {' and '.join(found)}; expected one")
    return Fault(image, f"is an image without a label; expected {_expected(spec.labels, key)}")


def _expected(pattern: str, key: Key) -> str:
    """The path that `pattern` has for `key`."""
    if "*" not in pattern:
        return f"{pattern.rstrip('/')}/{key[0]}.png"
    words = iter(key)
    return re.sub(r"\*", lambda _: next(words), pattern)


def _named(pattern: str, pairs: list[Pair]) -> tuple[list[Pair], list[Fault]]:
    """The pairs with distinct stems, in order of these, and those whose stems stay equal."""
    if len({pair.stem for pair in pairs}) < len(pairs):
        top = PurePosixPath(pattern.partition("*")[0] + "x").parent if "*" in pattern else pattern
        pairs = [replace(pair, stem=_long_name(pair.image, top)) for pair in pairs]
    counts, first, faults, kept = Counter(pair.stem for pair in pairs), {}, [], []
    for pair in sorted(pairs, key=lambda pair: (pair.stem, pair.image)):
        if counts[pair.stem] == 1 or pair.stem not in first:
            first[pair.stem] = pair.image
            kept.append(pair)
        else:
            reason = f"would be named {pair.stem}, like {first[pair.stem]}; expected other names"
            faults.append(Fault(pair.image, reason, fatal=True))
    return kept, faults


def _long_name(image: str, top: PurePosixPath | str) -> str:
    path = PurePosixPath(image)
    below = path.relative_to(top) if path.is_relative_to(top) else path
    return "__".join(below.with_suffix("").parts)
