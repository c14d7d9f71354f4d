"""The installed mmsegmentation package: its configs and metafiles, and its registries."""

from __future__ import annotations

import contextlib
import io
from importlib.util import find_spec
from pathlib import Path

from sar.errors import SarError

__all__ = ["mmseg_configs", "register_mmseg"]


def mmseg_configs() -> Path:
    """The folder `.mim/configs` of the installed mmsegmentation, found without importing it.

    Raises:
        SarError: when it is not installed.
    """
    spec = find_spec("mmseg")
    if spec is None or spec.origin is None:
        raise SarError("mmseg: not installed; expected onedl-mmsegmentation")
    return Path(spec.origin).parent / ".mim" / "configs"


def register_mmseg(*, init_default_scope: bool = True) -> None:
    """`mmseg.utils.register_all_modules`, without what it prints of an optional package."""
    from mmseg.utils import register_all_modules

    with contextlib.redirect_stdout(io.StringIO()):
        import mmseg.datasets  # noqa: F401  it prints "Could not import OneDL", twice
    register_all_modules(init_default_scope)
