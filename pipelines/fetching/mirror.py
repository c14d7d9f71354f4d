"""An offline copy of what the network has: the folder that SAR_MIRROR names.

`<mirror>/<dataset>/<file>` for a published file, `<mirror>/<dataset>/<folder>/` for a folder of a
git repository.
"""

from __future__ import annotations

import os
from pathlib import Path

from pipelines.errors import PipelineError

VARIABLE = "SAR_MIRROR"


def folder(dataset: str) -> Path | None:
    """The mirror's folder of a data set, whether it exists or not; None without a mirror.

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
    return root / dataset
