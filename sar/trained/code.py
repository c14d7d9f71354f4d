"""Python files that came with a trained model: the code of what it is made of.

They are a program of whoever trained the model, and run only for those who say that they trust it.
Then they are modules under the names that they had where the model was trained.
"""

from __future__ import annotations

import sys
from collections.abc import Mapping, Sequence
from importlib.abc import InspectLoader, MetaPathFinder
from importlib.machinery import ModuleSpec
from importlib.util import spec_from_loader
from pathlib import Path
from types import ModuleType
from typing import Any

from sar.errors import SarError

__all__ = ["allow", "checked", "module_name"]


def module_name(file: str) -> str:
    """By which name a file such as ``my_models/net.py`` is imported."""
    return file.removesuffix(".py").removesuffix("/__init__").replace("/", ".")


def checked(code: Any, where: str) -> dict[str, str]:
    """Texts of Python files by their paths.

    Raises:
        SarError: for anything else.
    """
    if not isinstance(code, Mapping):
        raise SarError(f"{where}: expected texts of Python files by their paths")
    for file, text in code.items():
        names = str(file).removesuffix(".py").split("/")
        if not str(file).endswith(".py") or not all(map(str.isidentifier, names)):
            raise SarError(f"{where}: {file!r}: expected a path of names that Python can import")
        if not isinstance(text, str):
            raise SarError(f"{where}: {file!r}: expected the text of a Python file")
    return {str(file): str(text) for file, text in code.items()}


def allow(code: Mapping[str, str], *, trusted: bool) -> None:
    """Make modules of a model's files, for it to import; nothing for one without.

    Raises:
        SarError: where it has some and ``trusted`` is false, or another module has such a name.
    """
    if not code:
        return
    if not trusted:
        raise SarError(
            f"the model comes with Python code of its own ({', '.join(code)}), which nobody here "
            "has looked at and which could do anything; read it, and if you trust it, say so: "
            "--trust-code, or trust_code=True"
        )
    new = {}
    for file, text in code.items():
        name = module_name(file)
        if name not in sys.modules:
            new[name] = (file, text)
        elif _source(sys.modules[name]) != text:
            raise SarError(
                f"the model's {file} is the module {name}, and another one of that name is loaded "
                "already; use the model in a process of its own"
            )
    if new:
        sys.meta_path.insert(0, _Carried(new))


class _Carried(MetaPathFinder, InspectLoader):
    """Finds the modules of files that are texts, before those on the disk, and runs them."""

    def __init__(self, files: Mapping[str, tuple[str, str]]) -> None:
        self._files = files

    def find_spec(
        self, fullname: str, path: Sequence[str] | None, target: ModuleType | None = None
    ) -> ModuleSpec | None:
        above = any(name.startswith(f"{fullname}.") for name in self._files)
        if fullname not in self._files and not above:
            return None
        return spec_from_loader(fullname, self, is_package=self.is_package(fullname))

    def is_package(self, fullname: str) -> bool:
        file, _ = self._files.get(fullname, ("__init__.py", ""))
        return file.endswith("__init__.py")

    def get_source(self, fullname: str) -> str:
        return self._files.get(fullname, ("", ""))[1]


def _source(module: ModuleType) -> str | None:
    """The text that a module was made of; None where that cannot be told."""
    loader: Any = getattr(module, "__loader__", None)
    if isinstance(loader, _Carried):
        return loader.get_source(module.__name__)
    file = getattr(module, "__file__", None)
    try:
        return None if file is None else Path(file).read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError):
        return None
