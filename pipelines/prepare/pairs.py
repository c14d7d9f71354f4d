"""Which raw files are the images of a split, and which label belongs to each.

Images are named by their stem. Where two images of a split share one, all of that split are named
by their paths below what `images` has before its first star, with `__` for each slash.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, replace
from fnmatch import fnmatchcase
from pathlib import Path, PurePosixPath
from typing import TypeVar

from pipelines.prepare.containers import OTHER_LABELS
from pipelines.prepare.faults import Fault, Unusable
from pipelines.prepare.labels import Label
from pipelines.prepare.lists import lines, wrong_line
from pipelines.prepare.masks import ClassFiles
from pipelines.prepare.patterns import (
    SUFFIXES,
    Key,
    below,
    expected,
    is_pattern,
    left_out,
    matches,
    one_form,
    top_of,
)
from pipelines.study.cards import Pairs

_Thing = TypeVar("_Thing")
_Key = TypeVar("_Key", bound="Key | str")


@dataclass(frozen=True)
class Pair:
    """An image and its label, paths below `files/`."""

    stem: str
    image: str
    label: Label


Result = tuple[list[Pair], list[Fault]]
"""The pairs of a split, and what is wrong with all others."""


def find_pairs(
    files: Path,
    split: str,
    spec: Pairs,
    label_suffixes: Collection[str] = SUFFIXES,
    tops: Collection[str] = (),
) -> Result:
    """The pairs of `split` in order of their stems, and what is wrong with all others.

    Args:
        files: the folder of the raw files.
        label_suffixes: what counts as a label in a folder.
        tops: folders below which the card names files; they are no forgotten subfolders.
    """
    found = matches(files, spec.labels, label_suffixes)
    labels: dict[Label, Key] = {path: key for path, key in found.items()}
    faults = [] if labels else [none_such(files, split, "labels", spec.labels, label_suffixes)]
    if spec.list is None:
        for key, path, suffixes in (
            ("images", spec.images, SUFFIXES),
            ("labels", spec.labels, label_suffixes),
        ):
            faults += _forgotten(files, split, key, path, suffixes, tops)
    return paired(files, split, spec, labels, faults)


def paired(
    files: Path,
    split: str,
    spec: Pairs,
    labels: dict[Label, Key],
    faults: Sequence[Fault] = (),
) -> Result:
    """The pairs of the images that `spec` names, and labels that were found already."""
    images = matches(files, spec.images)
    if spec.images != spec.labels:
        # Where both lie in one folder, what is a label may look like an image.
        taken = {path for label in labels for path in _paths(label)}
        images = {image: key for image, key in images.items() if image not in taken}
    faults = list(faults)
    if not images:
        faults.insert(0, none_such(files, split, "images", spec.images, SUFFIXES))
    if faults:
        return [], faults
    return chosen(files, split, spec, images, labels)


def chosen(
    files: Path, split: str, spec: Pairs, images: dict[str, Key], labels: dict[Label, Key]
) -> Result:
    """The pairs among images and labels that were found: all, or those of the list."""
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


def _forgotten(
    files: Path, split: str, key: str, folder: str, suffixes: Collection[str], tops: Collection[str]
) -> list[Fault]:
    """A fault if a folder has files in subfolders, of which the card does not speak."""
    if is_pattern(folder):
        return []
    own = PurePosixPath(folder)
    others = [top for top in map(PurePosixPath, tops) if own in top.parents]
    deeper = [
        name
        for name in below(files, folder, suffixes)
        if not any(PurePosixPath(name).is_relative_to(other) for other in others)
    ]
    if not deeper:
        return []
    suffix = PurePosixPath(deeper[0]).suffix
    reason = (
        f"has {len(deeper)} files in subfolders, such as {deeper[0]}; a folder stands for its own: "
        f"expected source.splits.{split}.{key} to be {own}/**/*{suffix}, or {own}/*{suffix} to "
        "leave them out"
    )
    return [Fault(folder, reason, fatal=True)]


def none_such(files: Path, split: str, key: str, path: str, suffixes: Collection[str]) -> Fault:
    """The fault that a folder or pattern stands for nothing."""
    reason = f"no such files; source.splits.{split}.{key} expects some"
    if (files / path).is_file():
        reason = f"is a file; source.splits.{split}.{key} expects a folder, or a pattern with *"
        if path.endswith(".json"):
            reason += " (source.labels.encoding: coco in the card reads a COCO file)"
    if others := left_out(files, path, suffixes):
        counts = ", ".join(f"{count} {suffix}" for suffix, count in sorted(others.items()))
        reason += f", of {' '.join(sorted(suffixes))}; it has {counts}"
        for suffix in OTHER_LABELS.keys() & others.keys() if key == "labels" else ():
            reason += f" (source.labels.encoding may be {OTHER_LABELS[suffix]})"
    return Fault(path, reason, fatal=True)


def _without(split: str, spec: Pairs, pairs: list[Pair]) -> Result:
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


def _all(spec: Pairs, images: dict[str, Key], labels: dict[Label, Key]) -> Result:
    pairs, faults = [], []
    of_key = _by_key(labels)
    for image, key in images.items():
        found = of_key.get(key, [])
        if len(found) == 1:
            pairs.append(_pair(image, found[0]))
        else:
            faults.append(_no_label(image, spec, key, found))
    keys = set(images.values())
    for label, key in labels.items():
        if key not in keys:
            reason = f"is a label without an image; expected {expected(spec.images, key)}"
            faults.append(Fault(str(label), reason))
    return pairs, faults


def _listed(
    files: Path,
    split: str,
    spec: Pairs,
    name: str,
    images: dict[str, Key],
    labels: dict[Label, Key],
) -> Result:
    if not (files / name).is_file():
        reason = f"no such file; source.splits.{split}.list expects it"
        return [], [Fault(name, reason, fatal=True)]
    pairs, faults, seen = [], [], set()
    of_key = _by_key(labels)
    forms = {one_form(path): path for path in (*images, *map(str, labels))}
    of_stem = _by_key({image: one_form(PurePosixPath(image).stem) for image in images})
    of_stem |= _by_key({image: one_form(PurePosixPath(image).name) for image in images})

    def named(path: str) -> str | None:
        """The file that a list means, in the form that its name has on the disk."""
        path = forms.get(one_form(str(PurePosixPath(path))), path)
        return path if path in images or (files / path).is_file() else None

    def known(text: str) -> bool:
        return one_form(text) in of_stem or named(text) is not None

    try:
        found = list(lines(files, name, spec.strip, known))
    except Unusable as error:
        return [], [Fault(name, str(error), fatal=True)]
    for where, columns in found:
        wrong = wrong_line(split, columns)
        if wrong:
            faults.append(Fault(where, wrong, fatal=True))
            continue
        word, *other = columns
        image = named(word)
        if image is None:
            meant = of_stem.get(one_form(word), [])
            if len(meant) > 1:
                reason = f"{word} may be {meant[0]} or {meant[1]}; expected a path below files/"
                faults.append(Fault(where, reason, fatal=True))
                continue
            if not meant:
                faults.append(Fault(word, f"is not there, but {where} names it"))
                continue
            image = meant[0]
        if image in seen:
            faults.append(Fault(where, f"{image} stands in this list twice", fatal=True))
            continue
        seen.add(image)
        if other:
            label = named(other[0])
            if label is None:
                faults.append(Fault(other[0], f"is not there, but {where} names it"))
                continue
            pairs.append(_pair(image, label))
            continue
        key = images.get(image)
        if key is None:
            reason = f"is not among {spec.images}, but {where} names it without its label"
            faults.append(Fault(image, reason, fatal=True))
            continue
        own = of_key.get(key, [])
        if len(own) == 1:
            pairs.append(_pair(image, own[0]))
        else:
            faults.append(_no_label(image, spec, key, own))
    return pairs, faults


def _pair(image: str, label: Label) -> Pair:
    return Pair(one_form(PurePosixPath(image).stem), image, label)


def _paths(label: Label) -> list[str]:
    match label:
        case str():
            return [label]
        case ClassFiles():
            return [path for _, path in label.parts]
    return []


def _by_key(keys: Mapping[_Thing, _Key]) -> dict[_Key, list[_Thing]]:
    things: dict[_Key, list[_Thing]] = {}
    for thing, key in keys.items():
        things.setdefault(key, []).append(thing)
    return things


def _no_label(image: str, spec: Pairs, key: Key, found: list[Label]) -> Fault:
    if found:
        names = " and ".join(map(str, found))
        return Fault(image, f"has {len(found)} labels: {names}; expected one")
    return Fault(image, f"is an image without a label; expected {expected(spec.labels, key)}")


def _named(pattern: str, pairs: list[Pair]) -> Result:
    """The pairs with distinct stems, in order of these, and those whose stems stay equal."""
    if len({pair.stem for pair in pairs}) < len(pairs):
        top = top_of(pattern)
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


def _long_name(image: str, top: str) -> str:
    path = PurePosixPath(image)
    inner = path.relative_to(top) if path.is_relative_to(top) else path
    return one_form("__".join(inner.with_suffix("").parts))
