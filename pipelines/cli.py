"""What the commands of all stages share: their arguments, exit codes and how errors are shown."""

from __future__ import annotations

import argparse
import os
import sys
import warnings
from collections.abc import Callable

from pipelines.errors import PipelineError
from pipelines.study import Dataset, Run, Study

_NOISE = (
    "Fail to import ``MultiScaleDeformableAttention``",  # one of the ops that `make ops` builds
    "Default ``avg_non_ignore`` is False",  # as in the released recipes
    "`broadcast_buffers` is deprecated",  # as mmengine itself says it to DDP
    "Grad strides do not match",  # with channels_last, which DDP does not know of: a copy more
)
"""Warnings of mmcv and mmseg at every start that ask nothing of the user."""


def stage_parser(
    doc: str | None, *, runs: bool = False, datasets: bool = False
) -> argparse.ArgumentParser:
    """An argument parser with `--study`, and `--run` or `--dataset` to choose a part of it."""
    parser = argparse.ArgumentParser(
        description=doc, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument(
        "--study",
        default="default",
        help="name of a file in params/studies, or a path to one; either with @VARIANT "
        "(default: %(default)s)",
    )
    if runs:
        parser.add_argument(
            "--run",
            metavar="DATASET/MODEL/METHOD/seedK",
            help="one run of the study (default: all of them, one after the other)",
        )
    if datasets:
        parser.add_argument("--dataset", help="one data set, whatever the study (default: all its)")
    return parser


def chosen_runs(args: argparse.Namespace) -> list[Run]:
    study = Study.load(args.study)
    return study.runs if args.run is None else [study.run(args.run)]


def chosen_datasets(args: argparse.Namespace) -> list[Dataset]:
    if args.dataset is not None:
        return [Dataset.load(args.dataset)]
    return list(Study.load(args.study).datasets.values())


def guarded(command: Callable[[], None]) -> int:
    """Run a command; a PipelineError becomes its message on stderr and exit status 2."""
    for message in _NOISE:
        warnings.filterwarnings("ignore", message=message)
    try:
        command()
    except PipelineError as error:
        print(f"error: {error}", file=sys.stderr)
        return 2
    except KeyboardInterrupt:
        print("interrupted; the same command goes on from here", file=sys.stderr)
        return 130
    return 0


def limit_threads(threads: int) -> None:
    """Compute with this many CPU threads, whatever the machine or the driver suggests.

    Call before torch is imported. Floating-point sums depend on the number of threads, so it
    belongs to the study and not to the machine.
    """
    for variable in ("OMP_NUM_THREADS", "MKL_NUM_THREADS", "OPENBLAS_NUM_THREADS"):
        os.environ[variable] = str(threads)
