"""Trainings that start from published weights, and those that do not although they could."""

from __future__ import annotations

import hashlib
import json
from pathlib import Path
from types import SimpleNamespace

import pytest
import torch
from mmengine.registry import MODELS
from mmseg.utils import register_all_modules
from safetensors.torch import load_file
from torch import nn

from pipelines.base.errors import PipelineError
from pipelines.configs import model
from pipelines.fetch.stage import fetch, fetch_backbone
from pipelines.prepare.stage import prepare
from pipelines.report.sections import recipe
from pipelines.train import hooks
from pipelines.train import stage as train
from pipelines.train.options.pretrained import PretrainedBackboneHook, load_backbone
from tests.pipelines import mini

FILE = "hrnet_tiny-published.pth"


@pytest.fixture
def project(tmp_path, monkeypatch):
    """The study `mini`, whose model starts from a file in the mirror; 2 iterations."""
    monkeypatch.chdir(tmp_path)
    recipe = {"iterations": 2, "validation_interval": None, "checkpoint_interval": 1}
    mini.write_params(tmp_path, training=mini.study_file()["training"] | recipe)
    register_all_modules()
    torch.manual_seed(5)
    backbone = MODELS.build(model.baseline_model(mini.load().runs[0])).backbone
    state = {
        name: torch.rand_like(value) if value.is_floating_point() else torch.full_like(value, 7)
        for name, value in backbone.state_dict().items()
    }
    mirror = tmp_path / "mirror/weights"
    mirror.mkdir(parents=True)
    torch.save(state | {"classifier.weight": torch.ones(2)}, mirror / FILE)
    monkeypatch.setenv("SAR_MIRROR", str(mirror.parent))
    digits = hashlib.sha256((mirror / FILE).read_bytes()).hexdigest()[:8]
    entry = tmp_path / f"params/models/{mini.MODEL}.yaml"
    entry.write_text(
        f"{entry.read_text()}pretrained:\n  file: {FILE}\n  sha256: '{digits}'\n"
        f"  urls: ['http://127.0.0.1:9/{FILE}']\n"
    )
    return SimpleNamespace(root=tmp_path, entry=entry, state=state, file=mirror / FILE)


@pytest.fixture
def started(monkeypatch):
    """The backbones' weights after all that happens before the first iteration, by run."""
    seen = []
    original = hooks.ReseedHook.before_train

    def watched(self, runner):
        original(self, runner)
        state = runner.model.state_dict()
        seen.append({name: tensor.clone() for name, tensor in state.items()})

    monkeypatch.setattr(hooks.ReseedHook, "before_train", watched)
    return seen


def prepared(study):
    for dataset in study.datasets.values():
        fetch(dataset)
        prepare(dataset)
    return study


def edit(**changes) -> None:
    path = Path("params/studies/mini.yaml")
    path.write_text(json.dumps(json.loads(path.read_text()) | changes))


@pytest.mark.slow
def test_baseline_and_method_start_from_the_published_weights(project, started):
    study = prepared(mini.load())
    fetch_backbone(study.weights[mini.MODEL])
    for run in study.runs:
        train.train(run)
    baseline, sar = started
    for name, tensor in project.state.items():
        assert torch.equal(baseline[f"backbone.{name}"], tensor), name
    assert all(torch.equal(sar[name], tensor) for name, tensor in baseline.items())
    receipt = json.loads(study.runs[0].output("train", "receipt.json").read_text())
    assert f"data/weights/{mini.MODEL}/receipt.json" in receipt["inputs"]


@pytest.mark.slow
def test_a_resumed_training_keeps_its_own_weights(project, monkeypatch):
    study = prepared(mini.load())
    fetch_backbone(study.weights[mini.MODEL])
    run = study.runs[0]
    train.train(run)
    whole = run.output("train", "receipt.json").read_bytes()
    run.output("train", "receipt.json").unlink()
    original = hooks.ReseedHook.after_train_iter

    def breaks(self, runner, *args, **kwargs):
        original(self, runner, *args, **kwargs)
        raise KeyboardInterrupt

    with monkeypatch.context() as patch, pytest.raises(KeyboardInterrupt):
        patch.setattr(hooks.ReseedHook, "after_train_iter", breaks)
        train.train(run)
    assert [path.name for path in run.study.work.rglob("*.pth")] == ["iter_1.pth"]
    train.train(run)
    assert run.output("train", "receipt.json").read_bytes() == whole


def test_without_the_weights_nothing_is_trained_and_the_way_out_is_told(project):
    run = prepared(mini.load()).runs[0]
    with pytest.raises(PipelineError) as raised:
        train.train(run)
    message = str(raised.value)
    assert f"python -m pipelines.fetch --weights {mini.MODEL}" in message
    assert f"http://127.0.0.1:9/{FILE}" in message
    assert f"put that file into {run.weights.downloads}/" in message
    assert "from_scratch: true into params/studies/mini.yaml" in message
    assert not run.study.work.exists()


def test_weights_of_another_architecture_stop_a_training(project):
    torch.save({"layer1.0.attention.weight": torch.ones(3)}, project.file)
    digits = hashlib.sha256(project.file.read_bytes()).hexdigest()[:8]
    text = project.entry.read_text()
    old = text.partition("sha256: '")[2][:8]
    project.entry.write_text(text.replace(old, digits))
    study = prepared(mini.load())
    fetch_backbone(study.weights[mini.MODEL])
    with pytest.raises(PipelineError, match=r"expected more than half of the backbone"):
        train.train(study.runs[0])


def told(study) -> str:
    """What the report's recipe says."""
    [text] = recipe.recipe(SimpleNamespace(study=study, runs=[])).parts
    return text.markdown


def test_from_scratch_needs_no_weights_and_the_report_says_so(project, started):
    recipe = told(mini.load())
    assert f"the backbone starts from the published weights `{FILE}`, sha256 `" in recipe
    edit(from_scratch=True)
    study = prepared(mini.load())
    assert study.weights == {}
    train.train(study.runs[0])
    assert not torch.equal(started[0]["backbone.conv1.weight"], project.state["conv1.weight"])
    recipe = told(study)
    assert (
        f"from scratch: the backbone starts from random weights, not from the published `{FILE}"
        in recipe
    )


def test_what_the_weights_are_decides_a_training_and_where_they_are_had_does_not(project):
    def hashes():
        run = mini.load().runs[0]
        return [run.parameters_hash("train"), run.parameters_hash("evaluate")]

    text, before = project.entry.read_text(), hashes()
    project.entry.write_text(text.replace("127.0.0.1:9", "example.org") + "  licence: MIT\n")
    assert hashes() == before
    project.entry.write_text(text.replace("sha256: '", "sha256: 'aa"))
    after = hashes()
    assert after[0] != before[0] and after[1] == before[1]
    edit(from_scratch=True)
    scratch = hashes()
    project.entry.write_text(text.partition("pretrained:\n  file")[0])
    edit(from_scratch=False)
    assert scratch[1] == before[1] and scratch == hashes()


CONFIGS = [
    ("_base_/models/fcn_hr18.py", "'open-mmlab://msra/hrnetv2_w18'"),
    (
        "swin/swin-tiny-patch4-window7-in1k-pre_upernet_8xb2-160k_ade20k-512x512.py",
        "swin_tiny_patch4_window7_224_20220317-1cdeb081.pth'",
    ),
]


@pytest.mark.parametrize(("path", "named"), CONFIGS)
def test_a_config_that_names_weights_needs_a_word_about_them(project, path, named):
    entry = {"title": "Net", "config": path}
    project.entry.write_text(json.dumps(entry))
    with pytest.raises(PipelineError, match=rf"{mini.MODEL}.yaml: pretrained: .*{named}; expected"):
        model.baseline_model(mini.load().runs[0])
    for word, scratch in (({"pretrained": None}, False), ({}, True)):
        project.entry.write_text(json.dumps(entry | word))
        edit(from_scratch=scratch)
        built = model.baseline_model(mini.load().runs[0])
        assert built.get("pretrained") is None and built.backbone.get("init_cfg") is None


def backbone() -> nn.Module:
    return nn.ModuleDict({"stem": nn.Conv2d(3, 4, 1), "norm0": nn.BatchNorm2d(4)})


def test_what_does_not_match_is_told_by_group():
    net, state = backbone(), backbone().state_dict()
    del state["norm0.bias"], state["norm0.num_batches_tracked"]
    state["classifier.weight"] = torch.ones(3)
    before = net["norm0"].bias.clone()
    told = load_backbone(net, state, "file")
    assert told == (
        "backbone: 5 of 6 tensors from file; missing there: norm0 1; of no use here: classifier 1"
    )
    assert torch.equal(net["stem"].weight, state["stem.weight"])
    assert torch.equal(net["norm0"].bias, before)


def test_half_of_a_backbone_is_too_little():
    state = backbone().state_dict()
    half = {name: state[name] for name in ("stem.weight", "stem.bias", "norm0.weight")}
    with pytest.raises(PipelineError, match=r"3 of 6 .*missing there: norm0 3.*more than half"):
        load_backbone(backbone(), half, "file")


def test_a_nan_is_refused():
    net, state = backbone(), backbone().state_dict()
    state["norm0.running_var"][2] = float("nan")
    with pytest.raises(PipelineError, match=r"file: NaN or infinite: norm0.running_var \(1 of 4"):
        load_backbone(net, state, "file")


def test_a_tensor_of_another_shape_is_refused():
    net, state = backbone(), backbone().state_dict()
    before = net["stem"].weight.clone()
    state["stem.bias"] = torch.ones(5)
    with pytest.raises(PipelineError, match=r"stem.bias with \(5,\), expected \(4,\)"):
        load_backbone(net, state, "file")
    assert torch.equal(net["stem"].weight, before)


def test_a_run_that_has_begun_is_left_alone():
    PretrainedBackboneHook("no such file").before_train(SimpleNamespace(iter=3))


@pytest.mark.slow
@pytest.mark.parametrize(
    ("path", "overrides"),
    [
        ("_base_/models/fcn_hr18.py", {}),
        ("_base_/models/deeplabv3_r50-d8.py", {}),
        ("segformer/segformer_mit-b0_8xb2-160k_ade20k-512x512.py", {}),
        ("swin/swin-tiny-patch4-window7-in1k-pre_upernet_8xb2-160k_ade20k-512x512.py", {}),
    ],
)
def test_backbones_of_every_kind_take_what_they_give(project, path, overrides, tmp_path):
    """And a head of an image classifier beside it, as the published files have."""
    from safetensors.torch import save_file

    entry = {"title": "Net", "config": path, "pretrained": None, "model": overrides}
    project.entry.write_text(json.dumps(entry))
    net = MODELS.build(model.baseline_model(mini.load().runs[0])).backbone
    state = {name: torch.zeros_like(tensor) for name, tensor in net.state_dict().items()}
    save_file(state | {"fc.weight": torch.ones(3)}, tmp_path / "net.safetensors")
    told = load_backbone(net, load_file(tmp_path / "net.safetensors"), "file")
    assert "missing there: none; of no use here: fc 1" in told
    assert all((tensor == 0).all() for tensor in net.state_dict().values())
