"""From folders to what a data card says of them: pairs, classes, splits, sizes."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import get_args

import numpy as np

from pipelines.base.errors import PipelineError
from pipelines.card import named
from pipelines.card.class_names import Known, find_names
from pipelines.card.divide import divide, near_copies
from pipelines.card.finding import Found, find
from pipelines.card.folders import Folders
from pipelines.card.kinds import Kind
from pipelines.card.look import Look, look_at_all, orientation, refused
from pipelines.card.meaning import Meaning, of_names, of_values
from pipelines.card.pairing import describe, ways
from pipelines.card.sizes import Sizes, suggest
from pipelines.card.split_files import find_lists
from pipelines.card.words import split_of
from pipelines.prepare.faults import SHOWN, Fault
from pipelines.study.cards import DataCard
from pipelines.study.digits import Split
from pipelines.study.parameters import params_file, read_params

_BAD = 0.1
"""The largest share of pairs that may be unusable: more is no accident."""
_FOLDERS = 10
"""Of labels in which a file may name classes."""
_SPLITS: tuple[Split, ...] = get_args(Split)

Members = dict[Split, list[Look]]


@dataclass
class Survey:
    """What was found, for the card and the sheet."""

    folders: Folders
    meaning: Meaning
    splits: dict[Split, dict[str, str]]
    members: Members
    sizes: Sizes
    exif: str | None
    skip: bool
    """Whether prepare has to leave out files that it cannot use."""
    notes: dict[str, list[str]] = field(default_factory=dict)
    """Lines above keys of the card, besides those of `meaning`."""


def survey(files: Path, folders: Folders, kind: Kind | None, jobs: int | None) -> Survey:
    """Look at all images and labels.

    Args:
        files: the folder with the links of `folders`; split lists are written into it.
        kind: of the labels, where the user says it.

    Raises:
        PipelineError: naming what cannot be used and what was expected.
    """
    found = find(files, folders, kind)
    looks, faults = look_at_all(files, found.pairs, found.reader, jobs)
    exif, stopping = orientation(looks)
    if stopping or len(faults) > _BAD * len(found.pairs):
        raise refused(f"{len(found.pairs)} pairs of images and labels", stopping + faults)
    known, unread = (Known(), []) if found.names else _known(files, folders, found)

    def meaning_of(some: Sequence[Look]) -> Meaning:
        if found.names:
            return of_names(some, found.names, found.labels)
        return of_values(some, known, found.reader.encoding, found.reader.key)

    notes = [*found.notes, *_left_out(faults)]
    members = _members(found, looks, folders, meaning_of(looks), notes)
    everything = [look for own in members.values() for look in own]
    meaning = meaning_of(everything)
    meaning.notes.setdefault("classes", []).extend(unread)
    specs: dict[Split, dict[str, str]] = {}
    for split, own in members.items():
        pairs = [(look.image, look.label) for look in own]
        possible = _ways(found, split, pairs)
        card = named.rough_card(meaning.classes, meaning.labels, possible[0])
        specs[split] = describe(files, split, pairs, card, possible, tolerant=found.missing)
    return Survey(
        folders=folders,
        meaning=meaning,
        splits=specs,
        members=members,
        sizes=suggest(_upright(look, exif) for look in everything),
        exif=exif,
        skip=found.missing,
        notes={"splits": notes},
    )


def _ways(found: Found, split: Split, pairs: Sequence[tuple[str, str]]) -> list[dict[str, str]]:
    """How the card may say which files they are."""
    if not found.specs:
        return ways(pairs, found.affixes)
    if split in found.specs:
        return [found.specs[split]]
    if len(found.specs) == 1:
        return list(found.specs.values())
    files = ", ".join(spec["labels"] for spec in found.specs.values())
    raise PipelineError(
        f"{files}: expected a COCO file of train and one of val or test, or one alone to be divided"
    )


def _known(files: Path, folders: Folders, found: Found) -> tuple[Known, list[str]]:
    """Names of classes: those of Cityscapes by its card, or those in a file beside the data."""
    label = found.affixes.after_label.lower()
    path = params_file("datasets", "cityscapes")
    if "gtfine_label" in label and path.is_file():
        card = read_params(path, DataCard)
        mapping = card.files.labels.mapping or {}
        if "trainids" in label:
            mapping = {index: index for index in range(len(card.classes))}
        of_id = {
            raw: card.classes[mapping[raw]] if raw in mapping else "void" for raw in range(256)
        }
        colours = {
            r << 16 | g << 8 | b: name
            for name, (r, g, b) in zip(card.classes, card.palette, strict=True)
        }
        return Known(path.as_posix(), list(card.classes), of_id, colours), []
    # Also beside the labels themselves, in the folder of a split.
    own = {(files / str(label)).parent.resolve(): None for _, label in found.pairs}
    return find_names(dict.fromkeys([*folders.near, *sorted(own)[:_FOLDERS]]))


def _members(
    found: Found, looks: Sequence[Look], folders: Folders, meaning: Meaning, notes: list[str]
) -> Members:
    """The images of each split: as labels, folders or lists say, else drawn."""
    splits: dict[str, Split] = dict(found.splits)
    by = "COCO files"
    if not splits:
        by = "folders"
        for look in looks:
            split = split_of(look.image) or split_of(look.label)
            if split is not None:
                splits[look.image] = split
    if not _is_division(splits.values()):
        images = [look.image for look in looks]
        affixes = found.affixes
        splits, told = find_lists(folders.near, images, affixes.before_image, affixes.after_image)
        notes += told
        by = "lists beside the data"
    if splits:
        return _given(splits, looks, meaning, by, notes)
    holds = np.stack([meaning.pixels(look) > 0 for look in looks])
    some = np.flatnonzero(holds.any(axis=1)).tolist()
    if len(some) < len(looks):
        notes.append(f"left out, void throughout: {len(looks) - len(some)} images")
    chosen = [looks[place] for place in some]
    division = divide(
        [look.image for look in chosen],
        np.stack([look.thumbnail for look in chosen]),
        [look.digest for look in chosen],
        holds[some],
    )
    notes += ["no splits were found; " + division.told[0], *division.told[1:]]
    notes += [folders.beside] if folders.beside else []
    return {split: [chosen[place] for place in own] for split, own in division.parts.items()}


def _is_division(splits: object) -> bool:
    found = set(splits)  # type: ignore[call-overload]
    return "train" in found and len(found) > 1


def _given(
    splits: Mapping[str, Split],
    looks: Sequence[Look],
    meaning: Meaning,
    by: str,
    notes: list[str],
) -> Members:
    """The data's own splits, without what would measure a model on what it was trained on."""
    members: Members = {
        split: [look for look in looks if splits.get(look.image) == split] for split in _SPLITS
    }
    notes.append(f"the data's own splits, by their {by}")
    outside = sum(look.image not in splits for look in looks)
    if outside:
        notes.append(f"left out, in no split: {outside} images")
    for split, own in list(members.items()):
        if not sum(int(meaning.pixels(look).sum()) for look in own):
            if own:
                notes.append(
                    f"left out: {split}, whose {len(own)} labels are void throughout (withheld?)"
                )
            del members[split]
    # What is tested stays whole: a copy is taken out of the earlier split.
    seen: dict[str, Split] = {}
    for split in reversed(list(members)):
        copies = [look for look in members[split] if seen.get(look.digest, split) != split]
        if copies:
            others = sorted({seen[look.digest] for look in copies})
            notes.append(
                f"left out of {split}: {len(copies)} images with the pixels of images of "
                f"{' and '.join(others)}, such as {copies[0].image}"
            )
            gone = {look.image for look in copies}
            members[split] = [look for look in members[split] if look.image not in gone]
        seen |= {look.digest: split for look in members[split]}
    members = {split: own for split, own in members.items() if own}
    thumbnails = {
        split: np.stack([look.thumbnail for look in own]) for split, own in members.items()
    }
    for (earlier, later), count in near_copies(thumbnails).items():
        notes.append(
            f"nearly equal to an image of {earlier}: {count} images of {later}, so scores on "
            f"{later} may be too good"
        )
    return members


def _left_out(faults: Sequence[Fault]) -> list[str]:
    if not faults:
        return []
    lines = [f"  {fault.file} {fault.reason}" for fault in faults[:SHOWN]]
    more = [f"  and {len(faults) - SHOWN} more"] if len(faults) > SHOWN else []
    count = "1 file" if len(faults) == 1 else f"{len(faults)} files"
    return [f"left out, since they cannot be used: {count}", *lines, *more]


def _upright(look: Look, exif: str | None) -> tuple[int, int]:
    """(width, height) as prepare writes the image."""
    turned = look.tag in (5, 6, 7, 8) and (exif or look.tagged.says or "turn") == "turn"
    return (look.size[1], look.size[0]) if turned else look.size
