"""A user's own Python files that a model entry names: which they are, and what is known of them.

They are read here and never run. A config file of the project counts with all that its `_base_`
names. What is known of them is part of a run's parameters: a model whose code changed is another.
"""

from __future__ import annotations

import ast
import functools
from collections.abc import Iterator
from pathlib import Path

from pipelines.base import source_code
from pipelines.base.errors import PipelineError
from pipelines.base.reading import read_text
from pipelines.study.model_entry import ModelEntry


def own_config(entry: ModelEntry) -> Path | None:
    """The entry's config file where it is one of the project; None for the installed package's."""
    path = Path(entry.config)
    return path if path.is_file() and not path.is_absolute() else None


def config_files(entry: ModelEntry) -> list[Path]:
    """The entry's config file where it is one of the project, and the files that it is based on.

    Raises:
        PipelineError: naming the file, when one is not there, lies outside the project, or names
            what it is based on in a way that cannot be followed.
    """
    path = own_config(entry)
    if path is None:
        return []
    if not path.resolve().is_relative_to(Path.cwd().resolve()):
        raise PipelineError(f"config: {path} lies outside the project")
    return list(dict.fromkeys(_with_bases(path, ())))


def own_modules(entry: ModelEntry) -> dict[str, Path]:
    """The files of `custom_imports` by the names of their modules, in order."""
    return {module_name(file): Path(file) for file in entry.custom_imports}


def module_name(file: str) -> str:
    """By which name Python imports a file of the project, such as `my_models/net.py`."""
    return file.removesuffix(".py").removesuffix("/__init__").replace("/", ".")


def sources(entry: ModelEntry) -> dict[str, str]:
    """The text of each file of `custom_imports`, by its path.

    Raises:
        PipelineError: when one is not there, or is no text.
    """
    return {file: _text(Path(file)) for file in entry.custom_imports}


def fingerprints(entry: ModelEntry) -> dict[str, str]:
    """By its path, a hash of what each of the user's files does: no comments, no docstrings.

    Raises:
        PipelineError: when one is not there, or is not valid Python.
    """
    files = [*map(Path, entry.custom_imports), *config_files(entry)]
    return {path.as_posix(): _fingerprint(path) for path in files}


def _fingerprint(path: Path) -> str:
    _text(path)
    status = path.stat()
    return _fingerprint_of(path.absolute(), path, status.st_size, status.st_mtime_ns)


@functools.lru_cache
def _fingerprint_of(place: Path, path: Path, size: int, changed: int) -> str:
    return source_code.fingerprint(_parsed(path))


def _with_bases(path: Path, above: tuple[Path, ...]) -> Iterator[Path]:
    if path in above:
        raise PipelineError(f"{path}: _base_: is based on itself, by {above[-1]}")
    yield path
    for name in _bases(path):
        base = _within(path, name)
        if not base.is_file():
            raise PipelineError(f"{path}: _base_: {name!r}: no such file ({base})")
        yield from _with_bases(base, (*above, path))


def _within(path: Path, name: str) -> Path:
    """The file that a config names relative to itself, as a path in the project."""
    root = Path.cwd().resolve()
    found = (path.parent / name).resolve()
    if not found.is_relative_to(root):
        raise PipelineError(f"{path}: _base_: {name!r} lies outside the project ({found})")
    return found.relative_to(root)


def _bases(path: Path) -> list[str]:
    tree = _parsed(path)
    for node in ast.walk(tree):
        if isinstance(node, ast.With) and "read_base" in ast.unparse(node.items[0]):
            raise PipelineError(
                f"{path}: read_base(): cannot be followed; expected `_base_ = [...]`, a list of "
                "paths relative to the file"
            )
    found: list[str] = []
    for node in tree.body:
        if isinstance(node, ast.Assign) and [ast.unparse(t) for t in node.targets] == ["_base_"]:
            found = _paths(path, node.value)
    return found


def _paths(path: Path, value: ast.expr) -> list[str]:
    try:
        names = ast.literal_eval(value)
    except ValueError:
        names = None
    names = [names] if isinstance(names, str) else names
    if not isinstance(names, list | tuple) or not all(isinstance(each, str) for each in names):
        raise PipelineError(
            f"{path}: _base_: got {ast.unparse(value)}, expected a path or a list of paths"
        )
    for name in names:
        if "::" in name:
            raise PipelineError(
                f"{path}: _base_: {name!r}: mmengine would install an unmaintained package over "
                "the one in use; expected the path of a file in the project, or in the model "
                "entry the packaged config itself and what differs below `model`"
            )
    return list(names)


def _text(path: Path) -> str:
    if not path.is_file():
        raise PipelineError(f"{path}: no such file; a model entry names it")
    return read_text(path, "save it as UTF-8")


def _parsed(path: Path) -> ast.Module:
    try:
        return ast.parse(_text(path))
    except SyntaxError as error:
        raise PipelineError(f"{path}:{error.lineno}: {error.msg}; expected valid Python") from None
