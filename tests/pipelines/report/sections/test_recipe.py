"""The recipe says in what numbers a model was trained, where that is not plain float32."""

from __future__ import annotations

import dataclasses
import json
from types import SimpleNamespace

import pytest

from pipelines.base.artifacts import read_json
from pipelines.report.sections.recipe import _computed
from pipelines.study import Study


@pytest.fixture
def study(fabricate) -> Study:
    return fabricate()


def said(study: Study, model: str, **entry) -> str:
    changed = study.models[model].model_copy(update=entry)
    study = dataclasses.replace(study, models={**study.models, model: changed})
    return _computed(SimpleNamespace(study=study, runs=study.runs), model)


def test_a_precision_that_differs_from_float32_is_told(study):
    model = study.runs[0].model
    assert said(study, model) == ""
    assert said(study, model, precision="tf32") == "; trained in tf32"


def test_what_the_machine_chose_is_told_as_the_receipts_say(study):
    model = study.runs[0].model
    for run in study.runs:
        path = run.output("train", "receipt.json")
        chosen = {"precision": "bf16", "channels_last": True}
        path.write_text(json.dumps(read_json(path) | {"chosen": chosen}))
    told = said(study, model, precision="auto", channels_last="auto")
    assert told == (
        "; trained with precision bf16, channels_last true, as the machine chose (`auto`)"
    )
