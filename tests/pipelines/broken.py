"""Ways in which a file is no more what was written, drawn from a generator."""

from __future__ import annotations

import json
import random
from collections.abc import Callable
from typing import Any


def damaged(content: bytes, rng: random.Random) -> bytes:
    """`content` as a kill, a bad disk, a transfer or an editor may leave it."""
    return rng.choice(_KINDS)(content, rng)


def retyped(content: bytes, rng: random.Random) -> bytes:
    """JSON with a value of another type somewhere, or without a key, or with one twice."""
    value = json.loads(content)
    places = list(_places(value))
    holder, key = rng.choice(places)
    if isinstance(holder, dict) and rng.random() < 0.3:
        del holder[key]
    elif isinstance(holder, dict) and rng.random() < 0.2:
        text = json.dumps(value)
        return text.replace("{", f'{{"{key}": 1, ', 1).encode()
    else:
        swaps = [None, True, -1, 2**80, 1e308, "text", "", [], {}, [[]], {"a": {}}]
        holder[key] = rng.choice([swap for swap in swaps if type(swap) is not type(holder[key])])
    text = json.dumps(value)
    if rng.random() < 0.2:
        text = text.replace(": 1", ": NaN", 1)
    return text.encode()


def _places(value: Any):
    items = value.items() if isinstance(value, dict) else enumerate(value)
    for key, item in list(items):
        yield value, key
        if isinstance(item, dict | list):
            yield from _places(item)


def _truncated(content: bytes, rng: random.Random) -> bytes:
    return content[: rng.randrange(len(content))]


def _flipped(content: bytes, rng: random.Random) -> bytes:
    changed = bytearray(content)
    for _ in range(rng.choice([1, 1, 2, 8])):
        changed[rng.randrange(len(changed))] ^= 1 << rng.randrange(8)
    return bytes(changed)


def _flipped_at_an_end(content: bytes, rng: random.Random) -> bytes:
    """Where formats keep their magic, header and directory."""
    changed, size = bytearray(content), min(len(content), 200)
    at = rng.randrange(size)
    changed[rng.choice([at, -1 - at])] ^= 1 << rng.randrange(8)
    return bytes(changed)


def _overwritten(content: bytes, rng: random.Random) -> bytes:
    start, size = rng.randrange(len(content)), rng.randint(1, 64)
    return content[:start] + rng.randbytes(size) + content[start + size :]


def _without_a_block(content: bytes, rng: random.Random) -> bytes:
    start = rng.randrange(len(content))
    return content[:start] + content[start + rng.randint(1, 64) :]


def _with_a_block_twice(content: bytes, rng: random.Random) -> bytes:
    start, size = rng.randrange(len(content)), rng.randint(1, 512)
    return content[: start + size] + content[start:]


def _zeros_at_the_end(content: bytes, rng: random.Random) -> bytes:
    """As a crash leaves a file whose size was on the disk before its content."""
    start = rng.randrange(len(content))
    return content[:start] + bytes(len(content) - start)


def _nothing(content: bytes, rng: random.Random) -> bytes:
    return b""


def _noise(content: bytes, rng: random.Random) -> bytes:
    return rng.randbytes(rng.randint(1, 400))


_KINDS: list[Callable[[bytes, random.Random], bytes]] = [
    *(_truncated, _flipped, _flipped, _flipped_at_an_end, _overwritten, _without_a_block),
    *(_with_a_block_twice, _zeros_at_the_end, _nothing, _noise),
]
