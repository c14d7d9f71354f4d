"""Which study file the results in `results/NAME` are of: two files of one name would share them."""

from __future__ import annotations

import shlex
from pathlib import Path

from pipelines.base import locks
from pipelines.base.artifacts import write_whole
from pipelines.base.errors import PipelineError
from pipelines.study import WORK, Study

NAME = "study.txt"
"""The file in `results/NAME` that holds the path of the study file."""


def check_owner(study: Study) -> None:
    """Refuse the results of another study file of the same name, which is still there.

    Raises:
        PipelineError: naming both files.
    """
    record = study.results / NAME
    try:
        owner = record.read_text(encoding="utf-8").strip()
    except FileNotFoundError:
        return
    except (OSError, UnicodeDecodeError) as error:
        raise PipelineError(
            f"{record}: expected the path of a study file ({error}); remove it"
        ) from None
    if owner == _path(study) or not Path(owner).is_file():
        return
    away = shlex.join(["mv", str(study.results), f"{study.results}.other"])
    raise PipelineError(
        f"{study.results}: holds the results of the study {owner}, and {_path(study)} has the same "
        f"name; rename one of the two files, or move these results away: {away}"
    )


def claim(study: Study) -> None:
    """Write down that `results/NAME` is of this study file, before anything is put there.

    Raises:
        PipelineError: when it is of another one.
    """
    record = study.results / NAME
    text = f"{_path(study)}\n"
    record.parent.mkdir(parents=True, exist_ok=True)
    # The runs of a study begin together.
    with locks.held(WORK / "ownership.lock"):
        check_owner(study)
        if not record.is_file() or record.read_text(encoding="utf-8") != text:
            write_whole(record, text)  # Nothing was there, or the file was moved.


def _path(study: Study) -> str:
    """The path of the study file, one for all ways to say it; relative below the project's root."""
    path, root = study.path.resolve(), Path.cwd().resolve()
    return path.relative_to(root).as_posix() if path.is_relative_to(root) else path.as_posix()
