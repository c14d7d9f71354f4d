"""The list of all files of a publication with their sha256: `reports/<study>/manifest.json`.

Receipts vouch for what a stage wrote; the manifest for everything that is published, also for what
differs between replays, and that nothing is missing or was added.
"""

from __future__ import annotations

from pathlib import Path

from pipelines.base.artifacts import canonical_json, sha256_file, write_whole
from pipelines.base.reading import read_json

NAME = "manifest.json"
_REMEDY = "restore it from the repository, or publish the study again"


def write(folder: Path) -> None:
    """Write the manifest of all that lies in `folder` now."""
    write_whole(folder / NAME, canonical_json(_digests(folder)))


def faults(folder: Path) -> list[str]:
    """What in `folder` is not as its manifest says, each naming the file and what was expected."""
    path = folder / NAME
    if not path.is_file():
        return [f"{path}: not found; expected the sha256 of every file below {folder}"]
    expected, found = read_json(path, dict[str, str], _REMEDY), _digests(folder)
    wrong = []
    for name in sorted(expected.keys() | found.keys()):
        if name not in found:
            wrong.append(f"{folder / name}: not found; {path} lists it")
        elif name not in expected:
            wrong.append(f"{folder / name}: expected no such file; {path} does not list it")
        elif expected[name] != found[name]:
            wrong.append(
                f"{folder / name}: was changed after it was published; sha256 is {found[name]}, "
                f"expected {expected[name]}, as {path} says"
            )
    return wrong


def _digests(folder: Path) -> dict[str, str]:
    return {
        path.relative_to(folder).as_posix(): sha256_file(path)
        for path in sorted(folder.rglob("*"))
        if path.is_file() and path != folder / NAME
    }
