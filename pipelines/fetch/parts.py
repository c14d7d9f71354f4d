"""All parts of a data card: had side by side, then put together below one folder.

A part is first had as a whole, verified, in a place that outlives a kill. Then its files are copied
or unpacked.
"""

from __future__ import annotations

import os
import shutil
import threading
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor, as_completed
from pathlib import Path

from pipelines.base.errors import PipelineError
from pipelines.fetch import checksums, listing, mirror, space
from pipelines.fetch.download import part_of
from pipelines.fetch.sources import Content, LocalFile, Work, bring_content, local_content
from pipelines.fetch.unpack import unpack
from pipelines.study import Dataset
from pipelines.study.cards import (
    ArchivePart,
    CommandPart,
    Download,
    FirstOf,
    FolderPart,
    GitPart,
    Part,
)

_AT_ONCE = 4


def fetch_parts(dataset: Dataset, files: Path, lock: int, allow_commands: bool = False) -> None:
    """Bring all parts of `dataset` below `files`, which exists and is empty.

    Args:
        lock: descriptor of the lock that is held on the data set, see `locks`.

    Raises:
        PipelineError: naming a part that cannot be had, why, and what to do.
    """
    parts = dataset.card.files.parts
    scratch = files.with_name("parts")
    work = Work(dataset, lock, threading.Event(), allow_commands)
    space.require(_needs(dataset))

    def bring(name: str) -> Content:
        where = f"{dataset.card_file}: source.parts.{name}"
        with space.reported(where):
            content = local_content(parts[name], work, where) or bring_content(
                parts[name], work, where
            )
            _place(content, scratch / name, where, work.stop)
        return content

    contents = _side_by_side(bring, list(parts), work.stop)
    for name, content in contents.items():
        with space.reported(f"{dataset.card_file}: source.parts.{name}"):
            _merge(scratch / name, files, name)
            for each in content:
                if isinstance(each, LocalFile):
                    checksums.record(dataset.shelf, each.download, each.path)
    shutil.rmtree(scratch)


def _side_by_side(
    bring: Callable[[str], Content], names: list[str], stop: threading.Event
) -> dict[str, Content]:
    with ThreadPoolExecutor(min(_AT_ONCE, len(names))) as pool:
        futures = {name: pool.submit(bring, name) for name in names}
        try:
            for future in as_completed(futures.values()):
                future.result()
        except BaseException:
            # What the others have so far is kept, and the same command goes on from there.
            stop.set()
            pool.shutdown(wait=False, cancel_futures=True)
            raise
    return {name: future.result() for name, future in futures.items()}


def _needs(dataset: Dataset) -> Iterator[tuple[Path, int]]:
    """Which bytes will be written where, as far as the card says."""
    for part in _chosen(dataset):
        match part:
            case GitPart():
                yield dataset.raw, part.bytes or 0
                if not _is_there(part, dataset):
                    yield dataset.downloads, part.bytes or 0
            case FolderPart():
                paths = Path(part.path).rglob("*")
                yield dataset.raw, sum(path.stat().st_size for path in paths if path.is_file())
            case CommandPart():
                for each in part.downloads:
                    yield from _download_needs(dataset, each)
            case _:
                yield from _download_needs(dataset, part)


def _is_there(part: GitPart, dataset: Dataset) -> bool:
    place = dataset.downloads / part.place
    return (place / listing.NAME if part.by_file else place).exists()


def _chosen(dataset: Dataset) -> Iterator[Part]:
    for part in dataset.card.files.parts.values():
        yield next(iter(part.parts.values())) if isinstance(part, FirstOf) else part


def _download_needs(dataset: Dataset, wanted: Download) -> Iterator[tuple[Path, int]]:
    yield dataset.raw, wanted.unpacked_bytes or wanted.bytes or 0
    target = dataset.downloads / wanted.file
    elsewhere = Path(wanted.path) if isinstance(wanted, ArchivePart) else target
    if mirror.find(dataset.shelf, wanted.file) or elsewhere.exists():
        return
    part = part_of(target)
    there = part.stat().st_size if part.is_file() else 0
    yield dataset.downloads, max(0, (wanted.bytes or 0) - there)


def _place(content: Content, target: Path, where: str, stop: threading.Event) -> None:
    """Copy or unpack all of `content` below `target`; what comes later replaces what is there."""
    target.mkdir(parents=True)
    for each in content:
        if not isinstance(each, LocalFile):
            for path in each.files:
                _copy(each.path / path, target / each.below / path)
        elif each.download.unpacked_bytes is not None:
            unpack(each.path, target, each.download.unpacked_bytes, where, stop)
        else:
            _copy(each.path, target / each.download.file)


def _copy(source: Path, target: Path) -> None:
    target.parent.mkdir(parents=True, exist_ok=True)
    shutil.copyfile(source, target)


def _merge(part: Path, files: Path, name: str) -> None:
    """Move all files of a part below `files`.

    Raises:
        PipelineError: when another part has a file of the same name and other content.
    """
    for source in sorted(path for path in part.rglob("*") if path.is_file()):
        below = source.relative_to(part)
        target = files / below
        if target.exists() and (not target.is_file() or not _same(source, target)):
            raise PipelineError(
                f"part {name} and one before it both have {below}, and not the same; "
                "expected parts without common files"
            )
        target.parent.mkdir(parents=True, exist_ok=True)
        os.replace(source, target)


def _same(one: Path, other: Path) -> bool:
    if one.stat().st_size != other.stat().st_size:
        return False
    with one.open("rb") as left, other.open("rb") as right:
        while chunk := left.read(2**20):
            if chunk != right.read(2**20):
                return False
    return True
