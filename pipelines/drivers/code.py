"""Which files of the program decide what a stage writes, for the drivers to depend on.

A change in them runs the stage again. They are `pipelines/STAGE/stage.py` and all that it imports,
directly or through others; for a run also the modules that its model entry names, and for its
training the plug-in of its method and the options of its entry. Nobody keeps a list of them. What
cannot change a result is left out, each with its reason.
"""

from __future__ import annotations

import functools
from pathlib import Path

from pipelines.drivers import imports
from pipelines.study import Run
from pipelines.study.places import ROOT
from pipelines.study.run_options import model_modules, option_modules, plugin_module

NOT_DECISIVE = {
    "pipelines.study": "what parameters say is in the hash that a stage's outputs are known by",
    "pipelines.base.errors": "what an error says",
    "pipelines.base.artifacts": "how results are kept, not what they are",
    "pipelines.base.measuring": "time and memory, which no result depends on",
    "pipelines.running.cli": "arguments and exit codes",
    "pipelines.running.launch": "in how many processes a command works, which the parameters say",
    "pipelines.running.processes": "how processes find each other and share the work",
    "pipelines.running.devices": "which device a run gets",
    "pipelines.running.progress": "how far a training is",
    "pipelines.running.finished": "which runs are finished",
    "pipelines.running.stage": "how results are kept, not what they are",
    "pipelines.track": "a view of results in MLflow",
    "sar.errors": "what an error says",
}
"""Modules and packages that no stage depends on, and why."""

_OTHER_MODULES = {"weights": "pipelines.fetch.weights"}
"""Of stages that are not in `pipelines.STAGE.stage`."""


def code_files(stage: str, run: Run | None = None) -> list[Path]:
    """The files that decide what `stage` writes, of `run` where it is the stage of one.

    Relative to the working directory where they lie below it, as they do in the project's root.
    Installed packages are not among them: the receipts' `runtime.json` names their versions.

    Raises:
        PipelineError: when one of the files is not valid Python.
    """
    cwd = Path.cwd()
    paths = _closure(_roots(stage, run), cwd)
    return [path.relative_to(cwd) if path.is_relative_to(cwd) else path for path in paths]


def code_hash(stage: str, run: Run | None = None) -> str:
    """sha256 of the files of `code_files`, for a driver that compares parameters.

    An edit of comments, docstrings or layout alone does not change it.
    """
    return _hash(_roots(stage, run), Path.cwd())


def _roots(stage: str, run: Run | None) -> tuple[str, ...]:
    """The modules that a stage begins with, and those that it imports by names in parameters."""
    roots = [_OTHER_MODULES.get(stage, f"pipelines.{stage}.stage")]
    if run is not None:
        roots += model_modules(run)
        if stage == "train":
            roots += option_modules(run)
            plugin = plugin_module(run)
            if plugin is not None:
                roots.append(plugin)
    return tuple(roots)


@functools.cache
def _closure(roots: tuple[str, ...], cwd: Path) -> list[Path]:
    return imports.closure(
        roots, [ROOT, cwd], skip=NOT_DECISIVE, passed_through=("pipelines", "sar")
    )


@functools.cache
def _hash(roots: tuple[str, ...], cwd: Path) -> str:
    found = imports.fingerprint(_closure(roots, cwd), [ROOT, cwd])
    imports.save_cache()
    return found
