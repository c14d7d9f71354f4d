"""Training images kept in memory once they are decoded and resized, for a training and its workers.

Decoding a PNG is most of what loading an image costs, and a training asks for each many times. What
comes before the first random step is the same each time: it is done once, whichever process does
it, and found by all others in memory that they share. What is trained is the same to the bit.
"""

from __future__ import annotations

import mmap
import multiprocessing
import pickle
import struct
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from mmengine.config import ConfigDict
from mmengine.dataset import Compose
from mmengine.logging import print_log
from mmengine.registry import TRANSFORMS
from PIL import Image

from pipelines.base.measuring import available_memory

_MIB = 2**20
_FIXED = ("LoadImageFromFile", "LoadAnnotations", "Resize")
"""Steps without chance, with which a pipeline begins."""
_BYTES = 4
"""Of a pixel: three colours and its label."""
_BESIDE = 4096
"""Bytes for all that is known of an image besides its pixels."""
_LENGTH = struct.Struct("<q")


def keep_images(loader: ConfigDict, scale: float, limit: int) -> ConfigDict:
    """The config of a training loader, made one that decodes an image once.

    Args:
        loader: as `configs.images.dataloader` gives it; it is changed.
        scale: the study's `image_scale`, which `Resize` applies.
        limit: MiB that images may take, in each process that trains; with more of them, or where
            they are more than half of the memory that is free, none is kept.
    """
    dataset = loader["dataset"]
    for each in dataset.get("datasets", [dataset]):
        pipeline = each["pipeline"]
        first = next(
            (place for place, step in enumerate(pipeline) if step["type"] not in _FIXED),
            len(pipeline),
        )
        kept = {
            "type": "KeptLoading",
            "steps": pipeline[:first],
            "folder": (Path(each["data_root"]) / each["data_prefix"]["img_path"]).as_posix(),
            "suffix": each["img_suffix"],
            "scale": scale,
            "limit": limit,
        }
        each["pipeline"] = [kept, *pipeline[first:]]
    return loader


class SharedValues:
    """Values by name, in memory that a process shares with those that it forks.

    Each name has a room of its own. Two processes that put a value at once put the same bytes; it
    is seen only when all of them are there.

    Args:
        rooms: bytes by name; what is larger is not kept.
    """

    def __init__(self, rooms: Mapping[str, int]) -> None:
        self._rooms: dict[str, tuple[int, int]] = {}
        end = 0
        for name, size in rooms.items():
            self._rooms[name] = end, size
            end += _LENGTH.size + size
        # Anonymous: gone with its processes, however they end. A page counts when it is written.
        self._memory = mmap.mmap(-1, max(end, 1))
        self._lock = multiprocessing.get_context("fork").Lock()

    def get(self, name: str) -> Any:
        """A copy of the value; None where none was put."""
        start, _ = self._rooms[name]
        with self._lock:
            (length,) = _LENGTH.unpack_from(self._memory, start)
        if not length:
            return None
        start += _LENGTH.size
        return pickle.loads(memoryview(self._memory)[start : start + length])

    def put(self, name: str, value: Any) -> None:
        content = pickle.dumps(value, protocol=5)
        start, size = self._rooms[name]
        if len(content) > size:
            return
        place = start + _LENGTH.size
        self._memory[place : place + len(content)] = content
        with self._lock:
            _LENGTH.pack_into(self._memory, start, len(content))


@TRANSFORMS.register_module()
class KeptLoading:
    """The first steps of a pipeline, whose outcome is kept for the next time.

    Args:
        steps: configs of steps that give the same for the same file.
        folder: of the images.
        suffix: of those that this pipeline is for.
        scale, limit: as for `keep_images`.
    """

    def __init__(
        self, steps: list[dict], folder: str, suffix: str, scale: float, limit: int
    ) -> None:
        self.load = Compose(steps)
        self.memory: SharedValues | None = None
        files = sorted(Path(folder).glob(f"*{suffix}"))
        free = available_memory()
        bound = min(limit * _MIB, free // 2)
        rooms, needed = {}, 0
        for path in files:
            rooms[path.name] = _room(path, scale)
            needed += rooms[path.name]
            if needed > bound:
                print_log(
                    f"images are decoded each time: {len(files)} in {folder} take more than "
                    f"{bound // _MIB} MiB (image_cache: {limit}; free memory: {free // _MIB} MiB)",
                    "current",
                )
                return
        print_log(
            f"images are decoded once: {len(files)} in {folder} take {needed // _MIB} MiB",
            "current",
        )
        self.memory = SharedValues(rooms)

    def __call__(self, results: dict[str, Any]) -> Any:
        if self.memory is None:
            return self.load(results)
        name = Path(results["img_path"]).name
        kept = self.memory.get(name)
        if kept is None:
            kept = self.load(results)
            self.memory.put(name, kept)
        return kept


def _room(path: Path, scale: float) -> int:
    """Bytes that what is loaded of an image takes at most; only the file's header is read."""
    with Image.open(path) as image:
        width, height = (round(side * scale) + 1 for side in image.size)
    return _BYTES * width * height + _BESIDE
