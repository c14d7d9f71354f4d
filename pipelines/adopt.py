"""Take over results that DVC made or pulled, so that Snakemake plans nothing.

DVC knows files by content and Snakemake by time: after `dvc repro`, `dvc pull` or `dvc checkout`
Snakemake would run again what is already there. Where `dvc status` is clean, all files are what the
present parameters and code ask for, and Snakemake's records may be brought up to date.
"""

from __future__ import annotations

import subprocess
import sys

from pipelines.base.errors import PipelineError
from pipelines.drivers.dvc_yaml import study_file
from pipelines.running.cli import study_command
from pipelines.study import Study

_CLEAN = "Data and pipelines are up to date."


def adopt(study: Study) -> None:
    """Tell Snakemake that the results of `study` are current.

    Raises:
        PipelineError: when `dvc status` is not clean, or one of the two programs fails.
    """
    file = study_file(study)
    if not file.is_file():
        raise PipelineError(f"{file}: not found; write it with make dvc")
    status = _run("dvc", "status", "--with-deps", file.as_posix())
    if _CLEAN not in status:
        raise PipelineError(
            f"dvc status of {file} is not clean, so Snakemake has to run what changed:\n{status}"
        )
    # Forced, since a touch without it leaves out what looks current, and with it its parameters.
    _run(
        "snakemake", "--cores", "1", "--touch", "--forceall", "--config", f"study={study.reference}"
    )


def _run(module: str, *arguments: str) -> str:
    command = [sys.executable, "-m", module, *arguments]
    done = subprocess.run(command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True)
    if done.returncode:
        raise PipelineError(f"{module} {' '.join(arguments)} failed:\n{done.stdout}")
    return done.stdout


def main(argv: list[str] | None = None) -> int:
    def work(study: Study) -> str:
        adopt(study)
        return f"adopted {study.results}: snakemake --config study={study.argument} plans nothing"

    return study_command("adopt", __doc__, work, argv)


if __name__ == "__main__":
    sys.exit(main())
