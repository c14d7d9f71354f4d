"""Evaluate the weights of trained runs on the split that the study names.

The bare model is built without the method's plug-in: at inference a method costs nothing. Writes
`metrics.json` and its headline `scores.json` (percent), `confusion.csv` (pixels; rows truth,
columns prediction), the predicted class ids of a few images, evenly spaced over the split, as
`predictions.npz`, and of all images and their features what later questions need as `analysis.npz`.

With `--checkpoint`, a checkpoint from elsewhere is tested on a data set in the same way.
"""

from __future__ import annotations

import sys
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

from pipelines import checkpoint
from pipelines.artifacts import Stopwatch, canonical_json, read_json, staged, write_receipt
from pipelines.cli import chosen_runs, guarded, limit_threads, stage_parser
from pipelines.errors import PipelineError
from pipelines.metrics import confusion_matrix, headline, scores
from pipelines.study import Run
from pipelines.track import push

if TYPE_CHECKING:
    import numpy as np


class Prediction(NamedTuple):
    """Of one image: class ids (H, W) and, unless `missing` says why not, its feature map."""

    stem: str
    truth: np.ndarray
    prediction: np.ndarray
    features: np.ndarray | None
    """(C, h, w), what the last decode head classified."""
    labels: np.ndarray | None
    """(h, w), the truth at its resolution."""
    stride: tuple[float, float] | None
    """Rows and columns of the model's input for a pixel of the map."""
    missing: str


class Tested(NamedTuple):
    """A model that is tested, and what is kept of its training."""

    model: Any
    pipeline: list[dict[str, Any]]
    """Of mmsegmentation: from an image file to what the model takes."""
    state: Mapping[str, np.ndarray]
    """Of the plug-in, by name."""
    log: Mapping[str, np.ndarray]
    """The plug-in's diagnostics by name."""
    inputs: Sequence[Path]
    """The files that the results come from, for the receipt."""


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

    from pipelines.config import evaluation_pipeline

    tested = Tested(
        model=_load_model(run),
        pipeline=evaluation_pipeline(run),
        state=load_file(run.output("train", "plugin.safetensors")),
        log=load_file(run.output("train", "diagnostics.safetensors")),
        inputs=[trained, run.dataset.receipt],
    )
    measure(run, tested, watch)


def measure(run: Run | checkpoint.CheckpointTest, tested: Tested, watch: Stopwatch) -> None:
    """Test a model on the split that `run` names, and write what the stage declares."""
    import numpy as np
    import pandas as pd

    from pipelines.collect import Collector
    from pipelines.features import classifier_arrays

    info, card, split = read_json(run.dataset.info), run.dataset.card, run.evaluation.split
    confusion = np.zeros((len(card.classes), len(card.classes)), dtype=np.int64)
    kept = _gallery_indices(info["counts"][split], run.evaluation.gallery)
    predictions = {}
    collector = Collector(card.classes)
    for index, image in enumerate(_predict(run, tested)):
        pixels = confusion_matrix(
            image.truth, image.prediction, len(card.classes), card.ignore_index
        )
        confusion += pixels
        if index in kept:
            predictions[image.stem] = image.prediction
        collector.add(image.stem, pixels)
        if image.missing:
            collector.without_features(image.missing)
        else:
            collector.add_features(image.features, image.labels, image.stride)
    metrics = {
        "dataset": run.dataset.name,
        "split": split,
        "num_images": index + 1,
        **scores(confusion, card.classes, info["groups"]),
    }
    with staged(run.folder("evaluate")) as scratch:
        (scratch / "metrics.json").write_text(canonical_json(metrics), encoding="utf-8")
        (scratch / "scores.json").write_text(canonical_json(headline(metrics)), encoding="utf-8")
        table = pd.DataFrame(confusion, index=card.classes, columns=card.classes)
        table.to_csv(scratch / "confusion.csv", index_label="truth", lineterminator="\n")
        np.savez_compressed(scratch / "predictions.npz", **predictions)
        collector.write(
            scratch / "analysis.npz",
            classifier=classifier_arrays(tested.model),
            state=tested.state,
            log=tested.log,
        )
        write_receipt(
            scratch,
            stage="evaluate",
            subject=run.name,
            parameters=run.parameters_hash("evaluate"),
            inputs=tested.inputs,
        )
        watch.write(scratch)


def _gallery_indices(count: int, wanted: int) -> set[int]:
    """`wanted` indices below `count`, in the middle of equal parts of the split."""
    wanted = min(wanted, count)
    return {(2 * part + 1) * count // (2 * wanted) for part in range(wanted)}


def _load_model(run: Run) -> Any:
    """The bare model with the trained weights, for inference."""
    import torch
    from mmengine.model import revert_sync_batchnorm
    from mmengine.registry import MODELS, init_default_scope
    from mmseg.utils import register_all_modules
    from safetensors.torch import load_file

    from pipelines.config import baseline_model

    torch.set_num_threads(run.study.file.threads)
    register_all_modules()
    init_default_scope("mmseg")
    model = revert_sync_batchnorm(MODELS.build(baseline_model(run)))
    model.load_state_dict(load_file(run.output("train", "weights.safetensors")), strict=True)
    return model.to("cuda" if torch.cuda.is_available() else "cpu").eval()


def _predict(run: Run | checkpoint.CheckpointTest, tested: Tested) -> Iterator[Prediction]:
    """What the model predicts for every image of the split, in order."""
    import numpy as np
    import torch
    from mmengine.runner import Runner

    from pipelines.config import dataloader
    from pipelines.features import NoFeatureMapError, feature_maps, map_labels, record_features

    loader = Runner.build_dataloader(
        dataloader(run, run.evaluation.split, run.evaluation.batch_size, tested.pipeline)
    )
    ignore_index = run.dataset.card.ignore_index
    seen = record_features(tested.model)
    with torch.inference_mode():
        for batch in loader:
            samples, maps, missing = tested.model.test_step(batch), None, ""
            try:
                maps = feature_maps(seen, len(samples)).float().cpu()
            except NoFeatureMapError as error:
                missing = str(error)
            seen.clear()
            for index, sample in enumerate(samples):
                truth = sample.gt_sem_seg.data[0].cpu()
                features = labels = stride = None
                if maps is not None:
                    features = maps[index].numpy()
                    labels, stride = map_labels(
                        truth, sample.metainfo, features.shape[1:], ignore_index
                    )
                yield Prediction(
                    Path(sample.img_path).stem,
                    truth.numpy(),
                    sample.pred_sem_seg.data[0].cpu().numpy().astype(np.uint8),
                    features,
                    labels,
                    stride,
                    missing,
                )


def main(argv: list[str] | None = None) -> int:
    parser = stage_parser(__doc__, runs=True)
    checkpoint.add_arguments(parser)
    args = parser.parse_args(argv)

    def command() -> None:
        checkpoint.check_arguments(args)
        if args.checkpoint is not None:
            test = checkpoint.evaluate_checkpoint(args)
            miou = read_json(args.output / "metrics.json")["mIoU"]
            print(f"{test.name}: mIoU {miou:.2f} % on {test.evaluation.split}")
            return
        for run in chosen_runs(args):
            evaluate(run)
            miou = read_json(run.output("evaluate", "metrics.json"))["mIoU"]
            print(f"{run.name}: mIoU {miou:.2f} % on {run.evaluation.split}")
            push(run.study, run)

    return guarded(command)


if __name__ == "__main__":
    sys.exit(main())
