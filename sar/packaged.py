"""What the installed mmsegmentation package carries besides its code: configs and metafiles."""

from __future__ import annotations

from importlib.util import find_spec
from pathlib import Path

from sar.errors import SarError

__all__ = ["mmseg_configs"]


def mmseg_configs() -> Path:
    """The folder `.mim/configs` of the installed mmsegmentation, found without importing it.

    Raises:
        SarError: when it is not installed.
    """
    spec = find_spec("mmseg")
    if spec is None or spec.origin is None:
        raise SarError("mmseg: not installed; expected onedl-mmsegmentation")
    return Path(spec.origin).parent / ".mim" / "configs"
