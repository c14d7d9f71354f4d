"""Take over results that DVC made or pulled, so that Snakemake plans nothing.

DVC knows files by content and Snakemake by time: after `dvc repro`, `dvc pull` or `dvc checkout`
Snakemake would run again what is already there. Where `dvc status` is clean, all files are what the
present parameters and code ask for, and Snakemake's records may be brought up to date. What a run
that `restore` brought back lacks, such as weights, is no difference.
"""

from __future__ import annotations

import json
import subprocess
import sys
from typing import Any

from pipelines.base.errors import PipelineError
from pipelines.drivers.dvc_yaml import run_stage_names, study_file
from pipelines.running.cli import study_command
from pipelines.running.finished import without_weights
from pipelines.study import Study


def adopt(study: Study) -> None:
    """Tell Snakemake that the results of `study` are current.

    Raises:
        PipelineError: when `dvc status` is not clean, or one of the two programs fails.
    """
    file = study_file(study)
    if not file.is_file():
        raise PipelineError(f"{file}: not found; write it with make dvc")
    status = _run("dvc", "status", "--with-deps", "--json", file.as_posix())
    changed = _changed(study, json.loads(status))
    if changed:
        raise PipelineError(
            f"dvc status of {file} is not clean, so Snakemake has to run what changed:\n"
            + json.dumps(changed, indent=2)
        )
    # Forced, since a touch without it leaves out what looks current, and with it its parameters.
    _run(
        "snakemake", "--cores", "1", "--touch", "--forceall", "--config", f"study={study.reference}"
    )


def _changed(study: Study, status: dict[str, list[Any]]) -> dict[str, list[Any]]:
    """What of `dvc status --json` is more than that files of runs brought back are not here."""
    brought_back = set(run_stage_names(run for run in study.runs if without_weights(run)))

    def only_absent(changes: list[Any]) -> bool:
        kinds = {kind for change in changes for kind in change}
        states = {state for change in changes for state in change.get("changed outs", {}).values()}
        return kinds == {"changed outs"} and states == {"deleted"}

    return {
        stage: changes
        for stage, changes in status.items()
        if stage.rpartition(":")[2] not in brought_back or not only_absent(changes)
    }


def _run(module: str, *arguments: str) -> str:
    command = [sys.executable, "-m", module, *arguments]
    # Apart: a warning on stderr is no part of the JSON.
    done = subprocess.run(command, capture_output=True, encoding="utf-8", errors="replace")
    if done.returncode:
        told = done.stdout + done.stderr
        raise PipelineError(f"{module} {' '.join(arguments)} failed:\n{told}")
    return done.stdout


def main(argv: list[str] | None = None) -> int:
    def work(study: Study) -> str:
        adopt(study)
        return f"adopted {study.results}: snakemake --config study={study.argument} plans nothing"

    return study_command("adopt", __doc__, work, argv)


if __name__ == "__main__":
    sys.exit(main())
