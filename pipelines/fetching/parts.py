"""Which part of a data card is had in which way, and how its files come below `files/`.

Every part is first had as a whole, verified, in a place that outlives a kill: the mirror, the
downloads, or where it lies on this machine. Then its files are copied or unpacked.
"""

from __future__ import annotations

import shutil
from collections.abc import Iterable
from pathlib import Path, PurePosixPath

from pipelines.cards import FirstOf, FolderPart, GitPart, Part
from pipelines.errors import PipelineError
from pipelines.fetching import git, locks, mirror
from pipelines.fetching.trees import files_with_id, tree_id
from pipelines.study import Dataset


def fetch_parts(dataset: Dataset, files: Path) -> None:
    """Bring all parts of `dataset` below `files`.

    Raises:
        PipelineError: naming the part that cannot be had, why, and what to do.
    """
    with locks.held(dataset.downloads.parent / f"{dataset.name}.lock") as lock:
        for name, part in dataset.card.source.parts.items():
            where = f"{dataset.card_file}: source.parts.{name}"
            _bring(dataset, part, files, where, lock)


def _bring(dataset: Dataset, part: Part | FirstOf, files: Path, where: str, lock: int) -> None:
    match part:
        case GitPart():
            _copy(*_git(dataset, part, where, lock), files / part.folder)
        case FolderPart():
            folder = Path(part.path)
            if not folder.is_dir():
                raise PipelineError(f"{where}: {folder}: no such folder; correct path in the card")
            paths = [p.relative_to(folder) for p in folder.rglob("*") if p.is_file()]
            _copy(folder, paths, files)
        case _:
            raise PipelineError(f"{where}: kind {part.kind} is not supported yet")


def _git(
    dataset: Dataset, part: GitPart, where: str, lock: int
) -> tuple[Path, list[PurePosixPath]]:
    """A folder with the content of `part`, and which of its files count."""
    mirrored = mirror.folder(dataset.name)
    if mirrored is not None and (mirrored / part.folder).is_dir():
        folder = mirrored / part.folder
        chosen = files_with_id(folder, part.tree)
        if chosen is None:
            raise PipelineError(
                f"{where}: the mirror's {folder} has git's tree id {tree_id(folder)}, expected "
                f"{part.tree}; put the right files there or unset {mirror.VARIABLE}"
            )
        return folder, chosen
    folder = dataset.downloads / part.folder
    chosen = files_with_id(folder, part.tree) if folder.is_dir() else None
    if chosen is None:
        shutil.rmtree(folder, ignore_errors=True)
        git.fetch_folder(part, folder, where, lock)
        chosen = files_with_id(folder, part.tree)
    return folder, chosen


def _copy(folder: Path, paths: Iterable[PurePosixPath], target: Path) -> None:
    for path in paths:
        (target / path).parent.mkdir(parents=True, exist_ok=True)
        shutil.copyfile(folder / path, target / path)
