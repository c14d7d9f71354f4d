"""What names of files and folders say: which split, whether it is a label, what is only affix."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterable, Sequence
from itertools import product
from pathlib import PurePosixPath
from typing import NamedTuple

from pipelines.prepare.patterns import one_form
from pipelines.study.digits import Split

_SPLITS: dict[Split, str] = {
    "train": r"train(?:ing)?",
    "val": r"val(?:id(?:ation)?)?|dev",
    "test": r"test(?:ing)?",
}
_AFTER = r"(?:\d*$|[^a-z]|annot|label|mask|image|img|set)"

_LABEL = re.compile(
    r"mask|label|annot|ground.?truth|segment|gtfine|gtcoarse|(?:^|[^a-z])(?:gt|seg|lbl)(?:[^a-z]|$)"
)
_EITHER = re.compile(
    r"left_?img_?8bit|gt(?:fine|coarse)|segmentation(?:class)?|ground.?truth|annotations?|annots?|"
    r"jpegimages|images?|imgs?|photos?|pictures?|masks?|labels?|(?<![a-z])(?:gt|seg|lbl|sat|rgb)(?![a-z])"
)
_KINDS = ((9, ("instance", "vis", "overlay", "depth", "edge")), (8, ("color", "colour")))
_STORED = {"id", "ids", "labelids", "index", "p", "l", "bin", "binary", "rgb"}
_SAMPLE = 300
_TRIED = 6


class Affixes(NamedTuple):
    """What stands around that part of a stem which an image and its label have in common."""

    before_image: str = ""
    after_image: str = ""
    before_label: str = ""
    after_label: str = ""

    def image_key(self, stem: str) -> str | None:
        return _inner(stem, self.before_image, self.after_image)

    def label_key(self, stem: str) -> str | None:
        return _inner(stem, self.before_label, self.after_label)

    @property
    def told(self) -> str:
        if not any(self):
            return "an image and its label have the same stem"
        image = f"{self.before_image}*{self.after_image}"
        return f"the label of {image} is {self.before_label}*{self.after_label}"


def split_of(path: str) -> Split | None:
    """The split that the folders of a path name; of several the innermost."""
    for folder in reversed(PurePosixPath(path).parts[:-1]):
        found = split_in(folder)
        if found is not None:
            return found
    return None


def split_in(name: str) -> Split | None:
    """The split that a name speaks of, such as train2017, val_images or testannot."""
    low = name.lower()
    if re.search(r"train_?val", low):
        return None
    for split, words in _SPLITS.items():
        if re.search(rf"(?:^|[^a-z])(?:{words}){_AFTER}", low):
            return split
    return None


def is_label(path: str) -> bool:
    """Whether a path speaks of masks, labels, annotations or ground truth."""
    return _LABEL.search(path.lower()) is not None


def stem_of(path: str) -> str:
    return one_form(PurePosixPath(path).stem)


def folders_key(path: str) -> tuple[str, ...]:
    """The folders of a path without what says image or label: equal for both of a pair."""
    plain = (_EITHER.sub("", part.lower()).strip("_-. ") for part in PurePosixPath(path).parts[:-1])
    return tuple(part for part in plain if part)


def find_affixes(images: Sequence[str], labels: Sequence[str]) -> Affixes:
    """The affixes by which most images have a label, of their stems alone; none where all is tied.

    What all images have in common may be an affix of theirs; that of a label is what is left beside
    an image's key. Of several kinds of labels for the same images (Cityscapes has four) that one is
    taken whose affix speaks of ids.
    """
    image_stems = [stem_of(path) for path in images]
    label_stems = [stem_of(path) for path in labels]
    step = max(1, len(label_stems) // _SAMPLE)
    before, after = _common(image_stems)
    best, best_rank = Affixes(), (0, 0, 0, 0)
    for first, last in product(dict.fromkeys(("", before)), dict.fromkeys(("", after))):
        keys = {_inner(stem, first, last) for stem in image_stems} - {None}
        votes: Counter[tuple[str, str]] = Counter()
        for stem in label_stems[::step]:
            votes.update(_around(stem, keys))
        for (c, d), _ in votes.most_common(_TRIED):
            found = Affixes(first, last, c, d)
            paired = len({found.label_key(stem) for stem in label_stems} & keys)
            rank = (paired, -_kind(c + d), -len(c + d), -len(first + last))
            if rank > best_rank:
                best, best_rank = found, rank
    return best


def _kind(affix: str) -> int:
    """How unlikely labels with this affix are to be class ids, beside others of the same images."""
    low = affix.lower()
    for rank, words in _KINDS:
        if any(word in low for word in words):
            return rank
    return 1 if "trainid" in low else 0


def speaks_of_kind(word: str) -> bool:
    """Whether a word says how a label is stored, and so is no class."""
    low = word.lower()
    return any(each in low for _, words in _KINDS for each in words) or low in _STORED


def _around(stem: str, keys: Iterable[str | None]) -> set[tuple[str, str]]:
    """What may stand before and after a key in a stem."""
    known = keys if isinstance(keys, set) else set(keys)
    places = ((i, j) for i in range(len(stem)) for j in range(i + 1, len(stem) + 1))
    return {(stem[:i], stem[j:]) for i, j in places if stem[i:j] in known}


def _common(stems: Sequence[str]) -> tuple[str, str]:
    """Words that all stems begin and end with: img_ of img_001 and img_002."""
    first, last = _beginning(stems), _beginning([stem[::-1] for stem in stems])[::-1]
    before = re.match(r".*(?:[_\-. ]|[A-Za-z](?=\d|$))", first)
    after = re.search(r"[_\-. ].*|(?<=\d)[A-Za-z].*|^[A-Za-z].*", last)
    whole = any(stem in (first, last) for stem in stems)
    return ("", "") if whole else (before[0] if before else "", after[0] if after else "")


def _beginning(stems: Sequence[str]) -> str:
    """The characters that all begin with: those of the first and the last in order."""
    least, most = min(stems, default=""), max(stems, default="")
    pairs = enumerate(zip(least, most, strict=False))
    return least[: next((place for place, (a, b) in pairs if a != b), min(len(least), len(most)))]


def _inner(stem: str, before: str, after: str) -> str | None:
    inside = len(stem) > len(before) + len(after)
    if not inside or not stem.startswith(before) or not stem.endswith(after):
        return None
    return stem[len(before) : len(stem) - len(after)]
