"""What semantic anchors cost: a training step, its memory, and nothing at inference.

Each model is trained a few steps without and with the plug-in, in one process, taking turns
(A, B, C, A, B, C, ...), so that a busy machine slows all. "sar" pulls in every step (its gate is
left out), which is the most that it costs; with its gate closed it has the auxiliary loss alone.
Then the weights that a study would publish of baseline and SAR (safetensors, the bare model's) are
loaded into bare models and predict in turns, with a third one that has the baseline's weights
again: the ratio of equals tells what the timing is worth.

Writes a row for each model, part and contender: median and least milliseconds (on a CPU those that
the process computed, so that neighbours count less), the median ratio to
the baseline of the same turn, the peak of allocated memory above what was held before, trained
parameters, and bytes of the exported weights. The ratios of one call are the result, not the times.
"""

from __future__ import annotations

import argparse
import contextlib
import csv
import itertools
import logging
import platform
import statistics
import tempfile
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from importlib import metadata
from pathlib import Path

import torch
from mmengine.config import ConfigDict
from mmengine.registry import MODELS, init_default_scope
from mmengine.structures import PixelData
from mmseg.structures import SegDataSample
from safetensors.torch import load_file, save_file
from torch import Tensor, nn
from torch.utils._python_dispatch import TorchDispatchMode

from pipelines.configs.model import baseline_model
from pipelines.study import Study, params_file, read_params
from pipelines.study.model_entry import ModelEntry
from sar.mmseg import apply_sar, baseline_state_dict
from sar.packaged import register_mmseg

TABLE = Path(__file__).with_suffix(".csv")

MODELS_BY_DEFAULT = ("fcn_hrnet_tiny", "fcn_hrnet_small", "segformer_b0")


@dataclass(frozen=True)
class Batch:
    inputs: Tensor
    """(N, 3, H, W)."""
    samples: list[SegDataSample]

    @classmethod
    def random(cls, images: int, size: int | tuple[int, int], classes: int, device: str) -> Batch:
        """Of squares, or of images (height, width)."""
        size = (size, size) if isinstance(size, int) else size
        generator = torch.Generator().manual_seed(0)
        inputs = torch.randn(images, 3, *size, generator=generator).to(device)
        samples = []
        for labels in torch.randint(0, classes, (images, 1, *size), generator=generator):
            sample = SegDataSample(metainfo={"img_shape": size, "ori_shape": size})
            sample.gt_sem_seg = PixelData(data=labels.to(device))
            samples.append(sample)
        return cls(inputs, samples)


def model_config(name: str) -> ConfigDict:
    """The config that the study `default` would have with this model."""
    study = Study.load("default")
    study.models[name] = read_params(params_file("models", name), ModelEntry)
    run = study.runs[0]
    return baseline_model(type(run)(study, run.dataset, name, run.method, run.seed))


def build(config: ConfigDict, device: str) -> nn.Module:
    """The model of `config`, with weights from seed 0, in train mode."""
    from mmengine.model import revert_sync_batchnorm

    torch.manual_seed(0)
    model = revert_sync_batchnorm(MODELS.build(config))
    model.init_weights()
    return model.to(device).train()


def step_of(model: nn.Module, batch: Batch) -> Callable[[], None]:
    """A whole training step: forward, backward, optimiser."""
    optimizer = torch.optim.SGD(model.parameters(), lr=0.01)

    def step() -> None:
        optimizer.zero_grad()
        model.parse_losses(model.loss(batch.inputs, batch.samples))[0].backward()
        optimizer.step()

    return step


def export(model: nn.Module, path: Path) -> None:
    """The bare model's weights, as train publishes them."""
    state = baseline_state_dict(model)
    save_file({name: state[name].detach().cpu().contiguous() for name in sorted(state)}, path)


def differences(a: Path, b: Path) -> list[str]:
    """In what two files of weights differ besides the values; empty where in nothing."""
    first, second = load_file(a), load_file(b)
    found = [f"only one has {name}" for name in sorted(first.keys() ^ second.keys())]
    for name in sorted(first.keys() & second.keys()):
        kinds = [(tuple(tensor.shape), tensor.dtype) for tensor in (first[name], second[name])]
        if kinds[0] != kinds[1]:
            found.append(f"{name}: {kinds[0]} and {kinds[1]}")
    if a.stat().st_size != b.stat().st_size:
        found.append(f"{a.stat().st_size} and {b.stat().st_size} bytes")
    return found


class _Recorder(TorchDispatchMode):
    """Notes each operation that torch executes, with the shapes of its tensors."""

    def __init__(self) -> None:
        super().__init__()
        self.operations: list[str] = []

    def __torch_dispatch__(self, func, types, args=(), kwargs=None):
        shapes = [tuple(arg.shape) for arg in args if isinstance(arg, Tensor)]
        self.operations.append(f"{func} {shapes}")
        return func(*args, **(kwargs or {}))


def operations(model: nn.Module, batch: Batch) -> list[str]:
    """What torch executes, in order, when `model` predicts."""
    with torch.no_grad(), _Recorder() as recorder:
        model.eval()(batch.inputs, mode="tensor")
    return recorder.operations


@contextlib.contextmanager
def peak_memory(device: str) -> Iterator[list[float]]:
    """Appends the peak of allocated memory above what was held before, in MiB."""
    found: list[float] = []
    if device == "cuda":
        torch.cuda.reset_peak_memory_stats()
        before = torch.cuda.memory_allocated()
        yield found
        found.append((torch.cuda.max_memory_allocated() - before) / 2**20)
        return
    with torch.profiler.profile(
        activities=[torch.profiler.ProfilerActivity.CPU], profile_memory=True
    ) as profile:
        yield found
    events = [e for e in profile.profiler.kineto_results.events() if e.name() == "[memory]"]
    held = itertools.accumulate(e.nbytes() for e in sorted(events, key=lambda e: e.start_ns()))
    found.append(max(held, default=0) / 2**20)


def in_turns(
    contenders: dict[str, Callable[[], object]], repeats: int, device: str
) -> dict[str, list[float]]:
    """Milliseconds of each call of each contender, after one round that warms up.

    On a CPU they are those that the process computed: what it waited for neighbours is left out.
    """
    clock = time.perf_counter if device == "cuda" else time.process_time
    times: dict[str, list[float]] = {name: [] for name in contenders}
    for turn in range(repeats + 1):
        for name, call in contenders.items():
            start = clock()
            call()
            if device == "cuda":
                torch.cuda.synchronize()
            if turn:
                times[name].append(1000 * (clock() - start))
    return times


def measure(name: str, images: int, size: int, repeats: int, device: str) -> list[dict]:
    """Train and predict with one model.

    Raises:
        RuntimeError: when the two methods' exported weights or predictions differ in more than
            values.
    """
    config = model_config(name)
    batch = Batch.random(images, size, config.decode_head.num_classes, device)
    trained = {
        "baseline": build(config, device),
        "sar": build(apply_sar(config, gated=False), device),
        "sar, gate closed": build(apply_sar(config, update_confidence=1.0), device),
    }
    steps = {method: step_of(model, batch) for method, model in trained.items()}
    rows = _rows(in_turns(steps, repeats, device), name, "training step")
    for row in rows:
        with peak_memory(device) as peak:
            steps[row["contender"]]()
        row["peak_mib"] = round(peak[0], 1)
        parameters = trained[row["contender"]].parameters()
        row["parameters"] = sum(p.numel() for p in parameters if p.requires_grad)

    with tempfile.TemporaryDirectory() as folder:
        files = {method: Path(folder) / f"{method}.safetensors" for method in ("baseline", "sar")}
        for method, path in files.items():
            export(trained[method], path)
        found = differences(*files.values())
        files["baseline again"] = files["baseline"]
        bare = {method: build(config, device) for method in files}
        for method, model in bare.items():
            model.load_state_dict(load_file(files[method]), strict=True)
            model.eval()
        listed = [operations(model, batch) for model in (*bare.values(), trained["sar"])]
        if found or any(other != listed[0] for other in listed):
            raise RuntimeError(f"{name}: inference differs: {found or 'other operations'}")
        calls = {method: _prediction(model, batch) for method, model in bare.items()}
        predicted = _rows(in_turns(calls, repeats, device), name, "inference")
        for row in predicted:
            row["file_bytes"] = files[row["contender"]].stat().st_size
            parameters = bare[row["contender"]].parameters()
            row["parameters"] = sum(p.numel() for p in parameters)
    for row in rows + predicted:
        row |= {"images": images, "size": size, "repeats": repeats}
    return rows + predicted


def _prediction(model: nn.Module, batch: Batch) -> Callable[[], None]:
    @torch.no_grad()
    def predict() -> None:
        model(batch.inputs, mode="tensor")

    return predict


def _rows(times: dict[str, list[float]], model: str, part: str) -> list[dict]:
    rows = []
    for name, values in times.items():
        ratios = [a / b for a, b in zip(values, times["baseline"], strict=True)]
        rows.append(
            {
                "model": model,
                "part": part,
                "contender": name,
                "median_ms": round(statistics.median(values), 2),
                "least_ms": round(min(values), 2),
                "median_ratio": round(statistics.median(ratios), 3),
                "ratio_of_least": round(min(values) / min(times["baseline"]), 3),
            }
        )
    return rows


COLUMNS = (
    *("model", "part", "contender", "images", "size", "repeats", "median_ms", "least_ms"),
    *("median_ratio", "ratio_of_least", "peak_mib", "parameters", "file_bytes"),
    *("device", "threads", "python", "torch", "mmsegmentation"),
)


def made_ready(device: str, threads: int) -> dict[str, str | int]:
    """Make models of mmsegmentation known and quiet, on so many CPU threads; the columns of a
    benchmark's table that say on what it ran."""
    torch.set_num_threads(threads)
    logging.disable(logging.INFO)  # mmengine tells of each weight how it was initialised
    register_mmseg()
    init_default_scope("mmseg")
    return {
        "device": torch.cuda.get_device_name() if device == "cuda" else "cpu",
        "threads": threads,
        "python": platform.python_version(),
        "torch": torch.__version__,
        "mmsegmentation": metadata.version("onedl-mmsegmentation"),
    }


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--models", nargs="+", default=MODELS_BY_DEFAULT, metavar="MODEL")
    parser.add_argument("--images", type=int, default=2, help="in a batch (default 2)")
    parser.add_argument("--size", type=int, default=128, help="pixels a side (default 128)")
    parser.add_argument("--repeats", type=int, default=15, help="turns (default 15)")
    parser.add_argument("--threads", type=int, default=1, help="CPU threads (default 1)")
    parser.add_argument("--device", choices=("cpu", "cuda"), default="cpu")
    parser.add_argument("--output", type=Path, default=TABLE, help="default: %(default)s")
    args = parser.parse_args()
    machine = made_ready(args.device, args.threads)
    rows = []
    for name in args.models:
        rows += measure(name, args.images, args.size, args.repeats, args.device)
        for row in (row for row in rows if row["model"] == name):
            print(
                f"{name} {row['part']}, {row['contender']}: {row['median_ms']} ms, "
                f"ratio {row['median_ratio']}",
                flush=True,
            )
    with args.output.open("w", newline="", encoding="utf-8") as file:
        writer = csv.DictWriter(file, COLUMNS, lineterminator="\n")
        writer.writeheader()
        writer.writerows(row | machine for row in rows)


if __name__ == "__main__":
    main()
