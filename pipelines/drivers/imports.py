"""Which files a module of a checkout imports, and what of a file can change what it does.

Read from the sources: nothing is imported. A file is parsed once as long as it stays the same: what
was found is kept in `work/`, so that planning takes no time.
"""

from __future__ import annotations

import ast
import functools
import hashlib
import json
from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

from pipelines.base.artifacts import write_whole
from pipelines.study import WORK

_CACHE = WORK / "imports.json"
_FORMAT = 1


class Source(NamedTuple):
    """What is known of a Python file."""

    imports: list[str]
    """Dotted names that it imports, each name of `from a import b` as `a.b`; for typing alone
    left out. Relative ones begin with dots."""
    fingerprint: str
    """sha256 of its code without comments, docstrings and layout."""


def closure(
    roots: Iterable[str],
    places: Sequence[Path],
    skip: Collection[str] = (),
    plain: Collection[str] = (),
) -> list[Path]:
    """The files of the modules `roots` and of all that they import, directly or through others.

    Args:
        roots: dotted names of modules.
        places: the folders that are searched, in order; what lies elsewhere (installed packages) is
            left out.
        skip: modules and packages that are left out, with what only they import.
        plain: packages whose `__init__.py`, and those of the packages in them, count only where
            something is imported from them: that they are run on the way to a module decides
            nothing.
    """
    found: dict[str, Path] = {}
    waiting = list(roots)
    while waiting:
        name = waiting.pop()
        if name in found or _below(name, skip):
            continue
        path = _find(places, name)
        if path is None:
            continue
        found[name] = path
        if not _below(name, plain):
            waiting += _parents(name)
        waiting += [module_of(each, places) for each in named(path, name)]
    return sorted({*found.values(), *_templates(found.values())})


def named(path: Path, name: str) -> list[str]:
    """The absolute names that the module `name` at `path` imports."""
    package = name if path.name == "__init__.py" else name.rpartition(".")[0]
    return [_absolute(each, package) for each in read(path).imports]


def module_of(name: str, places: Sequence[Path]) -> str:
    """The module that an imported name is: `from a import b` gives a module b of a, or a name of
    a."""
    return name if _find(places, name) is not None else name.rpartition(".")[0]


def fingerprint(paths: Iterable[Path], base: Path) -> str:
    """sha256 of files by their paths below `base`: of code without comments, docstrings and layout,
    of anything else byte by byte."""
    digest = hashlib.sha256()
    for path in sorted(paths):
        content = (
            read(path).fingerprint
            if path.suffix == ".py"
            else hashlib.sha256(path.read_bytes()).hexdigest()
        )
        name = path.relative_to(base) if path.is_relative_to(base) else path
        digest.update(f"{name.as_posix()}\0{content}\0".encode())
    return digest.hexdigest()


def read(path: Path) -> Source:
    """What is known of the file at `path`, which may have been found earlier."""
    status = path.stat()
    key, state = str(path), [status.st_size, status.st_mtime_ns]
    known = _cache()
    if key not in known or known[key][0] != state:
        known[key] = [state, *parse(path.read_text(encoding="utf-8"))]
        _changed.add(key)
    return Source(*known[key][1:])


def parse(text: str) -> Source:
    """What there is to know of Python source.

    Raises:
        SyntaxError: when it is none.
    """
    tree = ast.parse(text)
    imports = sorted(set(_imports(tree)))
    for node in ast.walk(tree):
        _strip_docstrings(node)
    return Source(imports, hashlib.sha256(ast.unparse(tree).encode()).hexdigest())


def save() -> None:
    """Keep what was found for the next process; without a word where that is not possible."""
    if not _changed:
        return
    try:
        _CACHE.parent.mkdir(parents=True, exist_ok=True)
        write_whole(_CACHE, json.dumps({"format": _FORMAT, "files": _cache()}))
    except OSError:
        return
    _changed.clear()


_changed: set[str] = set()


@functools.cache
def _cache() -> dict[str, list[Any]]:
    try:
        kept = json.loads(_CACHE.read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return {}
    if not isinstance(kept, Mapping) or kept.get("format") != _FORMAT:
        return {}
    return dict(kept["files"])


def _imports(node: ast.AST) -> Iterator[str]:
    if isinstance(node, ast.Import):
        yield from (alias.name for alias in node.names)
    elif isinstance(node, ast.ImportFrom):
        module = "." * node.level + (node.module or "")
        for alias in node.names:
            yield module if alias.name == "*" else f"{module.rstrip('.') or module}.{alias.name}"
    elif isinstance(node, ast.If) and "TYPE_CHECKING" in ast.unparse(node.test):
        for other in node.orelse:
            yield from _imports(other)
    else:
        for child in ast.iter_child_nodes(node):
            yield from _imports(child)


def _absolute(name: str, package: str) -> str:
    """A name that may be relative to `package`, without the dots."""
    plain = name.lstrip(".")
    if plain == name:
        return name
    for _ in range(len(name) - len(plain) - 1):
        package = package.rpartition(".")[0]
    return f"{package}.{plain}" if package else plain


def _strip_docstrings(node: ast.AST) -> None:
    """Take away strings that stand alone: docstrings, and what documents an attribute."""
    body = getattr(node, "body", None)
    if isinstance(body, list):
        body[:] = [each for each in body if not _is_text(each)] or [ast.Pass()]


def _is_text(node: ast.AST) -> bool:
    if not isinstance(node, ast.Expr) or not isinstance(node.value, ast.Constant):
        return False
    return isinstance(node.value.value, str)


def _find(places: Sequence[Path], name: str) -> Path | None:
    for place in places:
        path = place.joinpath(*name.split("."))
        for file in (path / "__init__.py", path.with_name(f"{path.name}.py")):
            if file.is_file():
                return file
    return None


def _parents(name: str) -> list[str]:
    parts = name.split(".")
    return [".".join(parts[:end]) for end in range(1, len(parts))]


def _below(name: str, packages: Collection[str]) -> bool:
    return any(name == each or name.startswith(f"{each}.") for each in packages)


def _templates(sources: Iterable[Path]) -> set[Path]:
    """What a page is made of beside code: all in a folder `templates` next to a module."""
    folders = {path.parent for path in sources}
    found = (file for folder in folders for file in folder.glob("templates/**/*"))
    return {file for file in found if file.is_file()}
