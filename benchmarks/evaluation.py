"""What an evaluation costs beside the inference in it: scores, counts, features, of small images.

    python benchmarks/evaluation.py [--study default] [--images 200] [--repeats 7] [--note TEXT]

Three passes over the first images of the study's split, in turns: *evaluate* is that of
`pipelines.evaluate`, from files to counts and the statistics of features; *bare* loads the same
batches and has mmsegmentation's `test_step` predict them; *forward* loads them and stops at the
scores. Prints a row each with its median time an image (on a CPU the time that the process
computed) and the median ratio to *bare* of the same turn; the goal is 1.05 for *evaluate*. The data
are made in a temporary folder, the weights are random: neither changes what is computed.

The row is added to `evaluation.csv`: the ratios of several calls are the result, not the times.
"""

from __future__ import annotations

import argparse
import csv
import os
import shutil
import statistics
import sys
import tempfile
import time
from collections import deque
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parents[1]
sys.path.insert(0, str(ROOT))

from pipelines.running.cli import limit_threads  # noqa: E402
from pipelines.study import Run, Study  # noqa: E402

GOAL = 1.05
TABLE = Path(__file__).with_suffix(".csv")


def passes(run: Run, images: int) -> dict[str, Callable[[], Any]]:
    """The passes over the first `images` images of the split, by their names."""
    import torch
    from mmengine.model import revert_sync_batchnorm
    from mmengine.registry import MODELS, init_default_scope

    from pipelines.configs.images import evaluation_pipeline
    from pipelines.configs.model import baseline_model
    from pipelines.evaluate import measure
    from pipelines.evaluate.collector import Collector
    from sar.packaged import register_mmseg

    torch.set_num_threads(run.study.file.threads)
    register_mmseg()
    init_default_scope("mmseg")
    torch.manual_seed(0)
    device = "cuda" if torch.cuda.is_available() else "cpu"

    def model() -> Any:
        built = revert_sync_batchnorm(MODELS.build(baseline_model(run)))
        return built.to(device).eval()

    watched, plain = model(), model()
    loader = measure._loader(run, evaluation_pipeline(run))
    del loader.sampler.indices[images:]

    def evaluate() -> None:
        collector = Collector(run.dataset.card.classes)
        predictions = measure._predict(run, watched, loader)
        for image in measure._count(run, predictions, loader, collector):
            collector.add(image.stem, image.pixels)
            collector.join_features(image.features)

    def bare() -> None:
        with torch.inference_mode():
            deque((plain.test_step(batch) for batch in loader), maxlen=0)

    def forward() -> None:
        with torch.inference_mode():
            for batch in loader:
                data = plain.data_preprocessor(batch, False)
                metas = [sample.metainfo for sample in data["data_samples"]]
                plain.inference(data["inputs"], metas)

    return {"bare": bare, "evaluate": evaluate, "forward": forward}


def seconds(work: Callable[[], Any]) -> float:
    """Of the process on a CPU, so that neighbours count less; on a GPU as the clock goes."""
    import torch

    clock = time.process_time
    if torch.cuda.is_available():
        clock = time.perf_counter
        torch.cuda.synchronize()
    start = clock()
    work()
    if torch.cuda.is_available():
        torch.cuda.synchronize()
    return clock() - start


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--study", default="default")
    parser.add_argument("--images", type=int, default=200)
    parser.add_argument("--repeats", type=int, default=7)
    parser.add_argument("--note", default="", help="what else is to be known, for the table")
    args = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        shutil.copytree(ROOT / "params", Path(folder) / "params")
        os.chdir(folder)
        study = Study.load(args.study)
        run = replace(study.runs[0], seed=study.file.seeds[-1])
        limit_threads(study.file.threads)
        from pipelines.fetch.stage import fetch
        from pipelines.prepare.stage import prepare

        fetch(run.dataset)
        prepare(run.dataset)
        work = passes(run, args.images)
        turns = [{name: seconds(each) for name, each in work.items()} for _ in range(args.repeats)]
        os.chdir(ROOT)
    print(f"{run.dataset.name}, {run.model}, {args.images} images, {args.repeats} turns")
    row: dict[str, Any] = {"study": args.study, "images": args.images, "turns": args.repeats}
    for name in work:
        each = 1e3 * statistics.median(turn[name] for turn in turns[1:]) / args.images
        ratio = statistics.median(turn[name] / turn["bare"] for turn in turns[1:])
        goal = f"  (goal {GOAL})" if name == "evaluate" else ""
        print(f"{name:9} {each:7.3f} ms an image  {ratio:5.3f}{goal}")
        row |= {f"{name}_ms": round(each, 3), f"{name}_ratio": round(ratio, 3)}
    row |= {"goal": GOAL, "load": round(os.getloadavg()[0], 1), "note": args.note}
    with TABLE.open("a", newline="", encoding="utf-8") as stream:
        writer = csv.DictWriter(stream, list(row), lineterminator="\n")
        if not stream.tell():
            writer.writeheader()
        writer.writerow(row)


if __name__ == "__main__":
    main()
