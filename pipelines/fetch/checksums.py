"""What a file must be: by its data card, else as it was when it was first seen.

Files whose publishers name no checksum are recorded in `params/datasets/checksums.json`, which is
committed: everybody else then gets the same file, or an error.
"""

from __future__ import annotations

import hashlib
import sys
from pathlib import Path

from pipelines.base import locks
from pipelines.base.artifacts import canonical_json, write_whole
from pipelines.base.reading import read_json
from pipelines.study import CHECKSUMS, DOWNLOADS
from pipelines.study.cards import ArchivePart, Download, WeightsPart

ALGORITHMS = ("sha256", "sha1", "md5")

Expected = dict[str, str | int]
"""Any of `bytes`, `sha256`, `sha1`, `md5`; of a checksum the first digits may be all there is."""

_Recorded = dict[str, dict[str, Expected]]
"""By data set and file."""

_REMEDY = "restore it from the repository"
_CHUNK = 2**20


def expected(dataset: str, download: Download) -> Expected:
    """What the data card says of a file, and the record where the card has no checksum."""
    named = {key: getattr(download, key) for key in ("bytes", *ALGORITHMS)}
    given = {key: value for key, value in named.items() if value is not None}
    if _is_recorded(download):
        known = _noted(_recorded(), dataset, download)
        # Of a checksum, what is recorded is the whole and what the card has the beginning.
        return known | given | {key: known[key] for key in ALGORITHMS if key in known}
    return given


def mismatch(path: Path, expected: Expected) -> str | None:
    """In which way the file differs from what is expected; None when it does not."""
    size = path.stat().st_size
    if size != expected.get("bytes", size):
        return f"has {size} bytes, expected {expected['bytes']}"
    for name, digest in _digests(path, [key for key in ALGORITHMS if key in expected]).items():
        if not digest.startswith(str(expected[name])):
            return f"has the {name} {digest}, expected {expected[name]}"
    return None


def advice(download: Download) -> str:
    """What to do about a file that is not what was expected."""
    if _is_recorded(download):
        given = "stand in the model entry or " if isinstance(download, WeightsPart) else ""
        return (
            f"the expected values {given}are those first seen, in {CHECKSUMS}: where the new file "
            "is right, delete its entry there"
        )
    card = "model entry" if isinstance(download, WeightsPart) else "data card"
    return f"the expected values stand in the {card}"


def record(dataset: str, download: Download, path: Path) -> None:
    """Note what the file at `path` is, for a download of which nothing is known yet."""
    if not _is_recorded(download):
        return
    with locks.held(DOWNLOADS / "checksums.lock"):
        known = _recorded()
        if _noted(known, dataset, download):
            return
        seen: Expected = {"bytes": path.stat().st_size, **_digests(path, ["sha256"])}
        known.setdefault(dataset, {})[download.file] = seen
        write_whole(CHECKSUMS, canonical_json(known))
    print(
        f"{path}: nobody vouches for it; noted its sha256 in {CHECKSUMS}, which is to be committed",
        file=sys.stderr,
        flush=True,
    )


def _is_recorded(download: Download) -> bool:
    """Not what a card vouches for; nor a user's own archive, which may change as it likes."""
    own = isinstance(download, ArchivePart)
    in_part = isinstance(download, WeightsPart) and len(download.sha256) < 64
    return not own and (in_part or all(getattr(download, name) is None for name in ALGORITHMS))


def _noted(known: _Recorded, dataset: str, download: Download) -> Expected:
    """What was recorded of a file; nothing where the card now wants another one of that name."""
    noted = known.get(dataset, {}).get(download.file, {})
    return noted if str(noted.get("sha256", "")).startswith(download.sha256 or "") else {}


def _recorded() -> _Recorded:
    if not CHECKSUMS.exists():
        return {}
    known: _Recorded = read_json(CHECKSUMS, _Recorded, _REMEDY)
    return known


def _digests(path: Path, algorithms: list[str]) -> dict[str, str]:
    hashes = {name: hashlib.new(name, usedforsecurity=False) for name in algorithms}
    if hashes:
        with path.open("rb") as file:
            while chunk := file.read(_CHUNK):
                for each in hashes.values():
                    each.update(chunk)
    return {name: each.hexdigest() for name, each in hashes.items()}
