"""Which image belongs to which label, in folders of whatever order, and how a card says it."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Collection, Sequence
from dataclasses import dataclass, field
from pathlib import Path, PurePosixPath

from pipelines.base.errors import PipelineError
from pipelines.card.words import Affixes, find_affixes, folders_key, is_label, split_of, stem_of
from pipelines.fetch.trees import left_behind
from pipelines.prepare.patterns import matches
from pipelines.prepare.splits import find_split
from pipelines.study.cards import DataCard, FilesSource, Pairs
from pipelines.study.digits import Split

LISTS = "lists"
"""Of split lists that were written for a card, the folder below `files/`."""

LOSSY = {".jpg", ".jpeg", ".jfif"}
"""Suffixes of files that keep no values of labels."""

_SHOWN = 3


@dataclass
class Pairing:
    """Images with their labels, and what is left over; paths below `files/`."""

    pairs: list[tuple[str, str]]
    affixes: Affixes
    images_alone: list[str] = field(default_factory=list)
    labels_alone: list[str] = field(default_factory=list)
    others: list[str] = field(default_factory=list)
    """Among the labels, files of other names, such as instances beside classes."""


def files_below(files: Path, folder: str) -> list[str]:
    """All files in a folder and below it, in order, as prepare and fetch see them."""
    found = map(PurePosixPath, matches(files, f"{folder}/**/*"))
    return [path.as_posix() for path in found if not left_behind(path)]


def with_suffix(paths: Sequence[str], suffixes: Collection[str]) -> list[str]:
    return [path for path in paths if PurePosixPath(path).suffix.lower() in suffixes]


def apart(pictures: Sequence[str]) -> tuple[list[str], list[str]]:
    """Images and labels among the pictures of one folder.

    Labels are those whose path says so; else, where JPEGs and others have the same stems, the
    others, since a label keeps no values as a JPEG.
    """
    both = sorted(pictures)
    said = [path for path in both if is_label(path)]
    if said and len(said) < len(both):
        return [path for path in both if path not in set(said)], without_instances(said)
    lossy = with_suffix(both, LOSSY)
    others = [path for path in both if path not in set(lossy)]
    common = {stem_of(path) for path in lossy} & {stem_of(path) for path in others}
    return (lossy, others) if common else (both, [])


def without_instances(labels: Sequence[str]) -> list[str]:
    """Without folders of instances (VOC's SegmentationObject), where there are others."""
    others = [
        p for p in labels if not re.search(r"object|instance", str(PurePosixPath(p).parent).lower())
    ]
    return others or list(labels)


def pair_up(images: Sequence[str], labels: Sequence[str]) -> Pairing:
    """Pair by stems without their affixes; where several have one, by their folders too.

    Raises:
        PipelineError: when an image has several labels, or none has any.
    """
    affixes = find_affixes(images, labels)
    image_keys = {path: affixes.image_key(stem_of(path)) for path in images}
    label_keys = {path: affixes.label_key(stem_of(path)) for path in labels}
    known = {path: key for path, key in label_keys.items() if key is not None}
    best: tuple[int, Pairing] | None = None
    unclear = ""
    # By all folders, by the innermost, by the split that they name, by the stem alone.
    for place in (folders_key, lambda path: folders_key(path)[-1:], split_of, lambda path: None):
        of_key: dict[tuple[object, str], list[str]] = {}
        for path, key in known.items():
            of_key.setdefault((place(path), key), []).append(path)
        found: dict[str, list[str]] = {
            path: of_key.get((place(path), key), []) if key is not None else []
            for path, key in image_keys.items()
        }
        taken = Counter(label for own in found.values() for label in own)
        several = next(
            (p for p, own in found.items() if len(own) > 1 or any(taken[o] > 1 for o in own)), None
        )
        if several is not None:
            unclear = unclear or _unclear(several, found)
            continue
        pairs = [(path, own[0]) for path, own in found.items() if own]
        if best is None or len(pairs) > best[0]:
            alone = [path for path, own in found.items() if not own]
            rest = [path for path in known if not taken[path]]
            others = [path for path in labels if path not in known]
            best = len(pairs), Pairing(pairs, affixes, alone, rest, others)
    if best is None or not best[0]:
        if unclear:
            raise PipelineError(unclear)
        by_folder = _one_each(images, labels)
        if by_folder:
            return Pairing(by_folder, Affixes())
        raise PipelineError(
            f"no image has a label: images are called {_some(images)}, labels {_some(labels)}; "
            "expected a label to be called like its image, with the same words before or after"
        )
    return best[1]


def _unclear(image: str, found: dict[str, list[str]]) -> str:
    """What is wrong where an image may have several labels, or shares its one with another."""
    own = found[image]
    if len(own) > 1:
        return (
            f"{image}: may have the label {' or '.join(own[:2])}; expected one label an image, in "
            "folders called alike: give the folder that holds those to be learned"
        )
    other = next(path for path, labels in found.items() if path != image and own[0] in labels)
    return (
        f"{image}: and {other} may both have the label {own[0]}; expected one image a label, or "
        "labels in folders called like those of their images"
    )


def _one_each(images: Sequence[str], labels: Sequence[str]) -> list[tuple[str, str]]:
    """Pairs by their folder, where each has one image and one label: 001/image.jpg, 001/mask.png.

    Empty where any folder has more, or less.
    """
    of_folder = {str(PurePosixPath(path).parent): path for path in labels}
    pairs = {str(PurePosixPath(path).parent): path for path in images}
    whole = len(of_folder) == len(labels) and len(pairs) == len(images) > 1
    if not whole or pairs.keys() != of_folder.keys():
        return []
    return [(image, of_folder[folder]) for folder, image in pairs.items()]


def describe(
    files: Path,
    split: Split,
    pairs: Collection[tuple[str, str]],
    card: DataCard,
    specs: Sequence[dict[str, str]],
    *,
    tolerant: bool = False,
) -> dict[str, str]:
    """`source.splits.SPLIT` of a card that gives just these pairs, as prepare's own search has it.

    The first of `specs` that does; else the first with a list in `files/lists`, which is written.

    Args:
        card: of which classes and `labels` count.
        tolerant: whether other files may be faulty, as the card then has `faulty: skip`.
    """
    wanted = set(pairs)
    for spec in specs:
        if _found(files, split, spec, card, tolerant) == wanted:
            return spec
    name = f"{LISTS}/{split}.txt"
    (files / LISTS).mkdir(exist_ok=True)
    for columns in (1, 2):
        lines = ("\t".join(pair[:columns]) + "\n" for pair in sorted(wanted))
        (files / name).write_text("".join(lines), encoding="utf-8")
        for spec in specs:
            if _found(files, split, spec | {"list": name}, card, tolerant) == wanted:
                return spec | {"list": name}
    raise PipelineError(
        f"{split}: no pattern and no list says which {len(wanted)} images belong to it, such as "
        f"{min(wanted)[0]}; expected names without tabs, line breaks and backslashes"
    )


def _found(
    files: Path, split: Split, spec: dict[str, str], card: DataCard, tolerant: bool
) -> set[tuple[str, str]] | None:
    """The pairs that prepare finds; None where it finds a fault."""
    try:
        pairs = Pairs.model_validate(spec)
    except ValueError:
        return None  # Such as two patterns with different stars: not this one.
    source: FilesSource = card.files.model_copy(update={"splits": {split: pairs}})
    found, faults = find_split(files, split, source, card.classes)
    if any(fault.fatal or not tolerant for fault in faults):
        return None
    return {(pair.image, str(pair.label)) for pair in found}


def ways(pairs: Sequence[tuple[str, str]], affixes: Affixes) -> list[dict[str, str]]:
    """`images` and `labels` that may say which files they are, the simplest first."""
    images, labels = ([pair[side] for pair in pairs] for side in (0, 1))
    tops = [_top(paths) for paths in (images, labels)]
    flat = all(
        {PurePosixPath(path).parent.as_posix() for path in paths} == {top}
        for paths, top in zip((images, labels), tops, strict=True)
    )
    ends = [_suffix(paths) for paths in (images, labels)]
    names = [
        f"{affixes.before_image}*{affixes.after_image}{ends[0]}",
        f"{affixes.before_label}*{affixes.after_label}{ends[1]}",
    ]
    lasts = [_last_folders(paths, top) for paths, top in zip((images, labels), tops, strict=True)]
    found = [tops, [f"{top}/{name}" for top, name in zip(tops, names, strict=True)]] if flat else []
    found += [
        [f"{top}/**/{name}" for top, name in zip(tops, names, strict=True)],
        [f"{top}/**/{last}{name}" for top, last, name in zip(tops, lasts, names, strict=True)],
    ]
    return [{"images": image, "labels": label} for image, label in found]


def _top(paths: Sequence[str]) -> str:
    """The deepest folder in which all are."""
    parents = [PurePosixPath(path).parent.parts for path in paths]
    top: list[str] = []
    for level in zip(*parents, strict=False):
        if len(set(level)) > 1:
            break
        top.append(level[0])
    return "/".join(top)


def _last_folders(paths: Sequence[str], top: str) -> str:
    """The folders below `top` that all paths end with, each with a slash."""
    parents = [PurePosixPath(path).parent.relative_to(top).parts[::-1] for path in paths]
    last: list[str] = []
    for level in zip(*parents, strict=False):
        if len(set(level)) > 1:
            break
        last.insert(0, level[0])
    return "".join(f"{folder}/" for folder in last)


def _suffix(paths: Sequence[str]) -> str:
    return Counter(PurePosixPath(path).suffix for path in paths).most_common(1)[0][0]


def _some(paths: Sequence[str]) -> str:
    more = f" and {len(paths) - _SHOWN} more" if len(paths) > _SHOWN else ""
    return ", ".join(paths[:_SHOWN]) + more if paths else "nothing"
