"""What the model entries of params/models need: parameters, arithmetic, time and memory.

Each is built as the study `default` would have it, from random weights. A row of
`benchmarks/models.csv` has its trained parameters; the floating-point operations of predicting one
image of 512 x 512 pixels (torch's own count of convolutions and matrix products, a multiplication
and an addition being two); and of a training step of two images, forward, backward and SGD, the
median milliseconds after one step that warms up (on a CPU those that the process computed) and the
peak of allocated memory above what was held before. A model that needs a larger crop than the
others gets one, and its row says so. A row takes the place of an older one. The table stands in
docs/models.md, which is filled too.

Run it as `python -m benchmarks.models`.
"""

from __future__ import annotations

import argparse
import csv
import io
import statistics
from pathlib import Path

import torch
from mmengine.structures import PixelData
from torch.utils.flop_counter import FlopCounterMode

from benchmarks import cost
from pipelines.base.artifacts import write_whole
from pipelines.publish import readme
from pipelines.study import params_file, params_names, read_params
from pipelines.study.model_entry import ModelEntry

TABLE = readme.BENCHMARKS["benchmarks/models"]
PAGE = Path("docs/models.md")
FLOP_SIDE = 512
IMAGES = 2
CROPS = {"lraspp_mobilenetv3": 400}
"""Pixels a side, for models that need more than the others: its head pools windows of 49 by 49."""

COLUMNS = (
    *("model", "title", "parameters", "gflops", "crop", "step_ms", "peak_mib"),
    *("device", "threads", "python", "torch", "mmsegmentation"),
)


def gflops(name: str) -> float:
    """Of predicting one image of 512 x 512 pixels, in 1e9: counted by shapes, without numbers."""
    model = cost.build(cost.model_config(name), "cpu").to("meta").eval()
    counter = FlopCounterMode(display=False)
    with torch.no_grad(), counter:
        model(torch.empty(1, 3, FLOP_SIDE, FLOP_SIDE, device="meta"), mode="tensor")
    return counter.get_total_flops() / 1e9


def measure(name: str, size: int, repeats: int, device: str) -> dict:
    """The row of one entry, without what is said of the machine."""
    config = cost.model_config(name)
    model = cost.build(config, device)
    size = max(size, CROPS.get(name, 0))
    heads = config.decode_head
    classes = (heads[-1] if isinstance(heads, list) else heads).num_classes
    batch = cost.Batch.random(IMAGES, size, classes, device)
    for sample in batch.samples:  # Some losses ask for edges.
        sample.gt_edge_map = PixelData(data=sample.gt_sem_seg.data % 2)
    step = cost.step_of(model, batch)
    times = cost.in_turns({"step": step}, repeats, device)["step"]
    with cost.peak_memory(device) as peak:
        step()
    return {
        "model": name,
        "title": read_params(params_file("models", name), ModelEntry).title,
        "parameters": sum(p.numel() for p in model.parameters() if p.requires_grad),
        "gflops": round(gflops(name), 2),
        "crop": size,
        "step_ms": round(statistics.median(times)),
        "peak_mib": round(peak[0]),
    }


def record(row: dict, table: Path) -> None:
    """Put a row in the place of an older one of its entry; rows of no entry go."""
    rows = {}
    if table.is_file():
        with table.open(newline="", encoding="utf-8") as file:
            rows = {each["model"]: each for each in csv.DictReader(file)}
    rows[row["model"]] = row
    text = io.StringIO()
    writer = csv.DictWriter(text, COLUMNS, lineterminator="\n")
    writer.writeheader()
    writer.writerows(rows[name] for name in params_names("models") if name in rows)
    write_whole(table, text.getvalue())


def main() -> None:
    parser = argparse.ArgumentParser(
        prog="python -m benchmarks.models",
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("--models", nargs="+", default=params_names("models"), metavar="MODEL")
    parser.add_argument("--size", type=int, default=128, help="pixels a side (default 128)")
    parser.add_argument("--repeats", type=int, default=3, help="steps (default 3)")
    parser.add_argument("--threads", type=int, default=1, help="CPU threads (default 1)")
    parser.add_argument("--device", choices=("cpu", "cuda"), default="cpu")
    args = parser.parse_args()
    machine = cost.made_ready(args.device, args.threads)
    for name in args.models:
        row = measure(name, args.size, args.repeats, args.device) | machine
        print(row, flush=True)
        record(row, TABLE)
    text = PAGE.read_text(encoding="utf-8")
    filled = readme.fill(text, readme.published_tables(), "benchmarks/models", PAGE)
    PAGE.write_text(filled, encoding="utf-8", newline="\n")


if __name__ == "__main__":
    main()
