"""What of data sets and published weights is not on this machine yet, and what it takes.

Looks for names alone: whether a file is the right one, fetch checks.
"""

from __future__ import annotations

import os
import shutil
from collections.abc import Iterable
from pathlib import Path

from pipelines.fetch import listing, mirror
from pipelines.study import Dataset, Weights
from pipelines.study.cards import (
    ArchivePart,
    CommandPart,
    Download,
    FilesSource,
    FirstOf,
    FolderPart,
    GitPart,
    Part,
    UrlPart,
)


def missing_data(dataset: Dataset) -> list[str]:
    """A line for each part that fetch would have to get; none for data that are fetched.

    Raises:
        PipelineError: when SAR_MIRROR names something that is not a folder.
    """
    if dataset.fetched.is_file() or not isinstance(dataset.card.source, FilesSource):
        return []
    return [
        f"{dataset.name}: {line}"
        for part in dataset.card.source.parts.values()
        for line in _missing(part, dataset)
    ]


def missing_weights(every: Iterable[Weights]) -> list[str]:
    """A line for each file of published weights that fetch would have to get."""
    lines = {
        each.pretrained.file: f"{each.name}: {each.pretrained.file} from {each.sources[0]}"
        for each in every
        if not each.receipt.is_file() and not _here(each.pretrained.file, each)
    }
    return list(lines.values())


def _missing(part: Part | FirstOf, dataset: Dataset) -> list[str]:
    match part:
        case FirstOf():
            each = [_missing(one, dataset) for one in part.parts.values()]
            return [] if [] in each else [" or ".join("; ".join(lines) for lines in each)]
        case FolderPart():
            return [] if Path(part.path).is_dir() else [f"the folder {part.path}"]
        case ArchivePart():
            if Path(part.path).is_file() or _here(part.file, dataset):
                return []
            return [f"{part.path}" + (f", from {part.account}" if part.account else "")]
        case GitPart():
            sign = f"{part.place}/{listing.NAME}" if part.by_file else part.place
            what = " and ".join(part.files or [part.folder or "all"])
            return [] if _here(sign, dataset) else [f"{what} of {part.url}"]
        case UrlPart():
            return [] if _here(part.file, dataset) else [f"{part.file} from {part.urls[0]}"]
        case CommandPart():
            return _of_command(part, dataset)


def _of_command(part: CommandPart, dataset: Dataset) -> list[str]:
    files = [each for each in part.downloads if not _here(each.file, dataset)]
    if not files:
        return []
    lines = [f"{_names(files)}, by the program {part.command[0]}"]
    if shutil.which(part.command[0]) is None:
        lines.append(
            f"the program {part.command[0]}" + (f": {part.install}" if part.install else "")
        )
    unset = [name for name in part.credentials if name not in os.environ]
    if unset:
        account = f", of an account from {part.account}" if part.account else ""
        lines.append(
            f"{' and '.join(unset)} in the environment{account}, unless the program knows its user"
        )
    return lines


def _here(name: str, dataset: Dataset | Weights) -> bool:
    return (dataset.downloads / name).exists() or mirror.find(dataset.shelf, name) is not None


def _names(files: list[Download]) -> str:
    return " and ".join(file.file for file in files)
