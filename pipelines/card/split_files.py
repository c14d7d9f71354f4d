"""Lists of splits that lie beside the data: train.txt, ImageSets/Segmentation/val.txt, ..."""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence
from pathlib import Path, PurePosixPath

from pipelines.card.words import split_in, stem_of
from pipelines.prepare.faults import Unusable
from pipelines.prepare.lists import read_text
from pipelines.prepare.patterns import one_form
from pipelines.study.digits import Split

_BYTES = 50_000_000


def find_lists(
    folders: Iterable[Path], images: Sequence[str], before: str, after: str
) -> tuple[dict[str, Split], list[str]]:
    """The split of each image by the lists in the first folder that has one of train.

    A line begins with a path, a name or a stem of an image, with or without what is common to all
    images' stems.

    Returns:
        Splits by image, empty where there are no such lists; and lines on what was found.
    """
    of_name: dict[str, list[str]] = {}
    for image in images:
        stem = stem_of(image)
        short = stem.removeprefix(before).removesuffix(after)
        for name in {one_form(PurePosixPath(image).name), stem, short}:
            of_name.setdefault(name, []).append(image)
    unused: list[str] = []
    for folder in folders:
        lists: dict[Split, Path] = {}
        for path in sorted(folder.glob("*.txt"), reverse=True):
            split = split_in(path.stem)
            if split is not None and path.stat().st_size < _BYTES:
                lists[split] = path  # train.txt rather than train_more.txt
        both = [path for path in folder.glob("*.txt") if re.search("train_?val", path.stem, re.I)]
        if "train" not in lists and both and "test" in lists:
            lists = {"train": min(both), "test": lists["test"]}
        if "train" not in lists or len(lists) < 2:
            continue
        splits: dict[str, Split] = {}
        told = []
        for split_name, file in lists.items():
            try:
                lines = [line.strip() for line in read_text(file).splitlines() if line.strip()]
            except Unusable as reason:
                told.append(f"{file} {reason}: not used")
                continue
            meant = [_meant(line, of_name) for line in lines]
            named = [each for each in meant if each is not None]
            if lines and not named:
                told.append(
                    f"{file} was not used: its lines, such as {lines[0][:60]}, name no image with "
                    "a label"
                )
                continue
            splits.update(dict.fromkeys(named, split_name))
            lost = len(lines) - len(named)
            told.append(
                f"{split_name}: {len(named)} images of {file.name}"
                + (f", whose other {lost} lines name no image with a label" if lost else "")
            )
        if "train" in splits.values() and len(set(splits.values())) > 1:
            return splits, told
        unused += [
            line if "not used" in line else f"{line}: not used, since no other list divides them"
            for line in told
        ]
    return {}, unused


def _meant(line: str, of_name: dict[str, list[str]]) -> str | None:
    """The image of a line; of several with one name the one whose path ends as the line says."""
    first = line.split("\t")[0] if "\t" in line else line
    for word in (first, first.split()[0]):
        path = PurePosixPath(one_form(word.strip().replace("\\", "/")))
        found = of_name.get(path.name) or of_name.get(path.stem) or []
        if len(found) == 1:
            return found[0]
        wanted = path.with_suffix("").as_posix().lstrip("./")
        ending = [f for f in found if f"/{PurePosixPath(f).with_suffix('')}".endswith(f"/{wanted}")]
        if len(ending) == 1:
            return ending[0]
    return None
