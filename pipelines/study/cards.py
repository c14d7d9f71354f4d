"""What may stand in a data card, `params/datasets/<name>.yaml`: strict models, no logic.

A card says what a data set is (classes, colours, licence), where its raw files come from (`parts`)
and how raw files become images with labels (`splits`, `labels`). A data set that needs no Python is
one such file.
"""

from __future__ import annotations

import re
from pathlib import PurePosixPath
from typing import Annotated, Literal, get_args

from pydantic import AfterValidator, Field, model_validator

from pipelines.base import metric_names
from pipelines.study.digits import DigitsSpec, Split
from pipelines.study.labels import CLASS, Labels
from pipelines.study.strict import Colour, Line, Name, Strict


def _below(path: str) -> str:
    parts = PurePosixPath(path).parts
    if not parts or path.startswith("/") or ".." in parts:
        raise ValueError("expected a path below a folder: not empty, not absolute, without ..")
    return path


RelativePath = Annotated[str, AfterValidator(_below)]
Hexadecimal = Annotated[str, Field(pattern=r"^[0-9a-f]+$")]
Sha256 = Annotated[Hexadecimal, Field(min_length=64, max_length=64)]
Sha1 = Annotated[Hexadecimal, Field(min_length=40, max_length=40)]
Md5 = Annotated[Hexadecimal, Field(min_length=32, max_length=32)]


class DigitsSource(Strict):
    """Scenes of the handwritten digits that scikit-learn bundles: nothing to download."""

    kind: Literal["digits"]
    """Says that the data is made, not fetched."""
    scenes: DigitsSpec
    """What the scenes are made of."""


class Download(Strict):
    """A published file: its addresses and what it must be.

    Without a checksum the first one seen is recorded in `params/datasets/checksums.json` and is
    expected from then on.
    """

    file: RelativePath
    """Its name: below `files/`, in the mirror, and among the downloads."""
    sha256: Sha256 | None = None
    """Expected of the file."""
    sha1: Sha1 | None = None
    """Expected of the file."""
    md5: Md5 | None = None
    """Expected of the file."""
    bytes: Annotated[int, Field(gt=0)] | None = None
    """Its size, where it is known: counted before the download, and verified after it."""
    unpack: bool = False
    """Take the file for a zip or tar archive, whose content goes into `files/` in its place."""
    unpacked_bytes: Annotated[int, Field(gt=0)] | None = None
    """An archive that holds more than this is refused."""

    @model_validator(mode="after")
    def _an_archive_has_a_bound(self) -> Download:
        if self.unpack and self.unpacked_bytes is None:
            raise ValueError("unpack needs unpacked_bytes, a bound on what the archive may hold")
        if not self.unpack and self.unpacked_bytes is not None:
            raise ValueError("unpacked_bytes goes with unpack: true")
        return self


class UrlPart(Download):
    kind: Literal["url"]
    """One file by HTTP."""
    urls: Annotated[list[Annotated[str, Field(pattern=r"^https?://")]], Field(min_length=1)]
    """Tried in order, until one gives the right file."""


class WeightsPart(UrlPart):
    """The file of a model entry's `pretrained`, of whose sha256 the first digits may be known."""

    urls: list[str]
    """Empty where a package has the file."""
    sha256: Annotated[Hexadecimal, Field(min_length=8, max_length=64)]


class GitPart(Strict):
    """A folder of a git repository at one commit, or some of its files.

    Of a whole folder all is fetched, and verified by the folder's id. With `files`, or for the
    repository's root, each file is verified by its own, as git's listing of the commit has it: the
    listing is kept beside the files as `tree.txt`.
    """

    kind: Literal["git"]
    """A folder of a git repository."""
    url: str
    """Of the repository, as git clones it."""
    commit: Sha1
    """All 40 digits."""
    folder: RelativePath | None = None
    """Below `files/` as in the repository; without it, the repository's root."""
    files: Annotated[list[RelativePath], Field(min_length=1)] | None = None
    """Which files of it, as paths below the folder in which `*`, `?` and `[...]` stand for
    characters other than a slash; without it, all."""
    tree: Sha1
    """The id that git gives to the folder's whole content."""
    bytes: Annotated[int, Field(gt=0)] | None = None
    """Size of the folder, where it is known: counted before the download."""

    @property
    def place(self) -> str:
        """Where it goes below `files/`, and is among the downloads and in the mirror."""
        return self.folder or "."

    @property
    def by_file(self) -> bool:
        """Whether each file is verified by itself."""
        return self.folder is None or self.files is not None


class CommandPart(Strict):
    """Files that a program of the data's publisher downloads, usually with an account."""

    kind: Literal["command"]
    """A publisher's own program."""
    command: Annotated[list[str], Field(min_length=1)]
    """`{folder}` stands for the folder where it leaves files, `{file}` for the one that is wanted:
    it runs once for each of `downloads` that is not there. It has no terminal."""
    downloads: Annotated[list[Download], Field(min_length=1)]
    """The files that it leaves."""
    install: str | None = None
    """How a user gets the program."""
    credentials: list[str] = []
    """Environment variables whose values it reads as lines of its input, where all are set; they
    are written nowhere. Without them the program has to know its user on its own."""
    account: str | None = None
    """Where a user gets an account."""


class FolderPart(Strict):
    """A folder that is on this machine already, such as a user's own images and masks."""

    kind: Literal["folder"]
    """A folder of this machine."""
    path: str
    """From the project's root, or absolute. Its content goes into `files/`."""
    below: RelativePath | None = None
    """A folder of `files/` into which the content goes instead, so that two folders with files of
    the same names keep apart."""


class ArchivePart(Download):
    """A file that is on this machine already, or that a person has to put there.

    Without a checksum it may be any, and a changed one is fetched again.
    """

    kind: Literal["archive"]
    """A file of this machine."""
    path: str
    """From the project's root, or absolute."""
    account: str | None = None
    """Where a user can get it."""


Part = Annotated[
    UrlPart | GitPart | CommandPart | FolderPart | ArchivePart, Field(discriminator="kind")
]


Published = Annotated[UrlPart | GitPart | CommandPart, Field(discriminator="kind")]


class FirstOf(Strict):
    """Parts of which one is enough: the first that can be had.

    None is a user's own folder or archive, since a change of it has to be seen before fetch runs.
    """

    kind: Literal["first_of"]
    """Several ways to the same files."""
    parts: Annotated[dict[Name, Published], Field(min_length=2)]
    """In the order in which they are tried."""


def _places(part: Part | FirstOf) -> set[PurePosixPath]:
    """What a part is called among the downloads and in the mirror."""
    match part:
        case FirstOf():
            return set().union(*map(_places, part.parts.values()))
        case CommandPart():
            return {PurePosixPath(each.file) for each in part.downloads}
        case GitPart():
            return {PurePosixPath(part.place)}
        case Download():
            return {PurePosixPath(part.file)}
    return set()


Patterns = Annotated[list[str], Field(min_length=1)]


class Pairs(Strict):
    """Which files are the images of a split, and which label belongs to each.

    `images` and `labels` are folders, or paths whose `*` stand for parts of a name, and whose `**`
    for any number of folders, none among them: what a star of `images` matches replaces the same
    star of `labels`. A folder's own files count, not those of its subfolders; in folders, an
    image's label has its stem. Names that Unicode writes in two ways (é) are the same name.
    An image keeps its stem as its name; where two of a split have one stem, all of that split are
    named by their paths, with `__` for each slash.

    The JSON of Pascal-Context says itself which images a split has, whatever `labels` and `list`.
    """

    images: RelativePath
    """Folder or pattern of the images, below `files/`."""
    labels: RelativePath
    """Folder or pattern of their labels, below `files/`. With `encoding: coco` it is the JSON file;
    with `class_masks`, `{class}` stands in it for what a class is called."""
    list: RelativePath | None = None
    """A text file (UTF-8, or UTF-16 with its mark) with a line an image: the stem alone,
    or the path of the image below `files/`, and then that of its label if the image has another
    than by the rule above. Without a list, all that `images` matches."""
    strip: str | None = None
    """What the list's paths begin with and the files' paths do not."""
    without: Patterns | None = None
    """Images that are left out, as patterns of their stems, such as `0006R0_*`."""

    @model_validator(mode="after")
    def _stars_agree(self) -> Pairs:
        for pattern in (self.images, self.labels):
            if any("**" in part and part != "**" for part in pattern.split("/")):
                raise ValueError(f"{pattern}: ** stands for folders; expected it between slashes")
            if pattern.endswith("**"):
                raise ValueError(f"{pattern}: expected the files' names after **, such as *.png")
        stars = [re.findall(r"\*+", pattern) for pattern in (self.images, self.labels)]
        if stars[0] != stars[1]:
            counts = ["no star" if not each else " ".join(each) for each in stars]
            raise ValueError(
                f"images has {counts[0]} and labels {counts[1]}; expected the same stars in both"
            )
        if self.strip is not None and self.list is None:
            raise ValueError("strip goes with list: it shortens the paths of a list")
        return self


class FilesSource(Strict):
    """Images and labels in files, published somewhere or a user's own."""

    kind: Literal["files"]
    """Says that images and labels are files."""
    parts: Annotated[
        dict[Name, Annotated[Part | FirstOf, Field(discriminator="kind")]], Field(min_length=1)
    ]
    """Where the raw files come from, by name; each is fetched and verified by itself."""
    downloads: Name | None = None
    """The data set whose downloads, and whose folder in a mirror, these parts share, so that other
    splits of the same files need no second download; without it, its own."""
    splits: Annotated[dict[Split, Pairs], Field(min_length=1)]
    """Which files are the pairs of `train`, which there has to be, of `val` and of `test`."""
    labels: Labels = Labels()
    """How a raw label is read."""
    exif: Literal["turn", "ignore"] | None = None
    """What the EXIF orientation of images and masks does, in all of the data set: `turn` shows each
    as its own tag says, `ignore` leaves all as they are stored. Without it, the sizes of images and
    masks tell which of the two was meant; where they do not, or contradict each other, prepare asks
    for it."""
    max_pixels: Annotated[int, Field(gt=0, le=2**31)] = 178_956_970
    """Images and labels of more pixels are refused: a small file may be made to fill the memory."""
    faulty: Literal["error", "skip"] = "error"
    """Whether a pair that cannot be used stops prepare, or is left out and counted."""
    allow: list[Literal["shared_images", "absent_classes"]] = []
    """What is then no error: an image with the same pixels in two splits, or a class without a
    pixel in all of them."""

    @model_validator(mode="after")
    def _parts_keep_apart(self) -> FilesSource:
        """They are fetched side by side, into one folder of downloads."""
        taken: dict[PurePosixPath, str] = {}
        for name, part in self.parts.items():
            for path in _places(part):
                for other, owner in taken.items():
                    if owner != name and (path.is_relative_to(other) or other.is_relative_to(path)):
                        raise ValueError(
                            f"parts {owner} and {name} both have {path}; expected file and folder "
                            "names of their own"
                        )
                taken[path] = name
        return self

    @model_validator(mode="after")
    def _labels_are_where_the_encoding_has_them(self) -> FilesSource:
        encoding = self.labels.encoding
        for split, spec in self.splits.items():
            if (CLASS in spec.labels) != (encoding == "class_masks"):
                raise ValueError(
                    f"splits.{split}.labels is {spec.labels}: {CLASS} in it goes with "
                    "labels.encoding: class_masks, one file a class"
                )
            if encoding == "coco" and not spec.labels.endswith(".json"):
                raise ValueError(
                    f"splits.{split}.labels is {spec.labels}; expected the COCO file, such as "
                    f"annotations/{split}.json"
                )
        return self

    @model_validator(mode="after")
    def _trains(self) -> FilesSource:
        if "train" not in self.splits:
            raise ValueError(f"splits has {', '.join(self.splits)}; expected train among them")
        return self


class Subset(Strict):
    """Images of a split that are also looked at alone, such as one sequence of a video."""

    split: Split
    """The split whose images these are."""
    images: Annotated[str, Field(min_length=1)]
    """Pattern of their stems, such as `Seq05VD_*`."""


class DataCard(Strict):
    """`params/datasets/<name>.yaml`: what a data set is and where it comes from."""

    title: Line
    """What the data set is called in reports."""
    classes: Annotated[list[Line], Field(min_length=2, max_length=255)]
    """Names in the order of the class ids, from 0."""
    palette: list[Colour]
    """A colour (red, green, blue) for each class, in pictures, and in masks of `encoding:
    colour`."""
    ignore_index: Annotated[int, Field(ge=0, le=255)] = 255
    """Class id of void pixels, which neither train nor count."""
    source: Annotated[DigitsSource | FilesSource, Field(discriminator="kind")]
    """Where images and labels come from."""
    subsets: dict[Name, Subset] = {}
    """By the name that a study's `evaluation.subsets` gives."""
    digests: dict[Split, str] = {}
    """sha256 over the decoded arrays of each split; prepare refuses other data."""
    licence: str
    """As the publisher states it."""
    citation: str
    """What to cite."""
    homepage: str | None = None
    """Where the data set is described."""
    withheld_images: str | None = None
    """Why nothing that is published may show the images, such as rights that are not known. Then
    galleries show labels and predictions alone, and print this."""

    @property
    def splits(self) -> list[Split]:
        """The splits that the data set has, in the order train, val, test."""
        source = self.source
        has = source.splits if isinstance(source, FilesSource) else source.scenes.scenes
        return [split for split in get_args(Split) if split in has]

    @property
    def files(self) -> FilesSource:
        """The source of a data set that comes as files.

        Raises:
            TypeError: for a data set that is drawn.
        """
        if not isinstance(self.source, FilesSource):
            raise TypeError(f"a card of kind {self.source.kind} has no raw files")
        return self.source

    @property
    def scenes(self) -> DigitsSpec:
        """How the scenes of a data set that is drawn look.

        Raises:
            TypeError: for a data set that comes as files.
        """
        if not isinstance(self.source, DigitsSource):
            raise TypeError(f"a card of kind {self.source.kind} has no scenes")
        return self.source.scenes

    @model_validator(mode="after")
    def _one_colour_a_class(self) -> DataCard:
        if len(self.palette) != len(self.classes):
            raise ValueError(
                f"palette has {len(self.palette)} colours for {len(self.classes)} classes; "
                "expected one a class"
            )
        if len(set(self.classes)) != len(self.classes):
            raise ValueError("classes holds a name twice; expected distinct names")
        if self.ignore_index < len(self.classes):
            raise ValueError(
                f"ignore_index {self.ignore_index} is the id of class "
                f"{self.classes[self.ignore_index]!r}; expected an id that no class has"
            )
        return self

    @model_validator(mode="after")
    def _subsets_have_splits_and_names_of_their_own(self) -> DataCard:
        for name, subset in self.subsets.items():
            if subset.split not in self.splits:
                raise ValueError(
                    f"subsets.{name}.split is {subset.split}; the data set has "
                    f"{', '.join(self.splits)}"
                )
            score = metric_names.of_subset(name)
            if metric_names.find(score) is not None:
                raise ValueError(f"subsets.{name}: {score} is another score; rename it")
        return self

    @model_validator(mode="after")
    def _labels_fit_the_classes(self) -> DataCard:
        if not isinstance(self.source, FilesSource):
            return self
        labels, count = self.source.labels, len(self.classes)
        for raw, index in (labels.mapping or {}).items():
            if index >= count:
                raise ValueError(
                    f"source.labels.mapping.{raw} is {index}, expected 0 to {count - 1}"
                )
        for key, name in labels.class_names():
            if name not in self.classes:
                raise ValueError(f"source.labels.{key} is {name!r}, which is none of the classes")
        if labels.encoding == "colour":
            colours = [tuple(c) for c in (*self.palette, *labels.ignore_colours)]
            twice = next((c for c in colours if colours.count(c) > 1), None)
            if twice is not None:
                raise ValueError(f"{list(twice)} is the colour of two things; expected one each")
        return self
