"""Which files of the program decide what a stage writes, for the drivers to depend on.

A change in them runs the stage again. They are `pipelines/STAGE/stage.py` and all that it imports,
directly or through others; for a run also the modules that its model entry names and its own config
files, and for its training the plug-in of its method and the options of its entry. Nobody keeps a
list of them. What cannot change a result is left out, each with its reason.
"""

from __future__ import annotations

import functools
import subprocess
from collections.abc import Sequence
from pathlib import Path

from pipelines.drivers import imports
from pipelines.study import Run
from pipelines.study.own_code import config_files
from pipelines.study.places import ROOT
from pipelines.study.run_options import model_modules, option_modules, plugin_module

NOT_DECISIVE = {
    "pipelines.study": "what parameters say is in the hash that a stage's outputs are known by",
    "pipelines.base.errors": "what an error says",
    "pipelines.base.artifacts": "how results are kept, not what they are",
    "pipelines.base.receipts": "how receipts are read",
    "pipelines.base.pixels": "what data are known by, not what they are",
    "pipelines.base.measuring": "time and memory, which no result depends on",
    "pipelines.running.cli": "arguments and exit codes",
    "pipelines.running.launch": "in how many processes a command works, which the parameters say",
    "pipelines.running.processes": "how processes find each other and share the work",
    "pipelines.running.devices": "which device a run gets",
    "pipelines.running.progress": "how far a training is",
    "pipelines.running.custody": "what is refused",
    "pipelines.running.digests": "what is hashed again",
    "pipelines.running.finished": "which runs are finished",
    "pipelines.running.ownership": "whose results lie in a folder",
    "pipelines.running.terminal": "what a terminal can print",
    "pipelines.running.stage": "how results are kept, not what they are",
    "pipelines.track": "a view of results in MLflow",
    "sar.errors": "what an error says",
}
"""Modules and packages that no stage depends on, and why."""

_CLASSIFIER = ROOT / "sar/classifier.py"
"""By which a method takes part in prediction: whatever imports it may."""

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
    paths = [*_closure(_roots(stage, run), cwd), *_configs(run, cwd)]
    return [path.relative_to(cwd) if path.is_relative_to(cwd) else path for path in paths]


def code_hash(stage: str, run: Run | None = None) -> str:
    """sha256 of the files of `code_files`, for a driver that compares parameters.

    An edit of comments, docstrings or layout alone does not change it.
    """
    cwd = Path.cwd()
    return _hash(_roots(stage, run), cwd, _configs(run, cwd))


def _configs(run: Run | None, cwd: Path) -> tuple[Path, ...]:
    """The user's own config files that a run's model starts from: no modules, so not imported."""
    return () if run is None else tuple(cwd / path for path in config_files(run.entry))


def _roots(stage: str, run: Run | None) -> tuple[str, ...]:
    """The modules that a stage begins with, and those that it imports by names in parameters."""
    roots = [_OTHER_MODULES.get(stage, f"pipelines.{stage}.stage")]
    if run is not None:
        roots += model_modules(run)
        plugin = plugin_module(run)
        if stage == "train":
            roots += option_modules(run)
        if plugin is not None:
            takes_part = stage == "train" or (stage == "evaluate" and predicts(plugin))
            roots += [plugin] if takes_part else []
    return tuple(roots)


def predicts(plugin: str) -> bool:
    """Whether a plug-in's module may take the classifier's place, in evaluation too."""
    return _CLASSIFIER in _closure((plugin,), Path.cwd())


def changed_since(commit: str, runs: Sequence[Run]) -> list[str] | None:
    """The files that decide the training or evaluation of `runs` and are others than at `commit`.

    Comments, docstrings and layout do not count. None where git does not know the commit.
    """
    stages = ("train", "evaluate")
    paths = sorted({path for run in runs for stage in stages for path in code_files(stage, run)})
    names = [path.as_posix() for path in paths if not path.is_absolute()]
    differing = _git("diff", "--name-only", "--relative", commit, "--", *names)
    if differing is None:
        return None
    changed = []
    for name in differing.splitlines():
        before, now = _git("show", f"{commit}:./{name}"), imports.source_of(Path(name))
        if before is None or imports.parse(before).fingerprint != now.fingerprint:
            changed.append(name)
    return changed


def _git(*words: str) -> str | None:
    """What git prints; None where it fails, as for a commit that is not in this clone."""
    try:
        done = subprocess.run(["git", *words], capture_output=True, text=True)
    except FileNotFoundError:
        return None
    return done.stdout if done.returncode == 0 else None


@functools.cache
def _closure(roots: tuple[str, ...], cwd: Path) -> list[Path]:
    return imports.closure(
        roots, [ROOT, cwd], skip=NOT_DECISIVE, passed_through=("pipelines", "sar")
    )


@functools.cache
def _hash(roots: tuple[str, ...], cwd: Path, configs: tuple[Path, ...]) -> str:
    found = imports.fingerprint([*_closure(roots, cwd), *configs], [ROOT, cwd])
    imports.save_cache()
    return found
