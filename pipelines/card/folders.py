"""The user's folders, laid out as fetch will have them below `files/`: by links, without a copy."""

from __future__ import annotations

import os
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from pipelines.base.errors import PipelineError
from pipelines.card.words import split_in

_COCO = "annotations"


@dataclass(frozen=True)
class Folders:
    """Where the images and labels of a card are."""

    parts: dict[str, dict[str, Any]]
    """`source.parts` of the card."""
    images: str
    """Folder of the images below `files/`."""
    labels: str
    """Folder of the labels, or their COCO file."""
    near: list[Path]
    """Folders in which lists of splits and names of classes may lie."""
    beside: str = ""
    """What is to be said of folders beside the images that look like other splits of them."""


def lay_out(images: Path, labels: Path, files: Path) -> Folders:
    """Link both below `files`, which is an empty folder.

    Two folders of which one holds the other are one part of a card; others are two, each with a
    folder of its own, since their files may have the same names.

    Raises:
        PipelineError: when either is not there.
    """
    if not images.is_dir():
        raise PipelineError(f"IMAGES: {images}: no such folder; expected one with photographs")
    if not labels.exists():
        raise PipelineError(
            f"MASKS: {labels}: no such folder or file; expected a folder of masks or a COCO file"
        )
    one, other = images.resolve(), labels.resolve()
    near = list(dict.fromkeys(_near(images, labels)))
    beside = _beside(one)
    if labels.is_file():
        if labels.suffix.lower() != ".json":
            raise PipelineError(
                f"MASKS: {labels}: is a file; expected a folder of masks, or a COCO file (.json)"
            )
        name = f"{_COCO}/{labels.name}"
        (files / _COCO).mkdir()
        _link(files / "images", one)
        _link(files / name, other)
        file = {"kind": "archive", "path": _shown(labels), "file": name}
        parts = {"images": _part(images, "images"), "annotations": file}
        return Folders(parts, "images", name, near, beside)
    for outer, inner, path in ((one, other, images), (other, one, labels)):
        if inner.is_relative_to(outer):
            _link(files / "data", outer)
            places = ["/".join(("data", *each.relative_to(outer).parts)) for each in (one, other)]
            return Folders({"data": _part(path, "data")}, places[0], places[1], near, beside)
    for name, folder in (("images", one), ("labels", other)):
        _link(files / name, folder)
    parts = {"images": _part(images, "images"), "labels": _part(labels, "labels")}
    return Folders(parts, "images", "labels", near, beside)


def _beside(images: Path) -> str:
    own = split_in(images.name)
    others = [
        each.name
        for each in sorted(images.parent.iterdir())
        if own is not None and each.is_dir() and split_in(each.name) not in (None, own)
    ]
    if not others:
        return ""
    return (
        f"IMAGES is called {images.name}, and beside it lie {', '.join(others)}: give the folder "
        "above them (and that of the labels) for the data's own splits"
    )


def _link(place: Path, target: Path) -> None:
    place.symlink_to(target, target_is_directory=target.is_dir())


def _part(path: Path, below: str) -> dict[str, Any]:
    return {"kind": "folder", "path": _shown(path), "below": below}


def _shown(path: Path) -> str:
    """From the project's root where it lies in it, else absolute."""
    whole, here = Path(os.path.abspath(path)), Path.cwd()
    return whole.relative_to(here).as_posix() if whole.is_relative_to(here) else whole.as_posix()


def _near(images: Path, labels: Path) -> Iterator[Path]:
    """Both folders and those above them, but none above both; and folders of lists."""
    tops = [Path(os.path.abspath(each)) for each in (labels, images)]
    tops = [each if each.is_dir() else each.parent for each in tops]
    common = Path(os.path.commonpath(tops))
    yield from tops
    for top in tops:
        if top.parent.is_relative_to(common) or top.parent == common:
            yield top.parent
    if common != Path(common.anchor):
        yield common
        for name in ("ImageSets/Segmentation", "splits", "lists", "ImageSets"):
            if (common / name).is_dir():
                yield common / name
