"""Reading files that may be broken: each kind in one place, and every fault a PipelineError.

What a kill, a full disk, an editor or a transfer leaves is not what was written. A parser has its
own errors for that, many and undocumented; here each becomes one that names the file, the key where
there is one, and what to do. What the bytes alone cannot tell, a changed number, the digests of
receipts do.
"""

from __future__ import annotations

import contextlib
import io
import json
import os
import struct
import zipfile
from collections.abc import Collection, Iterator
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from pydantic import TypeAdapter, ValidationError

from pipelines.base.errors import PipelineError

if TYPE_CHECKING:
    from torch import Tensor

FIRST = "run the stage that writes it first"
AGAIN = "run the stage that writes it again"
_END = struct.Struct("<4s4H2LH")
"""What a zip file without a comment ends with; its fifth field is the number of files."""
_MANY = 0xFFFF  # Then the number stands elsewhere.
_SHOWN = 200  # characters of a parser's own words


@contextlib.contextmanager
def reading(path: Path, kind: str, remedy: str | None = None) -> Iterator[None]:
    """Turn whatever a parser raises within the block into PipelineError.

    Args:
        kind: what the file should be, as in "not valid KIND".
        remedy: what to do, such as "run python -m ..."; by default, run the stage that writes it.
    """
    try:
        yield
    except PipelineError:
        raise
    except FileNotFoundError:
        raise PipelineError(f"{path}: not found; {remedy or FIRST}") from None
    # Any: from bytes that are not of that kind, parsers raise what they happen to come upon.
    except Exception as error:
        raise broken(path, f"not valid {kind} ({in_short(error)})", remedy) from error


def broken(path: Path, what: str, remedy: str | None = None) -> PipelineError:
    """The error for a file that is not what it should be."""
    return PipelineError(f"{path}: {what}; {remedy or AGAIN}")


def in_short(error: BaseException) -> str:
    """An error of another library, in a line."""
    words = " ".join(str(error).split()) or type(error).__name__
    return words if len(words) <= _SHOWN else f"{words[:_SHOWN]}..."


def read_text(path: Path, remedy: str | None = None) -> str:
    """The text of a UTF-8 file.

    Raises:
        PipelineError: when it is missing, cannot be read or is none.
    """
    with reading(path, "UTF-8 text", remedy):
        return path.read_text(encoding="utf-8")


def read_json(path: Path, shape: Any = Any, remedy: str | None = None) -> Any:
    """The value in a JSON file.

    Args:
        shape: a type that the value has, such as a TypedDict with the keys it must have.

    Raises:
        PipelineError: when the file is missing, is not JSON (a number that is none and a key that
            stands twice are not), or has another shape.
    """
    with reading(path, "JSON", remedy):
        value = parse_json(path.read_text(encoding="utf-8"))
    if shape is not Any:
        check_shape(path, value, shape, remedy)
    return value


def parse_json(text: str) -> Any:
    """A JSON value, by the standard.

    Raises:
        ValueError: for NaN and Infinity, and for a key that stands twice in one object, too.
    """
    return json.loads(text, parse_constant=_no_number, object_pairs_hook=_once)


def check_shape(path: Path, value: Any, shape: Any, remedy: str | None = None) -> None:
    """Raise PipelineError where `value`, read from `path`, is not of the type `shape`."""
    try:
        _adapter(shape).validate_python(value, strict=True)
    except ValidationError as error:
        first = error.errors(include_url=False)[0]
        key = ".".join(map(str, first["loc"])) or "(top level)"
        raise broken(path, f"{key}: {first['msg']}", remedy) from None


def read_npz(
    path: Path, remedy: str | None = None, only: Collection[str] | None = None
) -> dict[str, np.ndarray]:
    """The arrays of an npz file, or `only` some of them, by name.

    Raises:
        PipelineError: when it is missing, lacks one, or a checksum does not hold.
    """
    with reading(path, "npz", remedy), zipfile.ZipFile(path) as archive:
        names = _names(archive) if only is None else only
        # Read whole, and so compared with its checksum, before its header is believed.
        return {name: _array(archive.read(f"{name}.npy")) for name in names}


def npz_names(path: Path, remedy: str | None = None) -> list[str]:
    """The names of the arrays of an npz file."""
    with reading(path, "npz", remedy), zipfile.ZipFile(path) as archive:
        return _names(archive)


def read_npy(path: Path, remedy: str | None = None) -> np.ndarray:
    """The array in an npy file.

    Raises:
        PipelineError: when it is missing, cut off or none.
    """
    with reading(path, "npy", remedy):
        return _array(path.read_bytes())


def read_tensors(path: Path, remedy: str | None = None) -> dict[str, Tensor]:
    """The tensors of a safetensors file, by name, on the CPU.

    Raises:
        PipelineError: when it is missing, cut off or none.
    """
    from safetensors.torch import load_file

    with reading(path, "safetensors", remedy):
        return load_file(path)


def read_arrays(path: Path, remedy: str | None = None) -> dict[str, np.ndarray]:
    """As `read_tensors`, as arrays."""
    return {name: tensor.numpy() for name, tensor in read_tensors(path, remedy).items()}


def _names(archive: zipfile.ZipFile) -> list[str]:
    """Of all arrays; ValueError where the directory at the end does not list as many as it says."""
    file = archive.fp
    assert file is not None, "open for reading"
    file.seek(-_END.size, os.SEEK_END)
    count = _END.unpack(file.read(_END.size))[4]
    if count not in (len(archive.namelist()), _MANY):
        raise ValueError(f"lists {len(archive.namelist())} arrays, expected {count}")
    return [name.removesuffix(".npy") for name in archive.namelist()]


def _array(content: bytes) -> np.ndarray:
    file = io.BytesIO(content)
    array: np.ndarray = np.lib.format.read_array(file, allow_pickle=False)
    if file.read(1):
        raise ValueError("more bytes than its header names")
    return array


@cache
def _adapter(shape: Any) -> TypeAdapter:
    return TypeAdapter(shape)


def _no_number(word: str) -> float:
    raise ValueError(f"{word} is no number")


def _once(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    value = dict(pairs)
    if len(value) < len(pairs):
        keys = [key for key, _ in pairs]
        twice = next(key for key in keys if keys.count(key) > 1)
        raise ValueError(f"the key {twice!r} stands twice")
    return value
