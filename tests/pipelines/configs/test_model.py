"""The config of a model: what an entry and a method's plug-in, which is given more, make of it."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
import torch
import yaml

from pipelines.base.errors import PipelineError
from pipelines.configs.model import trained_model
from pipelines.configs.optimizer import optim_wrapper
from pipelines.fetch.stage import fetch
from pipelines.prepare.stage import prepare
from pipelines.study import Run, read_params
from pipelines.study.model_entry import ModelEntry
from tests.pipelines import mini

RIVAL = "sar.rivals.logit_adjustment:apply_logit_adjustment"
CARD, MODEL = "params/datasets/mini.yaml", "params/models/fcn_hrnet_tiny.yaml"
COUNTING = "sar.rivals.class_balanced:apply_class_balanced"


@pytest.fixture
def the_run(tmp_path, monkeypatch):
    """A function: the run of the method `sar` of `mini`, with another plug-in or optimizer."""
    monkeypatch.chdir(tmp_path)
    mini.write_params(tmp_path)
    dataset = mini.load().runs[0].dataset
    fetch(dataset)
    prepare(dataset)

    def load(optimizer: dict | None = None, **method) -> Run:
        study = mini.study_file()
        study["methods"]["sar"] = {"label": "It"} | method
        training = study["training"] | ({"optimizer": optimizer} if optimizer else {})
        study |= {"training": training}
        (tmp_path / "params/studies/mini.yaml").write_text(json.dumps(study))
        return next(run for run in mini.load().runs if run.method == "sar")

    return load


def test_a_plugin_that_asks_gets_what_was_counted_in_the_training_set(the_run):
    run = the_run(plugin=RIVAL, options={"tau": 0.5})
    info = json.loads(run.dataset.info.read_text())
    given = trained_model(run)["regularizer"]
    least = 1 / info["labelled_pixels"]  # of a class without a pixel
    share = [max(info["pixel_share"][name], least) for name in info["classes"]]
    assert given["class_share"] == pytest.approx(share)
    assert given["tau"] == 0.5
    counts = trained_model(the_run(plugin=COUNTING))["regularizer"]["image_count"]
    assert counts == [info["image_count"][name] for name in info["classes"]]


def test_the_counts_are_those_of_the_labels(the_run):
    from PIL import Image

    run = the_run(plugin=RIVAL)
    info = json.loads(run.dataset.info.read_text())
    folder = run.dataset.prepared / "labels" / "train"
    labels = [np.asarray(Image.open(path)) for path in sorted(folder.iterdir())]
    for index, name in enumerate(info["classes"]):
        assert info["image_count"][name] == sum((label == index).any() for label in labels)
    assert info["labelled_pixels"] == sum((label != 255).sum() for label in labels)


def test_data_of_an_earlier_version_is_named_with_its_remedy(the_run):
    run = the_run(plugin=RIVAL)
    info = json.loads(run.dataset.info.read_text())
    del info["image_count"]
    run.dataset.info.write_text(json.dumps(info))
    with pytest.raises(PipelineError, match=r"info.json: image_count: .*pipelines.prepare"):
        trained_model(run)


def test_momentum_may_follow_the_length_of_the_training(the_run):
    run = the_run(plugin="sar.mmseg:apply_sar", options={"momentum": "auto"})
    expected = 0.999 ** (80_000 / run.training.iterations)
    assert trained_model(run)["sar"]["momentum"] == pytest.approx(expected)


def test_what_a_method_trains_of_its_own_does_not_decay(the_run):
    from mmengine.optim import build_optim_wrapper
    from mmengine.registry import MODELS, init_default_scope
    from mmseg.utils import register_all_modules

    register_all_modules()
    init_default_scope("mmseg")
    decaying = {"type": "SGD", "lr": 0.1, "weight_decay": 0.01}
    run = the_run(plugin="sar.mmseg:apply_sar", optimizer=decaying)
    model = MODELS.build(trained_model(run))
    groups = build_optim_wrapper(model, optim_wrapper(run, "float32")).optimizer.param_groups
    own = {id(parameter) for parameter in model.regularizer.parameters()}
    assert {group["weight_decay"] for group in groups} == {0.0, 0.01} and len(groups) == 2
    for group in groups:
        inside = {id(parameter) in own for parameter in group["params"]}
        assert inside == {group["weight_decay"] == 0.0}
    [baseline] = [run for run in mini.load().runs if run.method == "baseline"]
    assert "constructor" not in optim_wrapper(baseline, "float32")
    # Without decay there is nothing to keep it out of.
    assert "constructor" not in optim_wrapper(
        the_run(plugin="sar.mmseg:apply_sar", optimizer={"type": "SGD", "lr": 0.1}), "float32"
    )


def test_an_entry_may_delete_what_its_config_has_and_stays_as_it_is():
    """Merging takes `_delete_` out of what it merges."""
    from pipelines.configs.model import entry_config

    entry = read_params(mini.ROOT / "params/models/fcn_mobilenetv2.yaml", ModelEntry)
    before = entry.model_dump()
    for _ in range(2):
        backbone = entry_config("fcn_mobilenetv2", entry).model.backbone
        assert backbone.type == "MobileNetV2" and "extra" not in backbone
    assert entry.model_dump() == before


METHODS = {
    None: {},
    "sar.mmseg:apply_sar": {"gated": False},
    "sar.rivals.car:apply_car": {},
    "sar.rivals.ceco:apply_ceco": {},
    "sar.rivals.center_loss:apply_center_loss": {},
    "sar.rivals.class_balanced:apply_class_balanced": {},
    "sar.rivals.contrast:apply_contrast": {"max_views": 2},
    "sar.rivals.logit_adjustment:apply_logit_adjustment": {},
    "sar.rivals.prototypes:apply_prototypes": {},
    "sar.rivals.protoseg:apply_protoseg": {"num_prototypes": 2},
    "sar.rivals.seesaw:apply_seesaw": {},
}
LOSSES = ["CrossEntropyLoss", "DiceLoss", "LovaszLoss", "TverskyLoss"]


def losses_and_gradient(run: Run, ignore_index: int) -> tuple[dict, torch.Tensor]:
    """Of the first step of a run's model on noise, a sixth of it void."""
    from mmengine.registry import MODELS, init_default_scope
    from mmengine.structures import PixelData
    from mmseg.structures import SegDataSample
    from mmseg.utils import register_all_modules

    register_all_modules()
    init_default_scope("mmseg")
    torch.manual_seed(0)
    model = MODELS.build(trained_model(run))
    labels = torch.randint(0, 11, (2, 48, 64))
    labels[:, :8] = ignore_index
    samples = [SegDataSample(gt_sem_seg=PixelData(data=each[None])) for each in labels]
    found = model.loss(torch.randn(2, 3, 48, 64), samples)
    sum(v for name, v in found.items() if "loss" in name).backward()
    return {name: value.item() for name, value in found.items()}, model.backbone.conv1.weight.grad


@pytest.mark.parametrize(
    ("plugin", "loss"),
    [*((plugin, "CrossEntropyLoss") for plugin in METHODS), *((None, loss) for loss in LOSSES[1:])],
)
def test_void_of_any_id_reaches_heads_losses_and_methods(the_run, plugin, loss):
    """Heads, auxiliary ones too, their losses and samplers, SAR and its rivals."""
    entry = yaml.safe_load(Path(MODEL).read_text())
    term = {"type": loss, "loss_name": "loss_own"} | (
        {"reduction": "none"} if loss == "LovaszLoss" else {}
    )
    auxiliary = {"type": "FCNHead", "in_channels": 8, "channels": 8, "in_index": 0}
    auxiliary |= {"num_classes": 2, "loss_decode": term}
    entry["model"]["decode_head"] |= {"loss_decode": [term], "dropout_ratio": 0.0}
    entry["model"]["auxiliary_head"] = auxiliary | {"num_convs": 1, "dropout_ratio": 0.0}
    Path(MODEL).write_text(json.dumps(entry))
    card = json.loads(Path(CARD).read_text())
    results = []
    for void in (255, 11):
        Path(CARD).write_text(json.dumps(card | {"ignore_index": void}))
        run = the_run(**({"plugin": plugin, "options": METHODS[plugin]} if plugin else {}))
        results.append(losses_and_gradient(run, void))
        assert trained_model(run)["data_preprocessor"]["seg_pad_val"] == void
    (losses, gradient), (others, other) = results
    assert losses == others and torch.equal(gradient, other)
    assert any("own" in name for name in losses)


def test_a_config_is_left_as_it_is_where_void_is_what_mmsegmentation_has(the_run):
    from pipelines.configs.model import entry_config

    run = the_run()
    before = entry_config(run.model, run.entry).model.decode_head
    assert "ignore_index" not in before and "ignore_index" not in trained_model(run)["decode_head"]
    card = json.loads(Path(CARD).read_text())
    Path(CARD).write_text(json.dumps(card | {"ignore_index": 77}))
    entry = yaml.safe_load(Path(MODEL).read_text())
    ohem = {"type": "OhemCrossEntropy", "loss_name": "loss_ohem"}
    own = {"type": "DiceLoss", "ignore_index": 0}
    entry["model"]["decode_head"] |= {"loss_decode": [{"type": "DiceLoss"}, ohem, own]}
    entry["model"]["decode_head"]["ignore_index"] = 0
    Path(MODEL).write_text(json.dumps(entry))
    head = trained_model(the_run())["decode_head"]
    assert head["ignore_index"] == 77
    assert [each.get("ignore_index") for each in head["loss_decode"]] == [77, None, 0]
    assert head["loss_decode"][1]["ignore_label"] == 77
