"""What the commands of all stages share: their arguments, exit codes and how errors are shown."""

from __future__ import annotations

import argparse
import os
import select
import sys
import warnings
from collections.abc import Callable

from pipelines.base.errors import PipelineError, disk_errors
from pipelines.running import digests
from pipelines.running.terminal import print_anywhere
from pipelines.study import Dataset, Run, Study

_NOISE = (
    "Fail to import ``MultiScaleDeformableAttention``",  # one of the ops that `make ops` builds
    "Default ``avg_non_ignore`` is False",  # as in the released recipes
    "`broadcast_buffers` is deprecated",  # as mmengine itself says it to DDP
    "Grad strides do not match",  # with channels_last, which DDP does not know of: a copy more
)
"""Warnings of mmcv and mmseg at every start that ask nothing of the user."""


def stage_parser(
    command: str,
    doc: str | None,
    *,
    runs: bool = False,
    datasets: bool = False,
    verify: bool = False,
) -> argparse.ArgumentParser:
    """The argument parser of `python -m pipelines.COMMAND` with `--study`.

    Args:
        doc: what the command says of itself.
        runs, datasets: whether `--run` or `--dataset` choose a part of the study.
        verify: whether the command reads what receipts vouch for, and takes `--verify`.
    """
    parser = argparse.ArgumentParser(
        prog=f"python -m pipelines.{command}",
        allow_abbrev=False,
        description=doc,
        formatter_class=argparse.RawDescriptionHelpFormatter,
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
    if verify:
        parser.add_argument(
            "--verify",
            action=_Verify,
            nargs=0,
            help="hash every byte that is read; without it, large files whose size and times are "
            "those of an earlier time are taken to be the same",
        )
    return parser


class _Verify(argparse.Action):
    def __call__(self, *_: object) -> None:
        digests.trust(False)


def chosen_runs(args: argparse.Namespace) -> list[Run]:
    study = Study.load(args.study)
    return study.runs if args.run is None else [study.run(args.run)]


def chosen_datasets(args: argparse.Namespace) -> list[Dataset]:
    if args.dataset is not None:
        return [Dataset.load(args.dataset)]
    return list(Study.load(args.study).datasets.values())


def guarded(command: Callable[[], None]) -> int:
    """Run a command; a PipelineError becomes its message on stderr and exit status 2."""
    print_anywhere()
    let_waiting_threads_sleep()
    for message in _NOISE:
        warnings.filterwarnings("ignore", message=message)
    try:
        with disk_errors("this folder"):
            command()
        sys.stdout.flush()
    except BrokenPipeError:
        if not _reader_has_gone():
            raise
        # What Python still holds is written at its exit, and must not fail once more.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 141
    except PipelineError as error:
        print(f"error: {error}", file=sys.stderr)
        return 2
    except KeyboardInterrupt:
        print("interrupted; the same command goes on from here", file=sys.stderr)
        return 130
    return 0


def _reader_has_gone() -> bool:
    """Whether standard output is a pipe that nobody reads any more, as after `| head`."""
    poll = select.poll()
    poll.register(sys.stdout.fileno(), 0)
    return any(events & select.POLLERR for _, events in poll.poll(0))


def study_command(
    command: str,
    doc: str | None,
    work: Callable[[Study], str],
    argv: list[str] | None = None,
    *,
    verify: bool = False,
) -> int:
    """Run a command that works on a whole study; `work` returns what there is to say of it."""
    args = stage_parser(command, doc, verify=verify).parse_args(argv)
    return guarded(lambda: print(work(Study.load(args.study))))


def limit_threads(threads: int) -> None:
    """Compute with this many CPU threads, whatever the machine or the driver suggests.

    Call before torch is imported. Floating-point sums depend on the number of threads, so it
    belongs to the study and not to the machine.
    """
    for variable in ("OMP_NUM_THREADS", "MKL_NUM_THREADS", "OPENBLAS_NUM_THREADS"):
        os.environ[variable] = str(threads)
    let_waiting_threads_sleep()


def let_waiting_threads_sleep() -> None:
    """Threads that wait for each other give up their core, which another run may have.

    By default they spin, at the barrier of each operation. Beside busy processes (load 8 on two
    cores) a training step of 125 small layers took 3.7 CPU-seconds with two threads that spin,
    0.36 with two that sleep, and 0.25 with one. Call before torch is imported; whoever sets
    OMP_WAIT_POLICY decides otherwise.
    """
    os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")
