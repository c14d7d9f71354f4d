"""Which files of the program decide what a stage writes, for the drivers to depend on.

A change in them runs the stage again. What all stages share (arguments, receipts, paths) is left
out: it decides how results are kept, not what they are.
"""

from __future__ import annotations

from importlib.machinery import ModuleSpec, PathFinder
from pathlib import Path

from pipelines.study import Run

ROOT = Path(__file__).resolve().parents[1]

_MODULES = {
    "fetch": ("fetch", "fetching"),
    "weights": ("fetch", "fetching"),
    "prepare": ("prepare", "preparing", "digits", "drawing"),
    "train": ("train", "config", "loading", "hooks", "curves"),
    "evaluate": (
        *("evaluate", "config", "multi_scale", "metrics"),
        *("analysis", "collect", "features", "feature_statistics"),
    ),
    "compare": ("compare", "statistics", "inference", "claims"),
    "analyse": ("analyse", "analyses", "analysis", "compare", "statistics", "inference"),
    "report": (
        *("report", "tables", "figures", "pages", "illustrations", "claims"),
        *("reference", "published", "provenance"),
        *("sections", "gallery", "embedding", "rendering", "analysis", "analyses"),
    ),
}

_SOURCES = (".py", ".j2", ".css", ".js")


_OF_ENTRY = {"pretrained": "pretrained", "precision": "precision", "accumulate": "accumulation"}
"""Modules that a training needs where its model entry has a key with another value than the
default."""


def code(stage: str, run: Run | None = None) -> list[Path]:
    """The modules of `stage`, and for the training of `run` those that its model entry asks for and
    the package of its plug-in.

    A package is named as a folder. Relative to the working directory where they lie below it, as
    they do in the project's root.
    """
    here = ROOT / "pipelines"
    paths = [
        here / name if (here / name).is_dir() else here / f"{name}.py" for name in _MODULES[stage]
    ]
    if stage == "train" and run is not None:
        paths += of_entry(run)
        if run.spec.plugin is not None:
            paths += _plugin(run.spec.plugin)
    cwd = Path.cwd()
    return [path.relative_to(cwd) if path.is_relative_to(cwd) else path for path in paths]


def of_entry(run: Run) -> list[Path]:
    """The modules of `pipelines` that train `run` beside those that train every run."""
    given = run.entry.model_dump(exclude_defaults=True)
    if run.weights is None:
        given.pop("pretrained", None)
    names = [module for key, module in _OF_ENTRY.items() if key in given]
    return [ROOT / "pipelines" / f"{name}.py" for name in names]


def source_files(path: Path) -> list[Path]:
    """`path` itself, or the Python files and templates of a package."""
    if not path.is_dir():
        return [path]
    return sorted(file for file in path.rglob("*") if file.suffix in _SOURCES)


def _plugin(plugin: str) -> list[Path]:
    """The package or module of `module:function`; nothing where it is not part of this checkout.

    An installed package is known by its version, which the receipts' runtime.json names.
    """
    top = plugin.partition(":")[0].partition(".")[0]
    spec: ModuleSpec | None = PathFinder.find_spec(top, [str(ROOT), str(Path.cwd())])
    if spec is None or spec.origin is None:
        return []
    origin = Path(spec.origin).resolve()
    return [origin.parent if origin.name == "__init__.py" else origin]
