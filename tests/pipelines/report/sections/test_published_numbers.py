"""Published numbers come from their sources, and stand beside ours with both recipes."""

import json
from pathlib import Path

import pandas as pd
import pytest

from pipelines.base.errors import PipelineError
from pipelines.report import model_zoo
from pipelines.report.sections import published_numbers
from pipelines.study import REFERENCE, Study, params_file, params_names, read_params, reference
from pipelines.study.model_entry import ModelEntry
from sar.packaged import mmseg_configs

ROOT = Path(__file__).parents[4]


@pytest.fixture
def committed(monkeypatch):
    monkeypatch.chdir(ROOT)
    return reference.read_reference()


def scores(results, metric):
    return {r.recipe.iterations: r.value for r in results
            if r.metric == metric and r.recipe.crop_size != [769, 769]}  # fmt: skip


@pytest.mark.parametrize(
    ("dataset", "entry", "single", "multi"),
    [
        ("cityscapes", "fcn_hr48", {40000: 78.48, 80000: 79.93, 160000: 80.65},
         {40000: 79.69, 80000: 80.72, 160000: 81.92}),
        ("ade20k", "fcn_hr48", {80000: 41.90, 160000: 42.02}, {80000: 43.27, 160000: 43.86}),
        ("pascal_context", "fcn_hr48", {40000: 50.33, 80000: 51.12}, {40000: 52.83, 80000: 53.56}),
        ("cityscapes", "ocrnet_hr48", {40000: 80.58, 80000: 80.70, 160000: 81.35},
         {40000: 81.79, 80000: 81.87, 160000: 82.70}),
        ("ade20k", "deeplabv3plus_r101", {80000: 44.60, 160000: 45.47},
         {80000: 46.06, 160000: 46.35}),
        ("ade20k", "deeplabv3plus_r50", {80000: 42.72, 160000: 43.95},
         {80000: 43.75, 160000: 44.93}),
        ("ade20k", "upernet_swin_t", {160000: 44.41}, {160000: 45.79}),
        ("cityscapes", "segformer_b2", {160000: 81.08}, {160000: 82.18}),
        ("pascal_context", "ocrnet_hr48", {}, {}),
        ("digits", "fcn_hr48", {}, {}),
        ("cityscapes", "fcn_hrnet_tiny", {}, {}),
    ],
)  # fmt: skip
def test_the_zoo_s_numbers_are_read_from_the_installed_package(
    committed, dataset, entry, single, multi
):
    results = model_zoo.zoo_results(committed, dataset, entry)
    assert scores(results, "mIoU") == single
    assert scores(results, "mIoU/multi-scale") == multi


def test_the_zoo_s_recipes_are_those_of_its_configs(committed):
    results = model_zoo.zoo_results(committed, "pascal_context", "fcn_hr48")
    assert results[0].recipe == reference.Recipe(
        iterations=40000,
        crop_size=[480, 480],
        batch_size=16,
        pretrained="hrnetv2_w48",
        mode="slide",
        split="val",
    )
    assert "onedl-mmsegmentation 1." in model_zoo.zoo_source().title


def test_the_zoo_s_architectures_are_our_entries(committed):
    """What `zoo.models` calls the same model has the same backbone and width of its head."""
    from mmengine.config import Config

    names = set(params_names("models")) & committed.zoo.models.keys()
    assert len(names) >= 5
    for name in sorted(names):
        entry = read_params(params_file("models", name), ModelEntry)
        ours = Config.fromfile(mmseg_configs() / entry.config)
        ours.merge_from_dict({"model": entry.model})
        stem = committed.zoo.models[name]
        theirs = next(mmseg_configs().glob(f"{stem}_*xb*.py"))
        theirs = Config.fromfile(theirs)
        for key in ("type", "depth", "embed_dims", "num_layers", "depths", "extra"):
            # As text, where a list is what a tuple is.
            pair = [json.dumps(config.model.backbone.get(key)) for config in (ours, theirs)]
            assert pair[0] == pair[1], (name, key)
        heads = [config.model.decode_head for config in (ours, theirs)]
        last = [head[-1] if isinstance(head, list) else head for head in heads]
        assert last[0].type == last[1].type and last[0].channels == last[1].channels, name


def test_rivals_have_sources_and_the_paper_s_own_tables_are_not_available(committed):
    rivals = [r for r in committed.results if r.source != "sar"]
    fcn = {r.label: r.value for r in rivals if r.model == "FCN ResNet-50"}
    assert fcn == {"Baseline": 47.72, "CAR": 48.4}
    values = {(r.source, r.label): r.value for r in rivals if r.model != "FCN ResNet-50"}
    assert values == {
        ("protoseg", "Baseline"): 79.0,
        ("protoseg", "ProtoSeg"): 80.1,
        ("contrastiveseg", "Baseline"): 79.27,
        ("contrastiveseg", "ContrastiveSeg"): 80.18,
        ("car", "Baseline"): 48.32,
        ("car", "CAR"): 50.5,
    }
    paper = [r for r in committed.results if r.source == "sar"]
    assert {r.dataset for r in paper} == {"cityscapes", "ade20k", "pascal_context"}
    assert all(r.value is None and r.recipe.seeds == 1 for r in paper)
    best = {r.dataset for r in paper if r.recipe.checkpoint == "best"}
    assert best == {"pascal_context"}


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"source": "nobody"}, "results.0.source: unknown 'nobody'; sources has: them"),
        ({"value": 101.0}, "results.0.value: .*less than or equal to 100"),
        ({"values": 1.0}, "results.0.values: Extra inputs"),
        ({"recipe": {"mode": "flip"}}, "results.0.recipe.mode: .*whole"),
    ],
)
def test_a_mistake_names_its_key(tmp_path, monkeypatch, change, message):
    monkeypatch.chdir(tmp_path)
    write(results=[result() | change])
    with pytest.raises(PipelineError, match=message) as error:
        reference.read_reference()
    assert str(error.value).startswith("params/reference.yaml: ")


def test_ours_stands_beside_theirs_with_what_differs(fabricate):
    study = fabricate()
    sar = {"label": "SAR", "plugin": "nowhere:apply", "value": 50.0}
    once = same_recipe() | {"seeds": 1, "checkpoint": "best"}
    write(
        results=[
            result(),
            result() | sar | {"recipe": same_recipe()},
            result() | {"label": "Paper", "value": None, "recipe": once},
            result() | {"label": "Rival", "entry": None, "model": "Big"},
            result() | {"dataset": "other"},
            result() | {"entry": "other_net"},
        ]
    )
    table = published_numbers.published_table(study, summary(study))
    assert table["label"].tolist() == ["Baseline", "SAR", "Paper", "Rival"]
    assert table["method"].tolist() == ["baseline", "sar", "baseline", ""]
    assert table["difference"].tolist()[:2] == pytest.approx([40.0 - 41.5, 60.0 - 50.0])
    assert table["difference"].isna().tolist() == [False, False, True, True]
    assert table.loc[0, "recipe"] == (
        "iterations 20 instead of 80000; batch 2 instead of 8; not stated: crop, start from, test, "
        "split"
    )
    assert table.loc[1, "recipe"] == "same; not stated: crop"
    differs = "seeds 3 instead of 1; checkpoint last instead of best; not stated: crop"
    assert table.loc[2, "recipe"] == differs
    assert table.loc[3, "recipe"] == "another model"
    [section] = published_numbers.sections(study, summary(study))
    shown = section.parts[0].shown
    assert shown["published"].tolist() == ["41.50", "50.00", "not available", "41.50"]
    assert shown["ours"].tolist() == ["40.0 ± 1.0", "60.0 ± 1.0", "40.0 ± 1.0", "–"]
    assert shown["difference"].tolist() == ["-1.50", "+10.00", "–", "–"]
    assert "<https://example.org/them>" in section.parts[1].markdown


def test_smaller_images_are_another_recipe(fabricate):
    study = fabricate(image_scale=0.5)
    write(results=[result() | {"recipe": same_recipe()}])
    [recipe] = published_numbers.published_table(study, summary(study))["recipe"]
    assert recipe == "images at 0.5 of their size; not stated: crop"


def test_where_nothing_is_published_one_sentence_says_so(fabricate):
    study = fabricate()
    for present in (False, True):
        if present:
            write(results=[])
        [section] = published_numbers.sections(study, summary(study))
        [text] = section.parts
        assert text.markdown.startswith("Published numbers for `shapes`")
        assert "not available" in text.markdown and len(text.markdown) < 200


def test_the_report_depends_on_the_file_where_there_is_one(fabricate):
    study = fabricate()
    assert REFERENCE not in study.input_receipts("report")
    write(results=[])
    assert REFERENCE in Study.load("mini").input_receipts("report")


def result():
    return {
        "source": "them",
        "label": "Baseline",
        "dataset": "shapes",
        "model": "Tiny",
        "entry": "tiny_net",
        "value": 41.5,
        "recipe": {"iterations": 80000, "batch_size": 8},
    }


def same_recipe():
    return {
        "iterations": 20,
        "batch_size": 2,
        "pretrained": "random weights",
        "mode": "whole",
        "split": "test",
    }


def write(results):
    source = {"title": "Them, 2024", "url": "https://example.org/them", "codebase": "theirs"}
    content = {"sources": {"them": source}, "results": results}
    REFERENCE.parent.mkdir(parents=True, exist_ok=True)
    REFERENCE.write_text(json.dumps(content))


def summary(study):
    rows = [
        ("shapes", "tiny_net", method, "mIoU", 3, mean, 1.0)
        for method, mean in (("baseline", 40.0), ("sar", 60.0), ("longer", 45.0))
    ]
    return pd.DataFrame(rows, columns=["dataset", "model", "method", "metric", "n", "mean", "std"])
