"""The config of a model: what an entry and a method's plug-in, which is given more, make of it."""

from __future__ import annotations

import json

import numpy as np
import pytest

from pipelines.base.errors import PipelineError
from pipelines.configs.model import trained_model
from pipelines.configs.optimizer import optim_wrapper
from pipelines.fetch.stage import fetch
from pipelines.prepare.stage import prepare
from pipelines.study import Run, read_params
from pipelines.study.model_entry import ModelEntry
from tests.pipelines import mini

RIVAL = "sar.rivals.logit_adjustment:apply_logit_adjustment"
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
    groups = build_optim_wrapper(model, optim_wrapper(run)).optimizer.param_groups
    own = {id(parameter) for parameter in model.regularizer.parameters()}
    assert {group["weight_decay"] for group in groups} == {0.0, 0.01} and len(groups) == 2
    for group in groups:
        inside = {id(parameter) in own for parameter in group["params"]}
        assert inside == {group["weight_decay"] == 0.0}
    [baseline] = [run for run in mini.load().runs if run.method == "baseline"]
    assert "constructor" not in optim_wrapper(baseline)
    # Without decay there is nothing to keep it out of.
    assert "constructor" not in optim_wrapper(
        the_run(plugin="sar.mmseg:apply_sar", optimizer={"type": "SGD", "lr": 0.1})
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
