"""`check` finds before any work what would stop a run, or what no run could tell."""

from __future__ import annotations

import json
import os
import re
from pathlib import Path

import pytest

from pipelines import check
from pipelines.base.errors import PipelineError
from pipelines.study import Study
from pipelines.study.places import CHECKED
from tests.pipelines import mini

MODEL = "params/models/tiny.yaml"
STUDY = "params/studies/mini.yaml"
CARD = "params/datasets/mini.yaml"
HEAD = {"in_channels": 64, "channels": 8}
LOSS = {"type": "CrossEntropyLoss"}


def tiny(**model) -> dict:
    """A model entry in miniature: PSPNet on ResNet-18, or what `model` makes of it."""
    small = {
        "pretrained": None,
        "backbone": {"depth": 18, "base_channels": 8},
        "decode_head": HEAD,
        "auxiliary_head": {"in_channels": 32, "channels": 8},
    }
    return {
        "title": "Tiny",
        "config": "_base_/models/pspnet_r50-d8.py",
        "pretrained": None,
        "model": small | model,
    }


@pytest.fixture
def project(tmp_path, monkeypatch):
    """A function that loads the study `mini` of the entry `tiny`, before any data is prepared."""
    monkeypatch.chdir(tmp_path)
    mini.write_params(tmp_path, models=["tiny"])
    Path(MODEL).write_text(json.dumps(tiny()))
    return tmp_path


def edit(path: str, **changes) -> None:
    """Change keys of a parameter file, dotted by two underscores."""
    content = json.loads(Path(path).read_text())
    for key, value in changes.items():
        *parents, last = key.split("__")
        node = content
        for parent in parents:
            node = node[parent]
        node[last] = value
    Path(path).write_text(json.dumps(content))


def refused() -> str:
    with pytest.raises(PipelineError) as caught:
        check.check(Study.load("mini"))
    return str(caught.value)


def test_a_sound_study_passes_and_is_not_tried_again(project, monkeypatch):
    check.check(Study.load("mini"))
    assert len(list(CHECKED.iterdir())) == 2  # The bare model and SAR.

    from pipelines.train.trial import Trials

    def tried(self, run, config):
        raise AssertionError(f"{run.name} is tried again")

    with monkeypatch.context() as patched:
        patched.setattr(Trials, "step", tried)
        check.check(Study.load("mini"))
        edit(STUDY, methods__sar__options={"pull_weight": 0.2})
        with pytest.raises(AssertionError, match="sar"):
            check.check(Study.load("mini"))
    check.check(Study.load("mini"))
    assert len(list(CHECKED.iterdir())) == 3


@pytest.mark.parametrize(
    ("model", "message"),
    [
        ({"backbone": {"type": "ResNett"}}, "tiny.yaml: model: .*backbone fails: .*ResNett"),
        ({"backbone": {"depht": 18}}, "tiny.yaml: model: .*backbone fails: .*'depht'"),
        ({"decode_head": HEAD | {"chanels": 8}}, "tiny.yaml: model: .*it fails: .*'chanels'"),
        ({"decode_head": HEAD | {"in_channels": 65}}, "tiny.yaml: model: .*it fails: .*channels"),
        ({"backbone": {"depth": 18, "init_cfg": {"type": "Kaimin"}}}, "backbone fails: .*Kaimin"),
        (
            {"decode_head": HEAD | {"loss_decode": LOSS | {"loss_weight": 1e39}}},
            "tiny.yaml: model: on mini, .*loss.* is inf in the first step",
        ),
    ],
)
def test_a_model_that_cannot_be_built_or_cannot_learn_is_named_once(project, model, message):
    Path(MODEL).write_text(json.dumps(tiny(**model)))
    told = refused()
    assert re.search(message, told)
    assert len(told.splitlines()) == 1  # And not again for the method on it.


def test_weights_of_classes_are_as_many_as_the_classes(project):
    head = HEAD | {"loss_decode": LOSS | {"class_weight": [1.0, 2.0, 3.0]}}
    Path(MODEL).write_text(json.dumps(tiny(decode_head=head)))
    assert refused() == (
        f"{MODEL}: model.decode_head.loss_decode.class_weight: 3 weights, expected a list of 11, "
        f"one for each of classes in {CARD}"
    )


@pytest.mark.parametrize("accumulate", [1, 2])
def test_one_image_a_part_is_too_few_for_batch_norm_after_pooling(project, accumulate):
    Path(MODEL).write_text(json.dumps(tiny() | {"accumulate": accumulate}))
    edit(STUDY, training__batch_size=accumulate)
    assert "Expected more than 1 value per channel when training" in refused()


def test_what_a_plugin_does_is_tried_too(project):
    edit(STUDY, methods__sar__options={"aux_weight": 1e308})
    told = refused()
    assert told.startswith(f"{STUDY}: methods.sar with {MODEL}: on mini, ")
    assert "sar.loss_aux_ce is inf" in told


def test_a_plugin_that_takes_the_classifiers_place_is_tried(project):
    edit(STUDY, methods__sar__plugin="sar.rivals.protoseg:apply_protoseg")
    check.check(Study.load("mini"))
    edit(STUDY, methods__sar__options={"ppc_weight": 1e308})
    assert "regularizer.loss_ppc is inf in the first step" in refused()


def test_a_plugin_that_asks_for_counts_is_tried_before_there_is_any_data(project):
    edit(STUDY, methods__sar__plugin="sar.rivals.class_balanced:apply_class_balanced")
    check.check(Study.load("mini"))


def test_all_that_is_wrong_is_told_at_once(project):
    edit(
        STUDY,
        methods__sar__label=r"SAR $\foo$",
        methods__sar__options={"pull_weight": -1},
        variants={"big": {"threads": 10**9}},
    )
    edit(CARD, title="Cost $x_{$ y")
    told = refused().splitlines()
    assert len(told) == 4
    for each, expected in zip(
        told,
        (
            "methods.sar.label: 'SAR",
            f"{CARD}: title",
            "methods.sar.plugin",
            "@big: threads: .*1024",
        ),
        strict=True,
    ):
        assert re.search(expected, each)


def test_dollars_that_are_no_formula_are_fine(project):
    edit(STUDY, methods__sar__label=r"SAR, $5 a run", methods__baseline__label=r"$\lambda$ = 0")
    check.check_names(Study.load("mini"))


def test_both_parameter_files_are_told_of_at_once(project):
    edit(CARD, licence="\ud800")
    text = Path(MODEL).read_text()
    Path(MODEL).write_text(text.replace('"depth": 18', '"depth": .nan'))
    with pytest.raises(PipelineError) as caught:
        Study.load("mini")
    card, model = str(caught.value).splitlines()
    assert card.startswith(CARD) and "half a character (a lone surrogate)" in card
    assert model == f"{MODEL}: model.backbone.depth: expected a finite number, got nan"


def test_a_study_whose_name_is_too_long_for_a_file_is_refused(project):
    long = Path(STUDY).with_name("é" * 65 + ".yaml")
    os.rename(STUDY, long)
    with pytest.raises(PipelineError, match="takes 130 bytes; expected at most 128"):
        Study.load(str(long))
