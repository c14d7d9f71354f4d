"""What is installed with the method alone, and that it does with that."""

import re
import shutil
import subprocess
import sys
import tomllib
import zipfile
from importlib import metadata

import pytest
from packaging.requirements import Requirement
from packaging.specifiers import SpecifierSet
from packaging.utils import canonicalize_name

from tests.pipelines.mini import ROOT

PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
BASE = [Requirement(line) for line in PROJECT["dependencies"]]

ADAPTERS = {f"adapters.{name}" for name in ("huggingface", "smp", "timm")}
NEED_MMSEG = {"classifier", "door", "mmseg", "support", "weight_decay", *ADAPTERS} | {
    f"rivals.{name}"
    for name in (
        *("car", "ceco", "center_loss", "class_balanced", "contrast"),
        *("logit_adjustment", "prototypes", "protoseg", "seesaw"),
    )
}
"""Modules of `sar` for the extra `mmseg`. All others are for everyone."""


def closure(requirements) -> set[str]:
    """The installed distributions that these bring, without their extras."""
    found: set[str] = set()
    waiting = [requirement.name for requirement in requirements]
    while waiting:
        name = canonicalize_name(waiting.pop())
        if name in found:
            continue
        try:
            lines = metadata.requires(name) or []
        except metadata.PackageNotFoundError:
            continue
        found.add(name)
        for line in lines:
            each = Requirement(line)
            if each.marker is None or each.marker.evaluate({"extra": ""}):
                waiting.append(each.name)
    return found


def hidden(installed: set[str]) -> set[str]:
    """Top-level modules of all that is installed here and not there."""
    allowed = installed | {"semantic-anchors", "setuptools", "pip"}
    return {
        module
        for module, owners in metadata.packages_distributions().items()
        if not {canonicalize_name(owner) for owner in owners} & allowed
    }


HIDES = """
import importlib, pkgutil, sys

class Hidden:
    def find_spec(self, name, path=None, target=None):
        if name.partition(".")[0] in hidden:
            raise ModuleNotFoundError(f"No module named {name!r}", name=name)

hidden = set(sys.argv[1].split())
sys.meta_path.insert(0, Hidden())
import importlib.util
find = importlib.util.find_spec
importlib.util.find_spec = lambda name, *more: None if name in hidden else find(name, *more)
"""

PROGRAM = """
import sar
for each in pkgutil.walk_packages(sar.__path__, "sar."):
    if each.name == "sar.__main__":
        continue
    try:
        importlib.import_module(each.name)
    except ModuleNotFoundError as error:
        print(each.name, error.name.partition(".")[0])

import torch
regularizer = sar.SemanticAnchorRegularizer(3, 8)
losses = regularizer(torch.randn(4, 8), torch.tensor([0, 1, 2, 0]), torch.nn.Linear(8, 3))
sum(losses.values()).backward()
from sar.cli import main
print("status", main(["predict", sys.argv[2], "-o", "out", "--checkpoint", sys.argv[3]]))
try:
    import pipelines
except ImportError as error:
    print(error)
"""


def test_the_method_does_with_five_requirements(tmp_path):
    assert {requirement.name for requirement in BASE} == {
        *("numpy", "pillow", "safetensors", "torch", "tqdm")
    }
    modules = hidden(closure(BASE))
    assert {"mmseg", "mmcv", "cv2", "snakemake", "dvc", "mlflow", "pandas", "onnx"} <= modules
    arguments = [" ".join(modules), str(ROOT / "docs/strip.png"), str(tmp_path / "no")]
    done = subprocess.run(
        [sys.executable, "-c", HIDES + PROGRAM, *arguments],
        capture_output=True,
        text=True,
        cwd=ROOT,
    )
    assert done.returncode == 0, done.stderr
    said = done.stdout.splitlines()
    need = {line.split()[0]: line.split()[1] for line in said if line.startswith("sar.")}
    # Some builds of torch bring triton; without it the loops in torch do the same.
    assert need.pop("sar.pull_kernel", "triton") == "triton"
    assert set(need) == {f"sar.{name}" for name in NEED_MMSEG}
    assert set(need.values()) <= {"mmseg", "mmengine"}
    assert "status 2" in said and "no: no such file or folder" in done.stderr
    assert "pip install -e '.[pipeline]'" in said[-1]


IMAGE = [
    *("matplotlib", "numpy", "opencv-python", "pandas", "pillow", "pyarrow", "scikit-learn"),
    *("scipy", "torch"),
]
"""What `requirements-gpu.txt` takes to be on a GPU machine."""

ON_A_GPU = """
import os
sys.path.insert(0, sys.argv[2])
import benchmarks.gpu
import tests.gpu.test_benchmark, tests.gpu.test_pull, tests.gpu.test_training
from tests.pipelines import mini
from pipelines.fetch.stage import fetch
from pipelines.prepare.stage import prepare
from pipelines.train.stage import train
from pipelines.evaluate.stage import evaluate
mini.write_params(benchmarks.gpu.Path.cwd())
study = mini.load()
for dataset in study.datasets.values():
    fetch(dataset)
    prepare(dataset)
[run] = [run for run in study.runs if run.method == "sar"]
train(run)
evaluate(run)
from pipelines import pack
assert pack.main(["--study", "mini"]) == 0
"""


def pinned(name: str) -> dict[str, str]:
    lines = (ROOT / name).read_text(encoding="utf-8").splitlines()
    return dict(line.split("==") for line in lines if "==" in line and not line.startswith("#"))


def test_what_a_gpu_machine_gets_is_as_locked_and_brings_what_it_needs():
    carried = pinned("requirements-gpu.txt")
    locked = pinned("requirements.lock") | pinned("requirements-dev.lock")
    assert carried == {name: locked.get(name) for name in carried}
    there = {canonicalize_name(name) for name in [*carried, *IMAGE]} | closure(
        [Requirement("torch"), Requirement("matplotlib")]
    )
    for name in carried:
        needs = {
            line.name for line in map(Requirement, metadata.requires(name) or []) if in_use(line)
        }
        assert {canonicalize_name(need) for need in needs} <= there, name


def in_use(requirement: Requirement) -> bool:
    return requirement.marker is None or requirement.marker.evaluate({"extra": ""})


@pytest.mark.slow
def test_a_gpu_machine_without_a_network_trains_with_what_it_gets(tmp_path):
    carried = {canonicalize_name(name) for name in [*pinned("requirements-gpu.txt"), *IMAGE]}
    modules = hidden(carried | closure([Requirement("torch"), Requirement("matplotlib")]))
    assert {"snakemake", "dvc", "mlflow", "hypothesis"} <= modules
    done = subprocess.run(
        [sys.executable, "-c", HIDES + ON_A_GPU, " ".join(modules), str(ROOT)],
        capture_output=True,
        text=True,
        cwd=tmp_path,
    )
    assert done.returncode == 0, done.stderr[-3000:]
    assert "1 of 2 runs are packed" in done.stdout


def test_every_extra_is_in_all_or_is_for_a_place_of_its_own():
    extras = PROJECT["optional-dependencies"]
    assert extras["all"] == ["semantic-anchors[export,pipeline]"]
    assert "semantic-anchors[mmseg]" in extras["pipeline"]
    for name in ("snakemake", "dvc", "mlflow", "pydantic"):
        assert any(re.match(rf"{name}\b", line) for line in extras["pipeline"])


@pytest.mark.parametrize("lock", ["requirements.lock", "requirements-dev.lock"])
def test_the_locks_hold_what_the_extras_ask_for(lock):
    text = "".join(
        (ROOT / name).read_text(encoding="utf-8")
        for name in ("requirements.lock", *([lock] if "dev" in lock else []))
    )
    lines = re.findall(r"^([a-z0-9.-]+)==(\S+)$", text, re.M)
    versions = {canonicalize_name(name): version for name, version in lines}
    extras = PROJECT["optional-dependencies"]
    names = ["mmseg", "pipeline", *(["dev", "docs", "export"] if "dev" in lock else [])]
    for line in [*PROJECT["dependencies"], *(line for name in names for line in extras[name])]:
        requirement = Requirement(line)
        if requirement.name != "semantic-anchors":
            version = versions.get(canonicalize_name(requirement.name))
            assert version and requirement.specifier.contains(version), f"{line}: {version}"


@pytest.mark.slow
def test_a_wheel_holds_the_method_and_asks_for_little(tmp_path):
    source = tmp_path / "source"
    source.mkdir()
    for name in ("pyproject.toml", "README.md", "LICENSE"):
        shutil.copy(ROOT / name, source)
    for name in ("sar", "pipelines"):
        shutil.copytree(ROOT / name, source / name, ignore=shutil.ignore_patterns("__pycache__"))
    subprocess.run(
        [
            *(sys.executable, "-m", "pip", "wheel", "--quiet", "--disable-pip-version-check"),
            *("--no-deps", "--no-build-isolation", "--wheel-dir", str(tmp_path), str(source)),
        ],
        check=True,
    )
    (wheel,) = tmp_path.glob("*.whl")
    with zipfile.ZipFile(wheel) as archive:
        names = archive.namelist()
        (about,) = [name for name in names if name.endswith("/METADATA")]
        text = archive.read(about).decode()
    assert {"sar/py.typed", "sar/trained/export.py", "sar/rivals/car.py"} <= set(names)
    asked = [Requirement(line) for line in re.findall(r"^Requires-Dist: (.+)$", text, re.M)]
    plain = [each for each in asked if each.marker is None or each.marker.evaluate({"extra": ""})]
    assert {each.name for each in plain} == {each.name for each in BASE}
    assert {"mmseg", "pipeline", "export", "all"} <= set(
        re.findall(r"^Provides-Extra: (.+)$", text, re.M)
    )


def test_locked_packages_install_on_every_python_that_the_project_supports():
    names = pinned("requirements.lock") | pinned("requirements-dev.lock")
    supported = SpecifierSet(PROJECT["requires-python"])
    first = [version for version in ("3.11.0", "3.12.0") if version in supported]
    refused = {}
    for name in names:
        wanted = SpecifierSet(metadata.metadata(name).get("Requires-Python") or "")
        if not all(version in wanted for version in first):
            refused[name] = str(wanted)
    assert len(first) == 2 and not refused
