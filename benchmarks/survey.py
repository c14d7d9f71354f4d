"""Which of mmsegmentation's packaged configs train with semantic anchors: one step of each model.

Writes ``benchmarks/survey.csv``, a line for each config outside ``_base_``, sorted:

    config      path below the packaged configs
    status      "trained": one step was right, in every point below
                "refused": `apply_sar` says no, and the reason is its own
                "needs ...": a package, or mmcv's compiled ops, is not installed here
                "too large": beyond the memory limit (--memory)
                "error": everything else
    reason      why not trained; for a trained model, what it took apart from the smallest crop
    head        type of the last decode head: the one that is regularised
    segmentor   type of the segmentor
    params_m    parameters of the trained model in millions, without the regularizer's
    same_as     the first config with the same model, whose result is repeated here; empty for
                that config itself, so that lines with an empty same_as are the unique models

Two models are the same if their configs differ in nothing but checkpoints to start from, the
data's preprocessing and settings of the test. The models keep their size. What is reduced: random
crops of 64 x 64 in a batch of two (up to 512 for models that refuse), ``img_size`` of a
transformer set to that, no pretrained weights, torch's default initialisation instead of
``init_weights()``, SGD without momentum.

A step is right if all losses are finite, some labels being void; ``sar.loss_aux_ce`` is above zero
with a gradient in the classifier and in the embedding of the anchors; every gradient of the whole
loss is finite, and the step changes the classifier.

Each model has a process of its own, whose death is a line in the file, and the file is complete
after each: what is already there, errors apart, is kept when it starts again. On a busy machine:

    OMP_NUM_THREADS=1 nice -n 19 python benchmarks/survey.py
"""

from __future__ import annotations

import argparse
import csv
import fnmatch
import json
import logging
import multiprocessing
import re
import resource
import warnings
from collections import Counter
from collections.abc import Mapping
from contextlib import suppress
from pathlib import Path
from typing import Any

import torch
from mmengine.config import Config
from mmengine.registry import DefaultScope
from mmengine.structures import PixelData
from mmengine.utils import import_modules_from_strings
from mmseg.registry import MODELS
from mmseg.structures import SegDataSample
from torch import Tensor, nn
from tqdm import tqdm

from sar.mmseg import UnsupportedModelError, apply_sar
from sar.packaged import mmseg_configs
from sar.support import last_head

CONFIGS = mmseg_configs()
OUTPUT = Path(__file__).with_suffix(".csv")
FIELDS = ("config", "status", "reason", "head", "segmentor", "params_m", "same_as")
CROPS = (64, 128, 256, 512)
VOID = 255


def packaged_configs() -> list[str]:
    """Paths below `CONFIGS` of all configs of whole experiments."""
    paths = (path.relative_to(CONFIGS) for path in CONFIGS.rglob("*.py"))
    return sorted(path.as_posix() for path in paths if "_base_" not in path.parts)


def read_config(name: str) -> Config:
    """A packaged config, readable without the modules that it imports to register its parts."""
    return Config.fromfile(CONFIGS / name, import_custom_modules=False)


def without_checkpoints(cfg: Any) -> Any:
    """The config without any checkpoint to start from."""
    if isinstance(cfg, Mapping):
        drop = [key for key in cfg if key == "init_cfg" and "checkpoint" in str(cfg[key])]
        kept = [key for key in cfg if key not in ("pretrained", *drop)]
        return type(cfg)((key, without_checkpoints(cfg[key])) for key in kept)
    if isinstance(cfg, (list, tuple)):
        return type(cfg)(without_checkpoints(item) for item in cfg)
    return cfg


def identity(model: Mapping) -> str:
    """Equal for configs of the same model."""
    model = without_checkpoints(model)
    ignored = ("test_cfg", "data_preprocessor")
    kept = {key: value for key, value in model.items() if key not in ignored}
    return json.dumps(kept, sort_keys=True, default=str)


def make_batch(num_classes: int, crop: int) -> tuple[Tensor, list[SegDataSample]]:
    """Two images of noise with noise for labels, an eighth of them void."""
    images = torch.randn(2, 3, crop, crop)
    samples = []
    for labels in torch.randint(num_classes, (2, 1, crop, crop)):
        labels[:, : crop // 8] = VOID
        shape = (crop, crop)
        sample = SegDataSample(metainfo=dict(img_shape=shape, ori_shape=shape, pad_shape=shape))
        sample.gt_sem_seg = PixelData(data=labels)
        sample.gt_edge_map = PixelData(data=torch.randint(2, labels.shape))  # PIDNet reads it
        samples.append(sample)
    return images, samples


def train_one_step(model_cfg: Mapping, crop: int = CROPS[0]) -> float:
    """Train the regularised model of a baseline's config for one step, and check that step.

    Returns:
        The baseline's parameters in millions.

    Raises:
        UnsupportedModelError: from the plug-in.
        AssertionError: saying what is wrong with the step.
    """
    cfg = without_checkpoints(apply_sar(model_cfg, seed=0))
    if "img_size" in cfg["backbone"]:
        cfg["backbone"]["img_size"] = (crop, crop)
    torch.manual_seed(0)
    with DefaultScope.overwrite_default_scope("mmseg"):  # as the Runner does
        model = MODELS.build(cfg).train()
    head = last_head(model.decode_head)
    losses = model.loss(*make_batch(head.num_classes, crop))
    _check_auxiliary(losses, head, model.regularizer)
    loss, logged = model.parse_losses(losses)
    for name, value in logged.items():
        assert torch.isfinite(torch.as_tensor(value)).all(), f"{name} is not finite"
    optimizer = torch.optim.SGD(model.parameters(), lr=0.01)
    before = head.conv_seg.weight.detach().clone()
    loss.backward()
    for name, parameter in model.named_parameters():
        finite = parameter.grad is None or torch.isfinite(parameter.grad).all()
        assert finite, f"the gradient of {name} is not finite"
    optimizer.step()
    assert not torch.equal(before, head.conv_seg.weight), "the classifier did not change"
    own = sum(p.numel() for p in model.regularizer.parameters())
    return (sum(p.numel() for p in model.parameters()) - own) / 1e6


def _check_auxiliary(losses: Mapping, head: nn.Module, regularizer: nn.Module) -> None:
    auxiliary = losses["sar.loss_aux_ce"]
    assert auxiliary > 0, "sar.loss_aux_ce is not above zero"
    assert "sar.loss_p2a" in losses, "sar.loss_p2a is missing"
    weights = [head.conv_seg.weight, *regularizer.embedding.parameters()]
    gradients = torch.autograd.grad(auxiliary, weights, retain_graph=True, allow_unused=True)
    moved = [g is not None and bool(g.abs().sum() > 0) for g in gradients]
    assert moved[0], "sar.loss_aux_ce has no gradient in the classifier"
    assert any(moved[1:]), "sar.loss_aux_ce has no gradient in the embedding"


def attempt(name: str) -> dict[str, str]:
    """Status, reason and parameters of one packaged config."""
    config = read_config(name)
    for crop in CROPS:
        try:
            apply_sar(config.model)
            import_modules_from_strings(**config.get("custom_imports", {"imports": None}))
            params = train_one_step(config.model, crop)
        except Exception as error:
            result = judge(error)
            if result["status"] != "error":
                return result
        else:
            reason = "" if crop == CROPS[0] else f"at a crop of {crop} x {crop}"
            return dict(status="trained", reason=reason, params_m=f"{params:.1f}")
    return result


def judge(error: Exception) -> dict[str, str]:
    """Status and reason of an error; nothing of this machine is in it."""
    text = " ".join(str(error).split())
    if isinstance(error, UnsupportedModelError):
        return dict(status="refused", reason=text)
    if isinstance(error, MemoryError) or "can't allocate memory" in text:
        return dict(status="too large", reason="more than the memory limit")
    ops = re.search(r"install \S*mmcv\S* for (?:its )?(\w+) ops|mmcv\._ext", text)
    if ops:
        return dict(status="needs compiled ops", reason=f"mmcv's {ops[1] or 'ops'} is compiled")
    package = re.search(r"Failed to import (\w+)|No module named '(\w+)", text)
    if package:
        name = package[1] or package[2]
        return dict(status=f"needs {name}", reason=f"a part of the model comes from {name}")
    return dict(status="error", reason=_short(f"{type(error).__name__}: {text}"))


def _short(text: str) -> str:
    return re.sub(r"(?<!\w)(/[\w.+-]+){2,}", "...", text)[:160].rstrip()


def isolated(name: str, memory_gib: float, timeout: float) -> dict[str, str]:
    """`attempt` in a process of its own, within limits."""
    context = multiprocessing.get_context("fork")
    receiver, sender = context.Pipe(duplex=False)
    process = context.Process(target=_child, args=(name, memory_gib, sender), daemon=True)
    process.start()
    sender.close()
    result = dict(status="error", reason=f"not done after {timeout:g} s")
    if receiver.poll(timeout):
        try:
            result = receiver.recv()
        except EOFError:
            process.join()
            result = dict(status="error", reason=f"the process died, exit {process.exitcode}")
    process.kill()
    process.join()
    return result


def _child(name: str, memory_gib: float, sender: Any) -> None:
    limit = int(memory_gib * 2**30)
    resource.setrlimit(resource.RLIMIT_DATA, (limit, limit))
    with suppress(OSError):  # where memory runs out, let it be this process that ends
        Path("/proc/self/oom_score_adj").write_text("1000")
    sender.send(attempt(name))


def describe(names: list[str]) -> dict[str, dict[str, str]]:
    """Head, segmentor and same_as of each config; all are read, for the first is in the order."""
    first, found = {}, {}
    for name in tqdm(names, desc="reading configs"):
        model = read_config(name).model
        head = last_head(model.get("decode_head")) or {}
        same = first.setdefault(identity(model), name)
        parts = dict(head=head.get("type", ""), segmentor=model.type)
        found[name] = dict(**parts, same_as="" if same == name else same)
    return found


def read_rows(path: Path) -> dict[str, dict[str, str]]:
    """The lines of the survey by config; none without the file."""
    if not path.exists():
        return {}
    with path.open(newline="", encoding="utf-8") as file:
        return {row["config"]: row for row in csv.DictReader(file)}


def write_rows(path: Path, rows: Mapping[str, Mapping[str, str]]) -> None:
    """Replace the file at once."""
    partial = path.with_suffix(".partial")
    with partial.open("w", newline="", encoding="utf-8") as file:
        writer = csv.DictWriter(file, FIELDS, restval="", lineterminator="\n")
        writer.writeheader()
        writer.writerows(rows[name] for name in sorted(rows))
    partial.replace(path)


def summary(rows: Mapping[str, Mapping[str, str]]) -> str:
    """Counts by status, over unique models and over all configs."""
    configs = Counter(row["status"] for row in rows.values())
    models = Counter(row["status"] for row in rows.values() if not row.get("same_as"))
    lines = [f"{'status':24}{'models':>8}{'configs':>9}"]
    lines += [f"{s:24}{models[s]:8}{count:9}" for s, count in configs.most_common()]
    return "\n".join([*lines, f"{'all':24}{models.total():8}{configs.total():9}"])


def run(args: argparse.Namespace) -> None:
    names = packaged_configs()
    known = describe(names)
    rows = {} if args.fresh else read_rows(args.output)
    rows = {name: row for name, row in rows.items() if row["status"] != "error"}
    wanted = [n for n in names if fnmatch.fnmatch(n, args.only) and n not in rows]
    progress = tqdm(wanted, desc="training")
    for name in progress:
        first = known[name]["same_as"] or name
        progress.set_postfix_str(first)
        if first not in rows:
            result = isolated(first, args.memory, args.timeout)
            rows[first] = {"config": first, **known[first], **result}
        rows[name] = {**rows[first], "config": name, **known[name]}
        write_rows(args.output, rows)
    print(summary(rows))


def main() -> None:
    raw = argparse.RawDescriptionHelpFormatter
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=raw)
    parser.add_argument("--only", metavar="GLOB", default="*", help="configs by path")
    parser.add_argument("--fresh", action="store_true", help="drop the results that are there")
    parser.add_argument("--output", type=Path, default=OUTPUT, help="the CSV file")
    parser.add_argument("--memory", type=float, default=10, help="limit per model, GiB (10)")
    parser.add_argument("--timeout", type=float, default=900, help="limit per model, s (900)")
    args = parser.parse_args()
    logging.disable(logging.WARNING)
    warnings.simplefilter("ignore")
    torch.set_num_threads(1)
    run(args)


if __name__ == "__main__":
    main()
