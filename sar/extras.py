"""The optional packages of `sar`: one that is missing is told with the extra that brings it."""

from __future__ import annotations

from importlib.util import find_spec

from sar.errors import SarError

__all__ = ["need"]


def need(extra: str, *modules: str, why: str) -> None:
    """Check that modules can be imported, without importing them.

    Args:
        extra: the extra of this package that installs them.
        modules: names of top-level modules.
        why: what they are needed for, the beginning of the message.

    Raises:
        SarError: naming those that are not installed, and the command that installs them.
    """
    missing = [name for name in modules if find_spec(name) is None]
    if missing:
        raise SarError(
            f"{why}: {', '.join(missing)} not installed; "
            f"expected: pip install 'semantic-anchors[{extra}]'"
        )
