"""Evaluate the weights of trained runs on the split that the study names.

The bare model is built without the method's plug-in: at inference a method costs nothing, unless
it takes the classifier's place (`sar.classifier`). Writes
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
from pipelines.base.reading import read_arrays, read_tensors, reading
from pipelines.evaluate.measure import Tested, measure
from pipelines.running import custody
from pipelines.running.cli import limit_threads
from pipelines.running.custody import Made
from pipelines.running.ownership import claim
from pipelines.running.processes import rank
from pipelines.running.stage import only_writer
from pipelines.study import Run


@only_writer("evaluate")
def evaluate(run: Run) -> None:
    """Write the scores of `run` on its evaluation split.

    Raises:
        PipelineError: when the run is not trained with its present parameters and data, a file of
            these is not as its receipt says, or its weights are not finite.
    """
    limit_threads(run.study.file.threads)
    watch = Stopwatch()
    again = run.again("train")
    if rank() == 0:
        claim(run.study)
        names = [f"{name}.safetensors" for name in ("weights", "plugin", "diagnostics")]
        names.append("config.py")
        custody.require(Made("train", run), [run.output("train", name) for name in names])
        custody.require(Made("prepare", run.dataset), content=True)

    from pipelines.configs.images import evaluation_pipeline

    tested = Tested(
        model=_load_model(run),
        pipeline=evaluation_pipeline(run),
        state=read_arrays(run.output("train", "plugin.safetensors"), again),
        log=read_arrays(run.output("train", "diagnostics.safetensors"), again),
        inputs=run.input_receipts("evaluate"),
    )
    measure(run, tested, watch)


def _load_model(run: Run) -> Any:
    """The model with the trained weights, for inference."""
    import torch
    from mmengine.config import Config
    from mmengine.model import revert_sync_batchnorm
    from mmengine.registry import MODELS, init_default_scope

    from pipelines.configs.model import evaluated_model
    from pipelines.configs.numerics import allow_tf32
    from sar.checkpoints import check_finite
    from sar.errors import SarError
    from sar.packaged import register_mmseg

    torch.set_num_threads(run.study.file.threads)
    allow_tf32(False)
    register_mmseg()
    init_default_scope("mmseg")
    path, again = run.output("train", "config.py"), run.again("train")
    with reading(path, "config of a trained model", again):
        trained = Config.fromfile(path, import_custom_modules=False).model
    model = revert_sync_batchnorm(MODELS.build(evaluated_model(run, trained)))
    path = run.output("train", "weights.safetensors")
    weights = read_tensors(path, again)
    try:
        check_finite(weights, path)
    except SarError as error:
        raise PipelineError(f"{error}; remove {path.parent} and train the run again") from error
    with reading(path, "weights of this model", again):
        model.load_state_dict(weights, strict=True)
    return model.to("cuda" if torch.cuda.is_available() else "cpu").eval()
