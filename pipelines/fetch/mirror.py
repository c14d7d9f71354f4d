"""An offline copy of what the network has: the folder that SAR_MIRROR names.

`<mirror>/<dataset>/<file>` for a published file, `<mirror>/<dataset>/<folder>/` for a folder of a
git repository.
"""

from __future__ import annotations

import os
import sys
from pathlib import Path

from pipelines.base.errors import PipelineError

VARIABLE = "SAR_MIRROR"


def find(dataset: str, name: str) -> Path | None:
    """Where the mirror has a file or folder of a data set; None where it has not.

    Raises:
        PipelineError: when SAR_MIRROR names something that is not a folder.
    """
    value = os.environ.get(VARIABLE)
    if not value:
        return None
    root = Path(value).expanduser()
    if not root.is_dir():
        raise PipelineError(
            f"{VARIABLE}={value}: no such folder; name the folder that holds {dataset}/, or unset "
            f"{VARIABLE} to download"
        )
    path = root / dataset / name
    return path if path.exists() else None


def lacks(dataset: str, name: str) -> None:
    """Say that the network is asked although there is a mirror."""
    value = os.environ.get(VARIABLE)
    if value:
        path = Path(value).expanduser() / dataset / name
        print(f"{VARIABLE}: no {path}; going on to the network", file=sys.stderr, flush=True)
