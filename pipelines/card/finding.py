"""Pairs of images and labels in the user's folders, and how their labels are read."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path, PurePosixPath
from typing import Any

from PIL import Image, UnidentifiedImageError

from pipelines.base.errors import PipelineError
from pipelines.card import named
from pipelines.card.folders import Folders
from pipelines.card.kinds import (
    Kind,
    class_folders,
    class_suffixes,
    kind_of,
    kind_of_json,
    matrix_key,
    suffixes,
    suffixes_told,
)
from pipelines.card.look import Reader, refused
from pipelines.card.pairing import (
    LOSSY,
    Pairing,
    apart,
    files_below,
    pair_up,
    with_suffix,
    without_instances,
)
from pipelines.card.words import Affixes
from pipelines.prepare.labels import Label
from pipelines.prepare.patterns import SUFFIXES
from pipelines.prepare.splits import LABEL_SUFFIXES, find_split
from pipelines.study.digits import Split
from pipelines.study.labels import CLASS

_SHOWN = 3


@dataclass
class Found:
    """Pairs, and what is known of them before any is opened."""

    pairs: list[tuple[str, Label]]
    reader: Reader
    affixes: Affixes = field(default_factory=Affixes)
    notes: list[str] = field(default_factory=list)
    names: list[str] = field(default_factory=list)
    """Of labels with names, the classes by which they are drawn."""
    labels: dict[str, Any] = field(default_factory=dict)
    """Of the same, `source.labels`."""
    splits: dict[str, Split] = field(default_factory=dict)
    """Of images, where labels themselves say it."""
    specs: dict[Split | None, dict[str, str]] = field(default_factory=dict)
    """`images` and `labels` of each split, or of all (None), where nothing else can be said."""
    missing: bool = False
    """Whether labels name images that are not there."""


def find(files: Path, folders: Folders, kind: Kind | None) -> Found:
    """Find the pairs.

    Args:
        files: the folder with the links of `folders`.
        kind: of the labels, where the user says it.

    Raises:
        PipelineError: when there are no images, no labels or no pairs.
    """
    images = with_suffix(files_below(files, folders.images), SUFFIXES)
    if (files / folders.labels).is_file():
        return _coco(files, images, folders.images, [folders.labels])
    labels = files_below(files, folders.labels)
    # Of two folders, what the one for labels holds is no image, unless all is in it.
    inside = folders.images == folders.labels or PurePosixPath(folders.images).is_relative_to(
        folders.labels
    )
    if not inside:
        images = [path for path in images if path not in set(labels)]
    elif folders.images != folders.labels:
        labels = [path for path in labels if path not in set(images)]
    else:
        images, pictures = apart(images)
        labels = [path for path in labels if path not in set(images) and path not in set(pictures)]
        labels = [*with_suffix(labels, {".npy", ".mat", ".json"}), *pictures]
    given = folders.parts[next(iter(folders.parts))]["path"]
    if not images:
        raise PipelineError(
            f"IMAGES: {given}: holds no image; expected {' '.join(sorted(SUFFIXES))}, and it has "
            f"{suffixes_told(suffixes(files_below(files, folders.images)))}"
        )
    if not labels and folders.images == folders.labels:
        raise PipelineError(
            f"IMAGES: {given}: holds {len(images)} pictures, such as {images[0]}, and none is a "
            "label by its name; expected MASKS as second argument, or a word such as mask, label "
            "or gt in the names of labels or of their folders"
        )
    labels = without_instances(labels)
    kind = kind or kind_of(files, images, labels, folders.labels)
    if kind == "coco":
        texts = with_suffix(labels, {".json"})
        texts = [path for path in texts if kind_of_json(files / path) == "coco"]
        return _coco(files, images, folders.images, texts)
    if kind == "class_masks":
        return _class_masks(files, images, with_suffix(labels, SUFFIXES), folders.labels)
    encoding = "index" if kind == "pictures" else kind
    candidates = with_suffix(labels, LABEL_SUFFIXES.get(encoding, SUFFIXES))
    _not_all_jpegs(candidates)
    pairing = pair_up(images, candidates)
    found = Found(list(pairing.pairs), Reader(), pairing.affixes, _told(pairing))
    if kind == "labelme":
        raw = named.names_in_labelme(files, [label for _, label in pairing.pairs])
        spec = {"images": folders.images, "labels": folders.labels}
        return _with_names(found, "labelme", raw, spec)
    if kind == "matrix":
        image, label = pairing.pairs[0]
        found.reader = Reader("matrix", matrix_key(files / label, _size(files / image)))
    elif kind == "array":
        found.reader = Reader("array")
    return found


def _not_all_jpegs(labels: Sequence[str]) -> None:
    """Of a JPEG among others its own fault tells."""
    if labels and len(with_suffix(labels, LOSSY)) == len(labels):
        raise PipelineError(
            f"MASKS: {labels[0]}, as all {len(labels)} labels, is a JPEG, which changes the values "
            "of a label; expected PNG. Are these photographs (IMAGES and MASKS the other way "
            "round)? Black and white masks can be told apart at 128 and saved as PNG; of others "
            "the values are lost"
        )


def _with_names(found: Found, encoding: str, raw: Sequence[str], spec: dict[str, str]) -> Found:
    found.names, found.labels = named.naming(encoding, raw)
    found.reader = Reader(encoding, card=named.rough_card(found.names, found.labels, spec))
    return found


def _coco(files: Path, images: Sequence[str], top: str, annotations: Sequence[str]) -> Found:
    specs, raw = named.coco_specs(files, images, top, annotations)
    found = Found([], Reader(), specs=specs)
    _with_names(found, "coco", raw, next(iter(specs.values())))
    for split, spec in specs.items():
        assert found.reader.card is not None  # It was made just now.
        card = named.rough_card(found.names, found.labels, spec)
        pairs, faults = find_split(files, "train", card.files, card.classes)
        stopping = [fault for fault in faults if fault.fatal]
        if stopping or not pairs:
            raise refused(spec["labels"], stopping or faults)
        if faults:
            found.missing = True
            found.notes.append(
                f"{spec['labels']}: {len(faults)} of its images cannot be used, such as "
                f"{faults[0].file}, which {faults[0].reason}"
            )
        found.pairs += [(pair.image, pair.label) for pair in pairs]
        if split is not None:
            found.splits |= {pair.image: split for pair in pairs}
    return found


def _class_masks(files: Path, images: Sequence[str], labels: Sequence[str], top: str) -> Found:
    folders = {PurePosixPath(image).parent.as_posix() for image in images}
    if len(folders) > 1:
        raise PipelineError(
            f"IMAGES: has images in {len(folders)} folders, and MASKS a mask for each class; "
            "expected one folder of images for that: write the card by hand (docs/data.md)"
        )
    folder = folders.pop()
    words = list(class_folders(labels, top))
    spec = {"images": folder, "labels": f"{top}/{CLASS}"}
    if suffixes := class_suffixes(images, labels):
        words, separator = list(suffixes.words), suffixes.separator
        ends = [PurePosixPath(paths[0]).suffix for paths in (images, labels)]
        spec = {
            "images": f"{folder}/*{ends[0]}",
            "labels": f"{PurePosixPath(labels[0]).parent}/*{separator}{CLASS}{ends[1]}",
        }
    found = _with_names(Found([], Reader(), specs={None: spec}), "class_masks", words, spec)
    assert found.reader.card is not None  # It was made just now.
    pairs, faults = find_split(files, "train", found.reader.card.files, found.names)
    stopping = [fault for fault in faults if fault.fatal]
    if stopping or not pairs:
        raise refused(top, stopping or faults)
    found.pairs = [(pair.image, pair.label) for pair in pairs]
    found.notes = [f"left out, without a mask or an image: {len(faults)}"] if faults else []
    return found


def _told(pairing: Pairing) -> list[str]:
    notes = [f"{len(pairing.pairs)} pairs: {pairing.affixes.told}"]
    for what, alone in (
        ("images without a label", pairing.images_alone),
        ("labels without an image", pairing.labels_alone),
        ("files of other names among the labels", pairing.others),
    ):
        if alone:
            more = ", ..." if len(alone) > _SHOWN else ""
            notes.append(f"left out, {what}: {len(alone)} ({', '.join(alone[:_SHOWN])}{more})")
    return notes


def _size(path: Path) -> tuple[int, int]:
    try:
        with Image.open(path) as picture:
            return picture.size
    except (OSError, UnidentifiedImageError) as error:
        raise PipelineError(f"{path}: cannot be read: {error}") from error
