"""Labels in which classes have names: COCO, LabelMe, a mask a class. They are drawn to count."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from pathlib import Path, PurePosixPath
from typing import Any

from pipelines.base.errors import PipelineError
from pipelines.card.class_names import is_void
from pipelines.card.look import refused
from pipelines.card.words import split_in, split_of
from pipelines.prepare.coco import read_coco
from pipelines.prepare.faults import Unusable
from pipelines.prepare.labelme import read_labelme
from pipelines.study.cards import DataCard
from pipelines.study.digits import Split
from sar.large_images import MAX_PIXELS
from sar.trained.palette import distinct_colours

BACKGROUND = "background"
_MOST = 254


def rough_card(names: Sequence[str], labels: dict[str, Any], spec: dict[str, str]) -> DataCard:
    """A card by which labels can be found and drawn, before it is known what they hold."""
    classes = list(names) if len(names) > 1 else [*names, *(f"{n}?" for n in ("a", "b"))]
    return DataCard.model_validate(
        {
            "title": "in the making",
            "classes": classes,
            "palette": [list(colour) for colour in distinct_colours(len(classes))],
            "source": {
                "kind": "files",
                "parts": {"mine": {"kind": "folder", "path": "mine"}},
                "splits": {"train": spec},
                "labels": labels,
            },
            "licence": "",
            "citation": "",
        }
    )


def naming(encoding: str, raw: Sequence[str]) -> tuple[list[str], dict[str, Any]]:
    """Classes for what files call things, the background first, and `source.labels`.

    Raises:
        PipelineError: for more names than there can be classes.
    """
    names: dict[str, str | None] = {}
    classes: list[str] = []
    background = BACKGROUND
    for each in raw:
        clean = " ".join("".join(c if c.isprintable() else " " for c in each).split())[:200]
        if is_void(each) or not clean:
            names[each] = None
            continue
        if clean.strip("_").lower() == BACKGROUND:
            background = clean
        elif clean not in classes:
            classes.append(clean)
        if clean != each:
            names[each] = clean
    if len(classes) > _MOST:
        raise PipelineError(
            f"labels have {len(classes)} names, such as {', '.join(classes[:6])}; expected "
            f"{_MOST} classes at most"
        )
    labels: dict[str, Any] = {"encoding": encoding}
    if names:
        labels["names"] = names
    return [background, *classes], labels | {"background": background, "overlap": "last"}


def names_in_labelme(files: Path, paths: Sequence[str]) -> list[str]:
    """What shapes are called, the most frequent first; files that cannot be read are left out,
    since they are told as faults later."""
    counts = Counter[str]()
    for path in paths:
        try:
            counts.update(name for name, _ in read_labelme(files / path, MAX_PIXELS)[1])
        except Unusable:
            continue
    return sorted(counts, key=lambda name: (-counts[name], name))


def coco_specs(
    files: Path, images: Sequence[str], top: str, annotations: Sequence[str]
) -> tuple[dict[Split | None, dict[str, str]], list[str]]:
    """`images` and `labels` of each split that has a COCO file, None for one of no split; and the
    names of all categories that have an annotation.

    Raises:
        PipelineError: when a split has several files, or no image of a file is there.
    """
    chosen = [path for path in annotations if "instances" in path.lower()] or list(annotations)
    specs: dict[Split | None, dict[str, str]] = {}
    counts = Counter[str]()
    for path in chosen:
        split = split_in(PurePosixPath(path).stem) or split_of(path)
        if split in specs:
            raise PipelineError(
                f"{path}: and {specs[split]['labels']} are COCO files of "
                f"{'one split' if split else 'no split by their names'}; expected one file, or one "
                "each for train, val and test"
            )
        labels, faults = read_coco(files, path)
        if not labels:
            raise refused(f"{path} has no image that can be used", faults)
        counts.update(str(name) for label in labels.values() for name, _ in label.parts)
        specs[split] = {"images": _folder(images, top, path, list(labels)), "labels": path}
    if None in specs and len(specs) > 1:
        raise PipelineError(
            f"{specs[None]['labels']}: is a COCO file of no split by its name, beside "
            f"{len(specs) - 1} of some; expected train, val or test in its name, or it elsewhere"
        )
    return specs, sorted(counts, key=lambda name: (-counts[name], name))


def _folder(images: Sequence[str], top: str, path: str, names: Sequence[str]) -> str:
    """The folder below which most of the `file_name`s of a COCO file are."""
    votes = Counter[str]()
    wanted = set(names)
    for image in images:
        parts = PurePosixPath(image).parts
        for depth in range(len(PurePosixPath(top).parts), len(parts)):
            if "/".join(parts[depth:]) in wanted:
                votes["/".join(parts[:depth])] += 1
    if not votes:
        raise PipelineError(
            f"{path}: names {len(names)} images, such as {names[0] if names else 'none'}, and none "
            f"of them is below {top}; expected IMAGES to be the folder in which they are"
        )
    return votes.most_common(1)[0][0]
