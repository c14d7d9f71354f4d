"""A data card as text, with comments that say what was found and what was guessed."""

from __future__ import annotations

import textwrap
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import numpy as np

from pipelines.card.pairing import LISTS
from pipelines.card.survey import Survey
from pipelines.rendering.yaml import yaml_text
from pipelines.study.places import PARAMS

_WIDTH = 98


def card_text(survey: Survey, name: str, title: str) -> str:
    """The content of `params/datasets/NAME.yaml`."""
    meaning = survey.meaning
    counts = sum(meaning.pixels(look) for own in survey.members.values() for look in own)
    shares = np.asarray(counts, float) / np.sum(counts)
    sizes = survey.sizes
    found = [f"{split} {len(own)}" for split, own in survey.members.items()]
    crop = f"{list(sizes.crop_size)} (height, width)"
    base = list(sizes.base_size) if sizes.base_size else "none"
    lines = [
        "# yaml-language-server: $schema=../schema/dataset.json",
        *comments([f"Written by python -m pipelines.card: {', '.join(found)} images."]),
        f"title: {_scalar(title)}",
        *comments(
            [
                "In the order of the class ids, each with its share of all labelled pixels"
                + (" and its raw value" if meaning.raw else "")
                + ".",
                *meaning.notes.get("classes", []),
            ]
        ),
        "classes:",
        *_classes(meaning.classes, shares, meaning.raw),
        *comments(meaning.notes.get("palette", ["colours for pictures alone: any will do"])),
        "palette:",
        *(f"  - {list(colour)}" for colour in meaning.palette),
        "source:",
        "  kind: files",
        "  parts:",
        *(f"    {key}: {flow(part)}" for key, part in _parts(survey, name).items()),
        *comments(survey.notes.get("splits", []), "  "),
        "  splits:",
        *(f"    {split}: {flow(spec)}" for split, spec in survey.splits.items()),
        *_labels(survey),
        *_rest(survey),
        *comments(
            [
                f"For a study's `augmentation`: crop_size {crop}: {sizes.why_crop}.",
                f"base_size {base}: {sizes.why_base}.",
            ]
        ),
        *comments(["As the publisher states it, and what to cite; both stand in reports."]),
        "licence: not stated",
        "citation: not stated",
    ]
    return "\n".join(lines) + "\n"


def _parts(survey: Survey, name: str) -> dict[str, Any]:
    lists = any("list" in spec for spec in survey.splits.values())
    folder = {
        "kind": "folder",
        "path": (PARAMS / "datasets" / "splits" / name).as_posix(),
        "below": LISTS,
    }
    return survey.folders.parts | ({"lists": folder} if lists else {})


def _classes(names: Sequence[str], shares: np.ndarray, raw: Sequence[str]) -> Iterable[str]:
    for index, (name, share) in enumerate(zip(names, shares, strict=True)):
        of = f", {raw[index]}" if raw else ""
        yield f"  - {_scalar(name)} # {index}: {100 * share:.2g} %{of}"


def _labels(survey: Survey) -> list[str]:
    meaning = survey.meaning
    if not meaning.labels:
        return comments(["labels: the values of the masks are the class ids"], "  ")
    notes = list(meaning.notes.get("labels", []))
    if "background" in meaning.labels:
        notes.append("background: what nothing covers; without this line it is void")
        notes.append("overlap: of shapes over one another the later one in the file counts")
    return [
        *comments(notes, "  "),
        "  labels:",
        *(f"    {key}: {flow(value)}" for key, value in meaning.labels.items()),
    ]


def _rest(survey: Survey) -> list[str]:
    lines = []
    if survey.exif is not None:
        lines += comments(
            [
                "photos have an EXIF orientation that their masks lack, and no size tells whether "
                "masks were drawn on turned photos: look at the contact sheet; else `ignore`"
            ],
            "  ",
        )
        lines.append(f"  exif: {survey.exif}")
    if survey.skip:
        lines += comments(["labels name images that are not there"], "  ")
        lines.append("  faulty: skip")
    return lines


def comments(texts: Iterable[str], indent: str = "") -> list[str]:
    """Each text as lines of comments, wrapped."""
    lines = []
    for text in texts:
        own = textwrap.wrap(text, _WIDTH - len(indent) - 2, break_on_hyphens=False)
        # What a file is called may hold anything that is no line of a comment.
        lines += [f"{indent}# {''.join(c if c.isprintable() else '?' for c in e)}" for e in own]
    return lines


def _scalar(text: str) -> str:
    return yaml_text([text], inline=True).strip()[1:-1]


def flow(value: Any) -> str:
    """A value in one line of YAML."""
    if isinstance(value, Mapping | list):
        return yaml_text(value, inline=True).strip()
    return _scalar(value)
