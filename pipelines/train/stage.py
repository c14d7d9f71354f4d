"""Train runs of a study with mmengine's Runner.

Checkpoints are kept in `work/<study>/runs/<run>/`, keyed by the hash of the run's parameters and
data: started again after a kill, the same command goes on from the last one. At the end the weights
of the bare model, the plug-in's own state and diagnostics, the curves and the config are published
to `results/<study>/runs/<run>/train/`.

A study with `processes` is trained by as many, which share each batch: the images of one step of
the optimiser are the study's `batch_size` whatever their number, and the learning rate stays.
"""

from __future__ import annotations

import copy
from contextlib import nullcontext
from typing import TYPE_CHECKING

from pipelines.base.artifacts import Stopwatch
from pipelines.base.errors import PipelineError
from pipelines.running.cli import limit_threads
from pipelines.running.curves import read_curves
from pipelines.running.processes import rank
from pipelines.running.progress import logged, work_folder
from pipelines.running.stage import writing
from pipelines.study import Run, Weights

if TYPE_CHECKING:
    from mmengine.config import Config


def train(run: Run) -> None:
    """Train `run`, or go on with it, and publish its results.

    Raises:
        PipelineError: when the data is not prepared or the published weights are not fetched, when
            these do not fit the model, the plug-in refuses it, another process trains this run, or
            the loss is NaN or infinite.
    """
    limit_threads(run.study.file.threads)
    watch = Stopwatch()
    if not run.dataset.receipt.is_file():
        raise PipelineError(
            f"{run.dataset.receipt}: not found; "
            f"run python -m pipelines.prepare --dataset {run.dataset.name}"
        )
    if run.weights is not None and not run.weights.receipt.is_file():
        raise PipelineError(_without_weights(run, run.weights))
    work = work_folder(run)

    import pandas as pd
    import torch
    from mmengine.model import is_model_wrapper
    from safetensors.torch import save_file

    from pipelines.configs.training import training_config
    from pipelines.track.live import live_curves
    from pipelines.train.checkpoints import ResumeHook, discard, only_one
    from pipelines.train.divergence import FiniteHook
    from pipelines.train.hooks import read_diagnostics
    from pipelines.train.runner import QuietRunner, register

    torch.set_num_threads(run.study.file.threads)
    register(run)
    config = training_config(run, work)
    first = rank() == 0
    with only_one(work), live_curves(run, work) if first else nullcontext() as live:
        runner = QuietRunner.from_cfg(_with_workers(config, run))
        for hook in (ResumeHook(), FiniteHook(run), *([live] if first else [])):
            runner.register_hook(hook)
        runner.train()
        if not first:
            return
        model = runner.model.module if is_model_wrapper(runner.model) else runner.model
        weights, plugin = _split_state(run, model.state_dict())
        with writing("train", run, run.input_receipts("train"), watch=watch) as outputs:
            scratch = outputs.folder
            save_file(weights, scratch / "weights.safetensors")
            save_file(plugin, scratch / "plugin.safetensors")
            save_file(read_diagnostics(work), scratch / "diagnostics.safetensors")
            curves = pd.DataFrame.from_dict(read_curves(work), orient="index").sort_index()
            curves[sorted(curves.columns)].to_csv(
                scratch / "curves.csv", index_label="iteration", lineterminator="\n"
            )
            # Where it was trained is no property of the result.
            config.pop("work_dir")
            (scratch / "config.py").write_text(config.pretty_text, encoding="utf-8")
            outputs.runtime |= logged(work)
        discard(work)


def _without_weights(run: Run, weights: Weights) -> str:
    return (
        f"{weights.receipt}: not found; run python -m pipelines.fetch --weights {weights.model}, "
        f"which downloads {weights.pretrained.file} from {', '.join(weights.sources)}; "
        f"without a network put that file into {weights.downloads}/ before. To start from random "
        f"weights instead, put from_scratch: true into {run.study.path}"
    )


def _with_workers(config: Config, run: Run) -> Config:
    """What trains: the config that is published, with the study's number of loading processes."""
    workers = run.study.file.workers
    if not workers:
        return config
    from pipelines.train.loading import in_workers

    config = copy.deepcopy(config)
    config.train_dataloader = in_workers(config.train_dataloader, workers, run.seed)
    return config


def _split_state(run: Run, state: dict) -> tuple[dict, dict]:
    """The bare model's weights, and what the plug-in added to them, as CPU tensors."""
    from mmengine.registry import MODELS

    from pipelines.configs.model import baseline_model

    names = MODELS.build(baseline_model(run)).state_dict().keys()
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
