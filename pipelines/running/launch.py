"""Work on runs in as many processes as their study says: torchrun around the same command.

`python -m pipelines.train --run R` of a study with `processes: 4` claims four GPUs, where there are
some, and starts torchrun on itself with a rendezvous of its own on this machine; in each of its
processes the same module then works on the run. Where torchrun already started this process, here
or on several hosts, it joins the others.
"""

from __future__ import annotations

import signal
import sys
from collections.abc import Callable, Sequence
from functools import partial
from typing import Literal

from pipelines.base.errors import PipelineError
from pipelines.running.cli import limit_threads
from pipelines.running.devices import claimed
from pipelines.running.processes import joined, started_by_torchrun
from pipelines.running.sharing import runs_per_gpu
from pipelines.study import Run


def in_processes(
    module: str,
    argv: Sequence[str] | None,
    runs: Sequence[Run],
    action: Callable[[Run], None],
    collectives: Literal["model", "objects"],
) -> None:
    """Do `action` for each run, in the processes of its study.

    Call before torch is imported. GPUs stay claimed until all is done.

    Args:
        module: of the command, to start in each process.
        argv: arguments of the command; None for those of this process.
        runs: of one study.
        collectives: what the processes exchange; see `processes.joined`.

    Raises:
        PipelineError: when a process failed, with the first error of all; or from `action`.
    """
    if started_by_torchrun():
        for run in runs:
            with joined(run, collectives):
                action(run)
        return
    study = runs[0].study
    key = f"{study.path}: processes"
    slots = partial(runs_per_gpu, runs)
    with claimed(study.file.processes, required=study.file.gpus, key=key, slots=slots):
        for run in runs:
            if study.file.processes == 1:
                action(run)
            else:
                words = sys.argv[1:] if argv is None else argv
                limit_threads(study.file.threads)
                torchrun(study.file.processes, module, *words, "--run", run.name)


def torchrun(processes: int, module: str, *arguments: str) -> None:
    """Run `python -m module` in several processes on this machine, and wait for all of them.

    A signal reaches them all, and none outlives this process.

    Raises:
        PipelineError: when one of them failed; the others were ended.
        KeyboardInterrupt: after Ctrl-C.
        SystemExit: after another signal, with the exit status that shells give to it.
    """
    from torch.distributed.elastic.multiprocessing.api import SignalException
    from torch.distributed.elastic.multiprocessing.errors import ChildFailedError
    from torch.distributed.run import parse_args, run

    # Its address is said, since a machine's own name need not lead to it.
    options = ["--standalone", "--local-addr", "127.0.0.1", "--nproc-per-node", str(processes)]
    command = parse_args([*options, "-m", module])
    # Not parsed with the rest: torchrun takes --run for an abbreviation of its own --run-path.
    command.training_script_args = list(arguments)
    try:
        run(command)
    except ChildFailedError as error:
        rank, failure = error.get_first_failure()
        message = failure.message
        if isinstance(message, dict):
            message = message["message"]
        raise PipelineError(
            f"process {rank} of {processes} failed first (exit status {failure.exitcode}), the "
            f"others were ended: {message or 'its error stands above'}"
        ) from None
    except SignalException as error:
        if error.sigval == signal.SIGINT:
            raise KeyboardInterrupt from None
        raise SystemExit(128 + error.sigval) from None
