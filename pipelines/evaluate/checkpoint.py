"""Test a checkpoint on a data set, without a study and without training anything.

It is evaluated by the same code as a run, and leaves the same files.
"""

from __future__ import annotations

import argparse
import os
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

from pipelines.base.artifacts import Stopwatch
from pipelines.base.errors import PipelineError
from pipelines.evaluate.subject import CheckpointTest
from pipelines.running import custody
from pipelines.running.cli import limit_threads
from pipelines.running.custody import Made
from pipelines.study import Dataset, params_file, read_params
from pipelines.study.evaluation import Evaluation
from pipelines.study.model_entry import ModelEntry

if TYPE_CHECKING:
    from sar.trained.bundle import Bundle
    from sar.trained.configs import ModelConfig


def add_arguments(parser: argparse.ArgumentParser) -> None:
    group = parser.add_argument_group("test a checkpoint instead of a study's runs")
    group.add_argument(
        "--checkpoint",
        type=Path,
        metavar="FILE",
        help="what `python -m sar import` wrote; or weights.safetensors of a run, with its "
        "config.py beside it; or a checkpoint of mmsegmentation, with --config or --model",
    )
    group.add_argument("--dataset", help="name of a file in params/datasets")
    group.add_argument("--config", help="config file of mmsegmentation 1.x, for the checkpoint")
    group.add_argument("--model", help="name of a file in params/models, instead of --config")
    group.add_argument("--split", choices=["val", "test"], help="default: test")
    group.add_argument("--batch-size", type=int, metavar="N", help="default: 1")
    group.add_argument("--threads", type=int, metavar="N", help="default: all CPUs")
    group.add_argument("-o", "--output", type=Path, metavar="DIR", help="where results go")
    group.add_argument(
        "--trust-code",
        action="store_true",
        default=None,
        help="run the Python code that came with the checkpoint",
    )


_GIVEN = ("dataset", "config", "model", "split", "batch_size", "threads", "output", "trust_code")


def check_arguments(args: argparse.Namespace) -> None:
    """Refuse arguments of a checkpoint's test without one, and the other way round.

    Raises:
        PipelineError: naming the argument.
    """
    if args.checkpoint is None:
        for name in _GIVEN:
            if getattr(args, name) is not None:
                raise PipelineError(f"--{name.replace('_', '-')}: goes with --checkpoint")
        return
    if args.run is not None:
        raise PipelineError(f"--run {args.run}: expected --run or --checkpoint, not both")
    for name in ("dataset", "output"):
        if getattr(args, name) is None:
            raise PipelineError(f"--checkpoint {args.checkpoint}: expected --{name} with it")
    if args.config is not None and args.model is not None:
        raise PipelineError("--config, --model: expected one of them")
    for name in ("batch_size", "threads"):
        value = getattr(args, name)
        if value is not None and value < 1:
            raise PipelineError(f"--{name.replace('_', '-')} {value}: expected 1 or more")
    if args.output.exists() and not args.output.is_dir():
        raise PipelineError(f"--output {args.output}: expected a folder, found a file")


def evaluate_checkpoint(args: argparse.Namespace) -> CheckpointTest:
    """Write the scores of a checkpoint into the folder that the arguments name.

    Raises:
        PipelineError: when the data is not prepared, a file is not as its receipt says, or
            checkpoint, config and data do not agree.
    """
    threads = args.threads or os.cpu_count() or 1
    limit_threads(threads)
    watch, dataset = Stopwatch(), Dataset.load(args.dataset)
    evaluation = Evaluation(split=args.split or "test", batch_size=args.batch_size or 1)
    if evaluation.split not in dataset.card.splits:
        raise PipelineError(
            f"--split {evaluation.split}: {dataset.card_file} has {', '.join(dataset.card.splits)}"
        )
    custody.require(Made("prepare", dataset), content=True)
    for name in (args.checkpoint.name, "config.py"):
        custody.require_vouched(args.checkpoint.with_name(name))

    import torch

    from pipelines.configs.numerics import allow_tf32
    from pipelines.evaluate.measure import Tested, measure
    from sar.errors import SarError
    from sar.trained.bundle import load_model
    from sar.trained.reading import read_trained

    torch.set_num_threads(threads)
    allow_tf32(False)
    try:
        config = args.config if args.model is None else _entry_config(args.model, dataset)
        trusted = bool(args.trust_code)
        bundle = read_trained(args.checkpoint, config, trust_code=trusted)
        device = "cuda" if torch.cuda.is_available() else "cpu"
        model = load_model(bundle, device, trust_code=trusted)
    except SarError as error:
        raise PipelineError(str(error)) from error
    _check_classes(bundle, dataset, args.checkpoint)
    test = CheckpointTest(args.checkpoint, dataset, evaluation, threads, args.output, bundle)
    tested = Tested(
        model=model,
        pipeline=[
            {"type": "LoadImageFromFile"},
            *bundle.image_steps,
            {"type": "LoadAnnotations"},
            {"type": "PackSegInputs"},
        ],
        state={name: tensor.numpy() for name, tensor in bundle.regularizer.items()},
        log={},
        inputs=[args.checkpoint, dataset.receipt],
    )
    measure(test, tested, watch)
    return test


def _entry_config(name: str, dataset: Dataset) -> ModelConfig:
    """What a model entry says, with the names of the data set's classes."""
    from pipelines.configs.model import entry_config
    from sar.trained.configs import from_config

    path = params_file("models", name)
    config = from_config(entry_config(name, read_params(path, ModelEntry)), path.as_posix())
    card = dataset.card
    return replace(config, classes=card.classes, palette=card.palette)


def _check_classes(bundle: Bundle, dataset: Dataset, checkpoint: Path) -> None:
    """Their number has to be the data set's, and their order where the names are the same."""
    ours, theirs = dataset.card.classes, bundle.classes
    if len(ours) != len(theirs):
        raise PipelineError(
            f"{checkpoint}: tells {len(theirs)} classes apart, and {dataset.card_file} has "
            f"{len(ours)}"
        )
    moved = [
        (index, name)
        for index, name in enumerate(theirs)
        if name in ours and ours.index(name) != index
    ]
    if moved:
        index, name = moved[0]
        raise PipelineError(
            f"{checkpoint}: its class {index} is {name!r}, which is class {ours.index(name)} of "
            f"{dataset.card_file}; expected the same order"
        )
    other = [pair for pair in zip(theirs, ours, strict=True) if pair[0] != pair[1]]
    if other:
        shown = ", ".join(f"{theirs} is taken for {ours}" for theirs, ours in other[:5])
        print(f"note: {len(other)} classes have other names in the checkpoint: {shown}")
