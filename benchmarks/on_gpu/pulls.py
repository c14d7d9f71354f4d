"""The pull alone, forward and backward: by each path, written out, compiled, and the floor."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager

import torch
from torch import Tensor, nn

from benchmarks.on_gpu.bench import Bench
from sar import pull as pull_module
from sar.pull import pixel_to_anchor_pull

VOID = 255

PULLS = [(19, 720, 8, 128, 256), (150, 720, 16, 128, 128), (11, 240, 8, 80, 104)]
"""Classes, channels, images, height and width of the features; the last is small."""
TINY = [(3, 8, 1, 4, 8)]

FLOOR_LIMIT = 1.5
MEMORY_LIMIT = 1.05
"""Of the kernel: its time over the floor's at paper size, and its peak over f's gradient."""


def plain(features: Tensor, labels: Tensor, anchors: Tensor) -> Tensor:
    """The definition written out: gather, subtract, square, mask, mean."""
    valid = labels != VOID
    target = anchors[torch.where(valid, labels, 0)].permute(0, 3, 1, 2)
    squares = (features.float() - target) ** 2 * valid[:, None]
    return squares.sum() / (valid.sum() * features.shape[1])


def kernel_serves(device: str) -> bool:
    sample = torch.zeros(1, 1, 1, 1, device=device)
    return pull_module._takes_kernel(sample, sample[0, 0], "kernel")


def copy_speed(bench: Bench, elements: int) -> float:
    """Bytes a millisecond that a copy reads and writes."""
    source = torch.empty(elements, device=bench.device)
    target = torch.empty_like(source)
    ms = bench.milliseconds({"copy": lambda: target.copy_(source)})["copy"]
    return 2 * source.nbytes / ms


def time_pulls(bench: Bench, cases: list, tiles: bool, compiled: Callable) -> None:
    speed = copy_speed(bench, 1 << (28 if bench.device != "cpu" else 10))
    for number, (classes, channels, images, height, width) in enumerate(cases):
        case = f"K{classes} C{channels} {images}x{height}x{width}"
        generator = torch.Generator().manual_seed(0)
        patches = torch.randint(0, classes, (images, 1, height // 4, width // 4))
        patches[torch.rand(patches.shape, generator=generator) < 0.1] = VOID
        labels = nn.functional.interpolate(patches.float(), size=(height, width))[:, 0].long()
        labels = labels.to(bench.device)
        anchors = torch.randn(classes, channels, generator=generator).to(bench.device)
        for dtype in (torch.float32, torch.bfloat16):
            for layout in (torch.contiguous_format, torch.channels_last):
                kind = f"{dtype}, {layout}".replace("torch.", "").replace("_format", "")
                if not bench.left(f"pull {case} {kind}"):
                    return
                features = torch.randn(images, channels, height, width, device=bench.device)
                features = features.to(dtype).contiguous(memory_format=layout).requires_grad_()
                torch._dynamo.reset()  # beyond eight compilations of a function it would give up
                both = contenders_of(features, labels, anchors, compiled)
                if tiles and kernel_serves(bench.device):
                    both |= tile_contenders(features, labels, anchors)
                found = bench.milliseconds(both)
                floor = 3 * features.nbytes / speed
                bench.add("pull", case, kind, "floor", floor, "ms", ratio=1.0, of="floor")
                for name, ms in found.items():
                    features.grad = None  # what is held before is not counted
                    peak = bench.peak_mib(both[name])
                    paper = name == "kernel" and number < len(PULLS) - 1
                    limit = FLOOR_LIMIT if paper else None
                    ratio = round(ms / floor, 2)
                    more = {"ratio": ratio, "of": "floor", "limit": limit, "peak_mib": peak}
                    bench.add("pull", case, kind, name, ms, "ms", **more)
                    if name == "kernel":
                        ratio, more = round(ms / found["plain"], 2), {"of": "plain", "limit": 1.0}
                        bench.add("pull", case, kind, name, ms, "ms", ratio=ratio, **more)
                    if name == "kernel" and peak is not None:
                        own = features.nbytes / 2**20
                        ratio = round(peak / own, 3)
                        more = {"ratio": ratio, "of": "memory of f", "limit": MEMORY_LIMIT}
                        bench.add("pull", case, kind, "kernel's peak", peak, "MiB", **more)


def contenders_of(
    features: Tensor, labels: Tensor, anchors: Tensor, compiled: Callable
) -> dict[str, Callable[[], None]]:
    """Forward and backward of each, after a check that they agree."""
    losses = {
        "torch": lambda: pixel_to_anchor_pull(features, labels, anchors, path="torch"),
        "plain": lambda: plain(features, labels, anchors),
        "compiled": lambda: compiled(features, labels, anchors),
    }
    if kernel_serves(features.device.type):
        losses["kernel"] = lambda: pixel_to_anchor_pull(features, labels, anchors, path="kernel")
    expected = losses["plain"]()
    for name, loss in losses.items():
        torch.testing.assert_close(loss(), expected, rtol=1e-4, atol=1e-6, msg=f"{name} differs")

    def both(loss: Callable[[], Tensor]) -> Callable[[], None]:
        def run() -> None:
            features.grad = None
            loss().backward()

        return run

    return {name: both(loss) for name, loss in losses.items()}


def tile_contenders(
    features: Tensor, labels: Tensor, anchors: Tensor
) -> dict[str, Callable[[], None]]:
    """The kernel with each of its tiles."""
    from sar import pull_kernel

    def run(index: int) -> Callable[[], None]:
        def work() -> None:
            with tile_first(index):
                features.grad = None
                pixel_to_anchor_pull(features, labels, anchors, path="kernel").backward()

        return work

    layout = "contiguous" if features.is_contiguous() else "channels_last"
    return {f"kernel {tile}": run(i) for i, tile in enumerate(pull_kernel.TILES[layout])}


@contextmanager
def tile_first(index: int) -> Iterator[None]:
    from sar import pull_kernel

    before = pull_kernel.TILES
    pull_kernel.TILES = {name: [tiles[index]] for name, tiles in before.items()}
    try:
        yield
    finally:
        pull_kernel.TILES = before
