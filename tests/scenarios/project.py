"""A copy of this checkout whose only study is the one in miniature, for both drivers to run."""

from __future__ import annotations

import json
import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

from pipelines.running import ownership
from pipelines.study import VIEWS
from tests.pipelines import mini

RECIPE = {"iterations": 2, "validation_interval": None, "checkpoint_interval": 1}
STUDY = Path("params/studies/mini.yaml")
DVC_FILE = Path("workflow/dvc/mini/dvc.yaml")

_JOB = re.compile(
    r"^(?:    input: (.*)\n)?    output: (.*)\n(?:    .*\n)*Shell command: (.*?) > ", re.MULTILINE
)


def create(folder: Path) -> None:
    """A git repository with the code, the study `mini` and its dvc.yaml, all committed."""
    for name in ("pipelines", "sar", "workflow", ".dvc/plots"):
        ignored = shutil.ignore_patterns("__pycache__", "dvc.*")
        shutil.copytree(mini.ROOT / name, folder / name, ignore=ignored)
    files = ("Snakefile", "README.md", "Makefile", ".gitignore", ".dvcignore", ".dvc/config")
    for name in (*files, ".dvc/.gitignore"):
        shutil.copy(mini.ROOT / name, folder / name)
    study = mini.study_file()
    mini.write_params(folder, training=study["training"] | RECIPE, methods=methods())
    (folder / "params/schema").mkdir()
    python(folder, "-m", "pipelines.drivers.dvc_yaml")
    git(folder, "init", "--quiet")
    git(folder, "config", "user.name", "Somebody")
    git(folder, "config", "user.email", "somebody@example.org")
    commit(folder, "The study mini")


def methods() -> dict:
    """Those of `mini`, with options to change and a control on fewer seeds."""
    control = {"label": "Longer", "control": True, "training": {"iterations": 3}, "seeds": [0]}
    listed = mini.study_file()["methods"]
    listed["sar"]["options"] = {"pull_weight": 0.1}
    return listed | {"longer": control}


def change(path: Path, key: str, value) -> None:
    """Put `value` at a dotted `key` of a JSON file."""
    content = json.loads(path.read_text())
    *parents, last = key.split(".")
    place = content
    for parent in parents:
        place = place[parent]
    place[last] = value
    path.write_text(json.dumps(content, indent=2))


def snakemake(folder: Path, *words: str) -> str:
    """What `snakemake --cores 2 WORDS` prints, on both streams."""
    return python(
        folder,
        "-m",
        "snakemake",
        "--show-failed-logs",
        "--cores",
        "2",
        "--config",
        "study=mini",
        *words,
    )


def make(folder: Path, *words: str) -> None:
    """`make WORDS` in `folder`, with an environment in it as `make setup` leaves one."""
    environment = folder / ".venv"
    environment.mkdir()
    for name in ("bin", "lib", "pyvenv.cfg"):
        (environment / name).symlink_to(Path(sys.prefix) / name)
    for name in ("pyproject.toml", "requirements.lock"):
        shutil.copy(mini.ROOT / name, folder)
    (environment / ".installed").touch()
    called(folder, "make", *words)


def snakemake_plan(folder: Path) -> dict[tuple[str, str], tuple[str, set[str], set[str]]]:
    """{(stage, subject): (command, inputs, outputs)} of all that Snakemake would run."""
    output = snakemake(folder, "--dry-run", "--printshellcmds")
    return {
        subject(command): (command, set(inputs.split(", ")) - {""}, set(outputs.split(", ")))
        for inputs, outputs, command in _JOB.findall(output)
    }


def dvc(folder: Path, *words: str, **environment: str) -> str:
    """What `dvc WORDS` prints, on both streams."""
    return python(folder, "-m", "dvc", *words, **environment)


def dvc_planned(folder: Path, *, allow_missing: bool = False) -> set[tuple[str, str]]:
    """The keys of `snakemake_plan`, for DVC: what changed, and what comes after it in the graph."""
    commands = python(folder, "-c", _CHANGED.format(allow_missing)).splitlines()
    return {subject(command) for command in commands if command}


def subject(command: str) -> tuple[str, str]:
    """The stage of a command line, and what it works on."""
    stage = re.search(r"pipelines\.(\w+)", command)[1]
    named = dict(re.findall(r"--(dataset|weights|run|study) (\S+)", command))
    kinds = (named.get(kind) for kind in ("run", "dataset", "weights"))
    return stage, next(filter(None, kinds), None) or Path(named["study"]).stem


def python(folder: Path, *words: str, **more: str) -> str:
    """What `python WORDS` prints, on both streams; `more` goes into its environment."""
    return called(folder, sys.executable, *words, **more)


def called(folder: Path, *words: str, **more: str) -> str:
    """What a program prints, as above."""
    # Neither this checkout nor an installed copy of it: the folder's own code.
    environment = os.environ | {"PYTHONPATH": str(folder), "LC_ALL": "C.UTF-8"}
    environment["PATH"] = f"{Path(sys.executable).parent}{os.pathsep}{environment['PATH']}"
    environment.pop("MLFLOW_TRACKING_URI", None)
    environment |= more
    done = subprocess.run(
        words,
        cwd=folder,
        env=environment,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        timeout=600,
    )
    assert done.returncode == 0, done.stdout[-4000:]
    return done.stdout


def git(folder: Path, *words: str) -> str:
    done = subprocess.run(["git", *words], cwd=folder, capture_output=True, text=True, check=True)
    return done.stdout


def commit(folder: Path, message: str) -> None:
    git(folder, "add", "--all")
    git(folder, "commit", "--quiet", "--message", message)


_CHANGED = """
import networkx
from dvc.repo import Repo

repo = Repo()
with repo.lock:
    graph = repo.index.graph
    changed = [stage for stage in graph if stage.changed(allow_missing={})]
# An edge leads from a stage to what it depends on.
again = set(changed).union(*(networkx.ancestors(graph, stage) for stage in changed))
print("\\n".join(stage.cmd for stage in again))
"""


def written(folder: Path) -> dict[Path, bytes]:
    """All data and results, without what no replay can repeat."""
    return {
        path.relative_to(folder): path.read_bytes()
        for root in ("data/raw", "data/prepared", "results")
        for path in (folder / root).rglob("*")
        if path.is_file()
        and path.name not in ("runtime.json", ".snakemake_timestamp", ownership.NAME, *VIEWS)
        and path.parent.name != "runtime"
    }
