"""Whose runs these are: those of a checkout, or of an experiment that DVC runs from it.

Several people, clones and experiments may show one study in one store, and each changes its own
runs only. A checkout is known by a random id in `work/`, which git ignores. It stays the same when
the folder is moved or mounted elsewhere, and is drawn anew in a copy: beside the id stand the
folder's path, device, inode and machine. An experiment is known by its name; where DVC runs it in a
temporary folder, this id and the default store are those of the checkout that it comes from.
"""

from __future__ import annotations

import getpass
import json
import os
import platform
import re
import uuid
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from pipelines.base.artifacts import canonical_json, read_json, write_whole
from pipelines.base.errors import PipelineError
from pipelines.study import WORK

OWNER_KEY = "sar.owner"
"""Tag of all runs and versions; its value is `Owner.key`."""

_FILE = WORK / "checkout.json"
_COPIES = Path(".dvc/tmp/exps")
"""Where DVC runs experiments of `--temp` and `--queue`, each in a copy of the repository."""
_PATIENCE = 60
_FACTS = ("path", "device", "inode", "machine")


@dataclass(frozen=True)
class Owner:
    checkout: str
    experiment: str | None
    """Its name in DVC; None outside one."""
    user: str

    @property
    def key(self) -> str:
        if self.experiment is None:
            return self.checkout
        return f"{self.checkout}-{re.sub(r'[^A-Za-z0-9-]', '_', self.experiment)}"

    def titled(self, title: str) -> str:
        return title if self.experiment is None else f"{title} ({self.experiment})"


def owner() -> Owner:
    """The owner of what is sent from the working directory.

    Raises:
        PipelineError: when the id of the checkout cannot be read.
        OSError: when it cannot be written.
    """
    return Owner(_checkout(home()), _experiment(), _user())


def home() -> Path:
    """The checkout: the working directory, or what it was in where DVC copied it from."""
    if _experiment() is None or "DVC_ROOT" not in os.environ:
        return Path()
    root = Path(os.environ["DVC_ROOT"]).resolve()
    here = Path.cwd()
    if not here.is_relative_to(root / _COPIES):
        return Path()
    copy = next(folder for folder in (here, *here.parents) if (folder / ".dvc").is_dir())
    return root / here.relative_to(copy)


def _experiment() -> str | None:
    return os.environ.get("DVC_EXP_NAME") or None


def _user() -> str:
    try:
        return getpass.getuser()
    # In a container a number may have no name; what Python raises then depends on its version.
    except (OSError, KeyError):
        return str(os.getuid())


def _checkout(folder: Path) -> str:
    """The id of the checkout `folder`, drawn where it has none of its own."""
    from filelock import FileLock

    file = folder / _FILE
    file.parent.mkdir(parents=True, exist_ok=True)
    with FileLock(f"{file}.lock", timeout=_PATIENCE):
        known = _read(file) if file.is_file() else None
        status = folder.stat()
        here = {
            "path": str(folder.resolve()),
            "device": status.st_dev,
            "inode": status.st_ino,
            "machine": platform.node(),
        }
        itself = known is not None and _is_itself(known, here)
        here["id"] = known["id"] if known is not None and itself else uuid.uuid4().hex[:12]
        if here != known:
            write_whole(file, canonical_json(here))
        return str(here["id"])


def _read(file: Path) -> dict[str, Any]:
    known = read_json(file)
    if not isinstance(known, dict) or not {"id", *_FACTS} <= known.keys():
        raise PipelineError(
            f"{file}: is damaged; expected a JSON object with the keys id, {', '.join(_FACTS)}. "
            "Remove it: later runs of this checkout then stand beside its earlier ones in MLflow"
        )
    return known


def _is_itself(known: dict[str, Any], here: dict[str, Any]) -> bool:
    """Whether `known` was written in the folder `here`, wherever that was then."""
    same_inode = known["inode"] == here["inode"]
    if known["device"] == here["device"]:
        # What is moved on a device keeps its inode.
        return bool(same_inode)
    if known["path"] != here["path"] and _is_at(known["path"], known["id"], here["path"]):
        return False
    # Another node of a cluster gives its own number to a shared device, and so may a restart.
    return bool(same_inode or known["machine"] == here["machine"])


def _is_at(path: str, checkout: str, here: str) -> bool:
    """Whether another folder than `here`, at `path`, still has the id."""
    try:
        found = json.loads((Path(path) / _FILE).read_text(encoding="utf-8"))
        return bool(found["id"] == checkout and not os.path.samefile(path, here))
    except (OSError, ValueError, KeyError, TypeError):
        return False
