"""Train runs of a study with mmengine's Runner.

Checkpoints are kept in `work/<study>/runs/<run>/`, keyed by the hash of the run's parameters and
data: started again after a kill, the same command goes on from the last one. At the end the weights
of the bare model, the plug-in's own state and diagnostics, the curves and the config are published
to `results/<study>/runs/<run>/train/`.

A study with `processes` is trained by as many, which share each batch: the images of one step of
the optimiser are the study's `batch_size` whatever their number, and the learning rate stays.
"""

from __future__ import annotations

import gc
import os
from collections.abc import Container, Mapping
from contextlib import nullcontext
from typing import TYPE_CHECKING, Any

from pipelines.base.artifacts import Stopwatch
from pipelines.base.errors import PipelineError
from pipelines.base.rows import write_series
from pipelines.running import custody
from pipelines.running.cli import limit_threads
from pipelines.running.curves import read_curves
from pipelines.running.custody import Made
from pipelines.running.ownership import claim
from pipelines.running.processes import rank
from pipelines.running.progress import logged, work_folder
from pipelines.running.stage import only_writer, writing
from pipelines.study import Run, Weights
from pipelines.study.places import COMPILED

if TYPE_CHECKING:
    from mmengine.config import Config
    from torch import nn


@only_writer("train")
def train(run: Run) -> None:
    """Train `run`, or go on with it, and publish its results.

    Raises:
        PipelineError: when the data is not prepared or the published weights are not fetched, or
            not as card, entry and receipts say; when these do not fit the model, the plug-in
            refuses it, another process trains this run, or the loss is NaN or infinite.
    """
    limit_threads(run.study.file.threads)
    watch = Stopwatch()
    if rank() == 0:
        _check_inputs(run)
    work = work_folder(run)
    if run.entry.compile:
        # What one run of the study has compiled, the others find.
        os.environ.setdefault("TORCHINDUCTOR_CACHE_DIR", str((run.study.work / COMPILED).resolve()))

    import torch
    from mmengine.model import is_model_wrapper
    from safetensors.torch import save

    from pipelines.configs.numerics import allow_tf32, numerics
    from pipelines.configs.training import training_config
    from pipelines.track.live import live_curves
    from pipelines.train.begun import as_begun
    from pipelines.train.checkpoints import PlainHook, ResumeHook, discard, only_one
    from pipelines.train.divergence import FiniteHook
    from pipelines.train.hooks import read_diagnostics
    from pipelines.train.runner import QuietRunner, register

    torch.set_num_threads(run.study.file.threads)
    register(run)
    computed = numerics(run)
    allow_tf32(computed.precision == "tf32")
    config = training_config(run, work)
    first = rank() == 0
    with only_one(work), live_curves(run, work) if first else nullcontext() as live:
        chosen = as_begun(run, work, computed._asdict())
        # What was imported stays: mmengine collects garbage, and need not go through all of it.
        gc.freeze()
        runner = QuietRunner.from_cfg(_as_trained(config, run))
        for hook in (PlainHook(), ResumeHook(), FiniteHook(run), *([live] if first else [])):
            runner.register_hook(hook)
        runner.train()
        if not first:
            return
        model = runner.model.module if is_model_wrapper(runner.model) else runner.model
        weights, plugin = _split_state(run, config.model, model.state_dict())
        with writing("train", run, run.input_receipts("train"), watch=watch) as outputs:
            scratch = outputs.folder
            # Not save_file, which has errors and file modes of its own.
            for name, tensors in {
                "weights": weights,
                "plugin": plugin,
                "diagnostics": read_diagnostics(work),
            }.items():
                (scratch / f"{name}.safetensors").write_bytes(save(tensors))
            write_series(scratch / "curves.csv", "iteration", read_curves(work))
            # Where it was trained is no property of the result.
            config.pop("work_dir")
            (scratch / "config.py").write_text(config.pretty_text, encoding="utf-8")
            outputs.chosen |= chosen
            outputs.runtime |= logged(work)
            outputs.runtime["added_parameters"] = _trained(model, plugin)
        discard(work)


def _check_inputs(run: Run) -> None:
    claim(run.study)
    custody.require(Made("prepare", run.dataset), content=True)
    if run.weights is not None:
        if not run.weights.receipt.is_file():
            raise PipelineError(_without_weights(run, run.weights))
        custody.require(Made("weights", run.weights), [run.weights.backbone])


def _without_weights(run: Run, weights: Weights) -> str:
    return (
        f"{weights.receipt}: not found; {weights.again()}, "
        f"which downloads {weights.pretrained.file} from {', '.join(weights.sources)}; "
        f"without a network put that file into {weights.downloads}/ before. To start from random "
        f"weights instead, put from_scratch: true into {run.study.path}"
    )


def _as_trained(config: Config, run: Run) -> Config:
    """What trains: the config that is published, which mmsegmentation alone can use, with this
    project's metric of validation and its ways to load images, which change none of them.
    """
    from mmengine.config import Config

    from pipelines.train.image_cache import keep_images
    from pipelines.train.loading import in_workers, number_of_workers, pinned

    # mmengine writes it down four times; nobody reads those well set.
    config = Config(config.to_dict(), format_python_code=False)
    config.visualizer.type = "CurveWriter"
    if "val_evaluator" in config:
        config.val_evaluator.type = "PresentClassesMetric"
    file, loader = run.study.file, config.train_dataloader
    if file.image_cache:
        loader = keep_images(loader, file.image_scale, file.image_cache)
    workers = number_of_workers(file)
    if workers:
        loader = in_workers(loader, workers, run.seed)
    config.train_dataloader = pinned(loader)
    return config


def _trained(model: nn.Module, names: Container[str]) -> int:
    """How many parameters of these names are trained."""
    return sum(
        weight.numel()
        for name, weight in model.named_parameters()
        if weight.requires_grad and name in names
    )


def _split_state(run: Run, trained: Mapping[str, Any], state: dict) -> tuple[dict, dict]:
    """The weights that predict, and what the plug-in has beside them, as CPU tensors."""
    from mmengine.registry import MODELS

    from pipelines.configs.model import evaluated_model

    names = MODELS.build(evaluated_model(run, trained)).state_dict().keys()
    lost = sorted(names - state.keys())
    if lost:
        raise PipelineError(
            f"{run.study.path}: methods.{run.method}.plugin: the trained model has no {lost[0]!r} "
            f"({len(lost)} such names); a plug-in must keep the names of the bare model's weights"
        )
    tensors = {name: tensor.detach().cpu().contiguous() for name, tensor in state.items()}
    return (
        {name: tensors[name] for name in sorted(names)},
        {name: tensors[name] for name in sorted(state.keys() - names)},
    )
