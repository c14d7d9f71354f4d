"""The pairs of each split, wherever a data set has its labels: a file each, or one for many."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path, PurePosixPath

from pipelines.prepare import pascal_context
from pipelines.prepare.coco import read_coco
from pipelines.prepare.faults import Fault
from pipelines.prepare.labels import Label
from pipelines.prepare.masks import ClassFiles
from pipelines.prepare.pairs import Pair, Result, chosen, find_pairs, none_such, paired
from pipelines.prepare.pascal_context import Annotations
from pipelines.prepare.patterns import SUFFIXES, Key, left_out, matches, one_form, top_of
from pipelines.study.cards import FilesSource, Pairs
from pipelines.study.digits import Split
from pipelines.study.labels import CLASS

_MATLAB = {".mat"}
LABEL_SUFFIXES = {
    "matrix": _MATLAB,
    "pascal_context": _MATLAB,
    "array": {".npy"},
    "labelme": {".json"},
}
"""What counts as a label in a folder, of encodings that are no images."""


def find_all(
    files: Path, source: FilesSource, classes: Sequence[str] = ()
) -> dict[Split, tuple[list[Pair], list[Fault]]]:
    """What `find_split` finds for each split.

    Args:
        files: the folder of the raw files.
        classes: names of the classes, of which `class_masks` has a file each.
    """
    json = files / pascal_context.JSON
    if source.labels.encoding != "pascal_context" or not json.is_file():
        return {split: find_split(files, split, source, classes) for split in source.splits}
    annotations = pascal_context.read_annotations(json)
    return {
        split: _annotated(annotations, files, split, spec) for split, spec in source.splits.items()
    }


def find_split(files: Path, split: Split, source: FilesSource, classes: Sequence[str]) -> Result:
    """The pairs of a split, and what is wrong with all others."""
    spec, labels = source.splits[split], source.labels
    match labels.encoding:
        case "coco":
            return _of_coco(files, split, spec, source.max_pixels)
        case "class_masks":
            words = [
                *labels.names,
                *(each for each in classes if each not in labels.names.values()),
            ]
            found, faults = _class_files(files, split, spec, words, labels.background)
            return ([], faults) if faults else paired(files, split, spec, found)
    suffixes = LABEL_SUFFIXES.get(labels.encoding, SUFFIXES)
    tops = {top_of(path) for each in source.splits.values() for path in (each.images, each.labels)}
    return find_pairs(files, split, spec, suffixes, tops)


def not_looked_at(
    files: Path, source: FilesSource, found: Mapping[Split, Result]
) -> dict[Split, dict[str, dict[str, int]]]:
    """How many files of a split's folders have other suffixes, by folder and suffix.

    And how many images of them no COCO file names, of all that are `found`.
    """
    suffixes = LABEL_SUFFIXES.get(source.labels.encoding, SUFFIXES)
    counts: dict[Split, dict[str, dict[str, int]]] = {}
    for split, spec in source.splits.items():
        both = SUFFIXES | suffixes if spec.images == spec.labels else None
        for folder, own in ((spec.images, both or SUFFIXES), (spec.labels, both or suffixes)):
            if others := left_out(files, folder, own):
                counts.setdefault(split, {})[folder] = dict(sorted(others.items()))
    if source.labels.encoding == "coco":
        named = {pair.image for pairs, _ in found.values() for pair in pairs}
        named |= {fault.file for _, faults in found.values() for fault in faults}
        for split, spec in source.splits.items():
            rest = matches(files, spec.images).keys() - named
            if rest:
                counts.setdefault(split, {}).setdefault(spec.images, {})["in no file"] = len(rest)
            named |= rest  # Those of a folder of several splits are told once.
    return counts


def _annotated(annotations: Annotations, files: Path, split: str, spec: Pairs) -> Result:
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


def _of_coco(files: Path, split: str, spec: Pairs, max_pixels: int) -> Result:
    """The pairs of the images that a COCO file names: all, or those of the list."""
    if not (files / spec.labels).is_file():
        return [], [none_such(files, split, "labels", spec.labels, (".json",))]
    named, faults = read_coco(files, spec.labels, max_pixels)
    forms = {one_form(image): image for image in matches(files, spec.images)}
    images: dict[str, Key] = {}
    labels: dict[Label, Key] = {}
    for name, label in sorted(named.items()):
        image = f"{spec.images.rstrip('/')}/{name}"
        image = forms.get(one_form(image), image)
        if (files / image).is_file():
            images[image] = labels[label] = (image,)
        else:
            faults.append(Fault(image, f"is not there, but {spec.labels} names it"))
    if not images:
        faults.append(Fault(spec.labels, f"gives split {split} no image", fatal=True))
        return [], faults
    pairs, others = chosen(files, split, spec, images, labels)
    return pairs, faults + others


def _class_files(
    files: Path, split: str, spec: Pairs, words: Sequence[str], background: str | None
) -> tuple[dict[Label, Key], list[Fault]]:
    """The black and white images that belong together, and the classes that have none."""
    parts: dict[Key, list[tuple[str, str]]] = {}
    taken: set[str] = set()
    faults = []
    # `big_car` before `car`, for which *_car stands too.
    for word in sorted(words, key=lambda word: (-len(word), word)):
        pattern = spec.labels.replace(CLASS, word)
        found = {p: key for p, key in matches(files, pattern).items() if p not in taken}
        taken |= found.keys()
        if not found and word != background:
            reason = (
                f"no such files of class {word!r}; expected a mask for each class in which it is, "
                "source.labels.names for what the files call it, and background for a class that "
                "has none"
            )
            faults.append(Fault(pattern, reason, fatal=True))
        for path, key in found.items():
            parts.setdefault(key, []).append((word, path))
    return {ClassFiles(tuple(own)): key for key, own in parts.items()}, faults
