"""Which files a module imports, and a hash of what its code does: read from the sources.

Nothing is imported, so a module that is named by a string (`importlib`) is not found; whoever knows
of one names it among the roots. A file is parsed once as long as it stays the same: what was found
is cached in `work/`, so that planning takes no time.
"""

from __future__ import annotations

import ast
import functools
import hashlib
import json
from collections.abc import Collection, Iterable, Iterator, Sequence
from pathlib import Path
from typing import Any, NamedTuple

from typing_extensions import TypedDict

from pipelines.base import source_code
from pipelines.base.artifacts import write_whole
from pipelines.base.errors import PipelineError
from pipelines.base.reading import read_json, read_text
from pipelines.study import WORK

_FOR_TYPING = ("TYPE_CHECKING", "typing.TYPE_CHECKING")
_CACHE = WORK / "imports.json"
_FORMAT = 2
"""Of the cache; raise it when `parse` finds something else in the same text."""


class Source(NamedTuple):
    """What is known of a Python file."""

    imports: list[str]
    """Dotted names that it imports, each name of `from a import b` as `a.b`; for typing alone
    left out. Relative ones begin with dots."""
    fingerprint: str
    """sha256 of its code without comments, docstrings and layout."""


def closure(
    roots: Iterable[str],
    search_path: Sequence[Path],
    skip: Collection[str] = (),
    passed_through: Collection[str] = (),
) -> list[Path]:
    """The files of the modules `roots` and of all that they import, directly or through others.

    Args:
        roots: dotted names of modules.
        search_path: the folders that are searched, in order; what lies elsewhere (installed
            packages) is left out.
        skip: modules and packages that are left out, with what only they import.
        passed_through: packages whose `__init__.py`, and those of the packages in them, count only
            where something is imported from them, and not where Python runs them on the way to a
            module in them.

    Raises:
        PipelineError: when one of the files is not valid Python.
    """
    found: dict[str, Path] = {}
    waiting = list(roots)
    while waiting:
        name = waiting.pop()
        if name in found or _below(name, skip):
            continue
        path = _find(search_path, name)
        if path is None:
            continue
        found[name] = path
        if not _below(name, passed_through):
            waiting += _parents(name)
        waiting += [module_of(each, search_path) for each in imported_names(path, name)]
    return sorted({*found.values(), *_templates(found.values())})


def imported_names(path: Path, name: str) -> list[str]:
    """The absolute names that the module `name` at `path` imports."""
    package = name if path.name == "__init__.py" else name.rpartition(".")[0]
    return [_absolute(each, package) for each in source_of(path).imports]


def module_of(name: str, search_path: Sequence[Path]) -> str:
    """The module of an imported name `a.b`: itself, or `a` where b is something in the module a."""
    return name if _find(search_path, name) is not None else name.rpartition(".")[0]


def fingerprint(paths: Iterable[Path], search_path: Sequence[Path]) -> str:
    """sha256 of files and of their names below a folder of `search_path`, wherever that lies.

    Of code without comments, docstrings and layout; of anything else byte by byte.
    """
    digest = hashlib.sha256()
    for path in sorted(paths):
        folder = next((each for each in search_path if path.is_relative_to(each)), Path("/"))
        if path.suffix == ".py":
            content = source_of(path).fingerprint
        else:
            content = hashlib.sha256(path.read_bytes()).hexdigest()
        digest.update(f"{path.relative_to(folder).as_posix()}\0{content}\0".encode())
    return digest.hexdigest()


def source_of(path: Path) -> Source:
    """What is known of the Python file at `path`: from the cache, where it is as it was then.

    Raises:
        PipelineError: when it is not valid Python.
    """
    status = path.stat()
    key, state = str(path), [status.st_size, status.st_mtime_ns]
    known = _cache()
    if key not in known or known[key][0] != state:
        try:
            source = parse(read_text(path, "save it as UTF-8"))
        except SyntaxError as error:
            raise PipelineError(
                f"{path}:{error.lineno}: {error.msg}; expected valid Python"
            ) from None
        known[key] = [state, *source]
        _changed.add(key)
    return Source(*known[key][1:])


def parse(text: str) -> Source:
    """What there is to know of Python source.

    Raises:
        SyntaxError: when it is none.
    """
    tree = ast.parse(text)
    imports = sorted(set(_imports(tree)))
    return Source(imports, source_code.fingerprint(tree))


def save_cache() -> None:
    """Keep what was found for the next process, which parses it again where that fails."""
    if not _changed:
        return
    try:
        _CACHE.parent.mkdir(parents=True, exist_ok=True)
        write_whole(_CACHE, json.dumps({"format": _FORMAT, "files": _cache()}))
    except (OSError, PipelineError):
        return
    _changed.clear()


class _Kept(TypedDict):
    """The cache's file."""

    format: int
    files: dict[str, list[Any]]


_changed: set[str] = set()
"""The files whose entries in the cache are newer than those on the disk."""


@functools.cache
def _cache() -> dict[str, Any]:
    """By path: [size, time of the last change], imports and fingerprint of a file."""
    try:
        kept = read_json(_CACHE, _Kept)
    except PipelineError:
        return {}
    return dict(kept["files"]) if kept["format"] == _FORMAT else {}


def _imports(node: ast.AST) -> Iterator[str]:
    """The names that a node and all within it import, as they are written."""
    if isinstance(node, ast.Import):
        yield from (alias.name for alias in node.names)
    elif isinstance(node, ast.ImportFrom):
        for alias in node.names:
            parts = (node.module, None if alias.name == "*" else alias.name)
            yield "." * node.level + ".".join(part for part in parts if part)
    elif isinstance(node, ast.If) and ast.unparse(node.test) in _FOR_TYPING:
        for other in node.orelse:
            yield from _imports(other)
    else:
        for child in ast.iter_child_nodes(node):
            yield from _imports(child)


def _absolute(name: str, package: str) -> str:
    """A name that may be relative to `package`: one dot is the package, each more its parent."""
    plain = name.lstrip(".")
    dots = len(name) - len(plain)
    if not dots:
        return name
    for _ in range(dots - 1):
        package = package.rpartition(".")[0]
    return ".".join(part for part in (package, plain) if part)


def _find(search_path: Sequence[Path], name: str) -> Path | None:
    """The file of a module or package; None where the search path has none."""
    for folder in search_path:
        path = folder.joinpath(*name.split("."))
        for file in (path / "__init__.py", path.with_name(f"{path.name}.py")):
            if file.is_file():
                return file
    return None


def _parents(name: str) -> list[str]:
    """The packages around a module, the outermost first."""
    parts = name.split(".")
    return [".".join(parts[:end]) for end in range(1, len(parts))]


def _below(name: str, packages: Collection[str]) -> bool:
    """Whether a module is one of these, or in one of them."""
    return any(name == each or name.startswith(f"{each}.") for each in packages)


def _templates(sources: Iterable[Path]) -> set[Path]:
    """All files in a folder `templates` next to one of the modules: pages are made of them."""
    folders = {path.parent for path in sources}
    found = (file for folder in folders for file in folder.glob("templates/**/*"))
    return {file for file in found if file.is_file()}
