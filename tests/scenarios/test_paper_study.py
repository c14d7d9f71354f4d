"""The paper's study, run small: all its models and data sets from the archives to the report.

Every model on Pascal-Context (sliding window), and FCN-HRNet-W48 on Cityscapes and ADE20K too: all
42 runs of `paper@smoke` would take some ten minutes. Archives and images are invented miniatures in
the layout of the published ones; models have their real size, and weights from scratch.
"""

from __future__ import annotations

import copy
import os
import shutil
from pathlib import Path

import pandas as pd
import pytest
from ruamel.yaml import YAML
from safetensors.torch import load_file

from pipelines.analyse.stage import analyse
from pipelines.base.artifacts import read_json
from pipelines.compare.stage import compare
from pipelines.evaluate.stage import evaluate
from pipelines.fetch.stage import fetch
from pipelines.prepare.stage import prepare
from pipelines.report.stage import report
from pipelines.study import Study
from pipelines.train.stage import train
from tests.pipelines import mini
from tests.pipelines.prepare import upstream
from tests.pipelines.prepare.archives import packed, served, with_addresses

pytestmark = pytest.mark.slow

DATASETS = ["cityscapes", "ade20k", "pascal_context"]


@pytest.fixture(scope="module")
def project(tmp_path_factory):
    """A project with the parameters of this checkout and miniatures of the three data sets."""
    root, raw = tmp_path_factory.mktemp("paper"), tmp_path_factory.mktemp("raw")
    before = Path.cwd()
    os.chdir(root)
    shutil.copytree(mini.ROOT / "params/models", "params/models")
    for folder in ("params/studies", "params/datasets"):
        Path(folder).mkdir()
    archives = raw / "archives"
    upstream.cityscapes(raw / "a")
    upstream.ade20k(raw / "b")
    upstream.pascal_context(raw / "c")
    for top in ("leftImg8bit", "gtFine"):
        packed(raw / "a", [top], archives / f"{top}_trainvaltest.zip")
    packed(raw / "b", ["ADEChallengeData2016"], archives / "ADEChallengeData2016.zip")
    packed(raw / "c", ["VOCdevkit"], archives / "VOCtrainval_03-May-2010.tar")
    shutil.copy(raw / "c/json/trainval_merged.json", archives)
    with pytest.MonkeyPatch.context() as patch, served(archives) as address:
        for variable in ("http_proxy", "HTTP_PROXY", "SAR_MIRROR"):
            patch.delenv(variable, raising=False)
        for name in DATASETS:
            card = YAML(typ="safe").load(mini.ROOT / f"params/datasets/{name}.yaml")
            with_addresses(card["source"]["parts"], address, archives)
            card["source"]["allow"] = ["absent_classes"]
            YAML(typ="safe").dump(card, Path(f"params/datasets/{name}.yaml"))
        for dataset in smoke(DATASETS, ["fcn_hr48"]).datasets.values():
            fetch(dataset, allow_commands=True)
            prepare(dataset, jobs=1)
    yield root
    os.chdir(before)


def smoke(datasets: list[str], models: list[str] | None = None) -> Study:
    """The variant `smoke` of the paper's study with these data sets and models only."""
    content = YAML(typ="safe").load(mini.ROOT / "params/studies/paper.yaml")
    narrowed = copy.deepcopy(content)
    wanted = {"datasets": datasets, "models": models or content["models"]}
    narrowed |= wanted
    narrowed["claims"] = {
        name: claim
        for name, claim in narrowed["claims"].items()
        if claim["dataset"] in datasets and claim["model"] in wanted["models"]
    }
    for place in (narrowed, narrowed["variants"]["smoke"]):
        place["overrides"] = {
            name: override
            for name, override in place["overrides"].items()
            if all(set(override.get(part, names)) <= set(names) for part, names in wanted.items())
        }
    name = "_".join(["paper", *datasets])
    YAML(typ="safe").dump(narrowed, Path(f"params/studies/{name}.yaml"))
    return Study.load(f"{name}@smoke")


def finish(study: Study) -> None:
    for run in study.runs:
        train(run)
        evaluate(run)
    compare(study)
    analyse(study)
    report(study)


def check(study: Study) -> None:
    """All runs are there, each trained by its method, and the report has all of them."""
    table = pd.read_csv(study.output("report", "table.csv"))
    rows = set(table[["dataset", "model", "method"]].itertuples(index=False, name=None))
    assert rows == {(run.dataset.name, run.model, run.method) for run in study.runs}
    assert table["mIoU_mean"].between(0, 100).all()
    assert table["multi-scale_mean"].between(0, 100).all()
    for run in study.runs:
        state = load_file(run.output("train", "plugin.safetensors"))
        assert bool(state) == (run.method == "sar")
        curves = pd.read_csv(run.output("train", "curves.csv"))
        assert list(curves["iteration"]) == [1, 2, 3, 4]
        assert curves["loss"].gt(0).all()
        assert ("sar.loss_p2a" in curves) == (run.method == "sar")
        assert read_json(run.output("evaluate", "metrics.json"))["split"] == "val"


def test_every_model_is_trained_evaluated_and_reported(project):
    study = smoke(["pascal_context"])
    assert len(study.runs) == 14
    finish(study)
    check(study)


def test_every_data_set_is_trained_on_evaluated_and_reported(project):
    study = smoke(["cityscapes", "ade20k"], ["fcn_hr48"])
    finish(study)
    check(study)
    page = study.output("report", "report.md").read_text()
    assert "after 4 iterations" in page
    assert "Multi-scale: mIoU of the same weights" in page


def test_the_whole_smoke_study_is_a_hundredth_of_the_paper(project):
    whole, small = smoke(DATASETS), Study.load("paper_cityscapes_ade20k_pascal_context")
    assert len(whole.runs) == 42
    for run in whole.runs:
        full = small.run(run.name)
        assert run.training.iterations <= full.training.iterations / 100
        # Nothing but sizes differs: the recipe is the paper's.
        assert run.training.optimizer == full.training.optimizer
        assert run.evaluation.mode == full.evaluation.mode
