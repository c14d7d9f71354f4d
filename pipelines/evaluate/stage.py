"""Evaluate the weights of trained runs on the split that the study names.

The bare model is built without the method's plug-in: at inference a method costs nothing. Writes
`metrics.json` and its headline `scores.json` (percent), `confusion.csv` (pixels; rows truth,
columns prediction), the predicted class ids of all images as `predictions.npz` where the run is of
the study's first seed, and of all images and their features what later questions need as
`analysis.npz`.

All of that is the single-scale test. Where the study asks for `evaluation.multi_scale` too, the
same weights are tested once more and metrics.json holds those scores under `multi-scale`.

A study with `processes` is evaluated by as many, which share the images batch by batch; what they
find is joined in the order of the split, so that nothing written depends on their number.

With `--checkpoint`, a checkpoint from elsewhere is tested on a data set in the same way.
"""

from __future__ import annotations

from typing import Any

from pipelines.base.artifacts import Stopwatch
from pipelines.base.errors import PipelineError
from pipelines.evaluate.measure import Tested, measure
from pipelines.running.cli import limit_threads
from pipelines.study import Run


def evaluate(run: Run) -> None:
    """Write the scores of `run` on its evaluation split.

    Raises:
        PipelineError: when the run is not trained.
    """
    limit_threads(run.study.file.threads)
    watch = Stopwatch()
    trained = run.output("train", "receipt.json")
    if not trained.is_file():
        raise PipelineError(
            f"{trained}: not found; run python -m pipelines.train --study {run.study.name} "
            f"--run {run.name}"
        )

    from safetensors.numpy import load_file

    from pipelines.configs.images import evaluation_pipeline

    tested = Tested(
        model=_load_model(run),
        pipeline=evaluation_pipeline(run),
        state=load_file(run.output("train", "plugin.safetensors")),
        log=load_file(run.output("train", "diagnostics.safetensors")),
        inputs=[trained, run.dataset.receipt],
    )
    measure(run, tested, watch)


def _load_model(run: Run) -> Any:
    """The bare model with the trained weights, for inference."""
    import torch
    from mmengine.model import revert_sync_batchnorm
    from mmengine.registry import MODELS, init_default_scope
    from mmseg.utils import register_all_modules
    from safetensors.torch import load_file

    from pipelines.configs.model import baseline_model

    torch.set_num_threads(run.study.file.threads)
    register_all_modules()
    init_default_scope("mmseg")
    model = revert_sync_batchnorm(MODELS.build(baseline_model(run)))
    model.load_state_dict(load_file(run.output("train", "weights.safetensors")), strict=True)
    return model.to("cuda" if torch.cuda.is_available() else "cpu").eval()
