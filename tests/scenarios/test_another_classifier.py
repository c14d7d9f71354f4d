"""A method that predicts in its own way, through the stages: what was trained is what is evaluated,
loaded and exported."""

from __future__ import annotations

import json

import numpy as np
import pytest
import torch
from PIL import Image
from safetensors.torch import load_file

import sar
from pipelines.evaluate import kept
from pipelines.evaluate.__main__ import main as evaluate_main
from pipelines.evaluate.stage import evaluate
from pipelines.fetch.stage import fetch
from pipelines.prepare.stage import prepare
from pipelines.train.stage import train
from sar.cli import main as sar_main
from tests.pipelines import mini


@pytest.fixture
def run(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    plugin = {"plugin": "sar.rivals.protoseg:apply_protoseg"}
    options = {"num_prototypes": 2, "momentum": "auto"}
    methods = mini.study_file()["methods"] | {"sar": {"label": "It", **plugin, "options": options}}
    mini.write_params(tmp_path, methods=methods)
    run = next(run for run in mini.load().runs if run.method == "sar")
    fetch(run.dataset)
    prepare(run.dataset)
    train(run)
    evaluate(run)
    return run


def test_what_was_trained_predicts(run, tmp_path):
    weights = load_file(run.output("train", "weights.safetensors"))
    prototypes = weights["decode_head.conv_seg.prototypes"]
    assert prototypes.shape[:2] == (11, 2) and weights["decode_head.conv_seg.iteration"] == 6
    torch.testing.assert_close(prototypes.norm(dim=2), torch.ones(11, 2))
    assert not load_file(run.output("train", "plugin.safetensors"))

    folder = run.folder("train")
    model = sar.load(folder)
    state = model.segmentor.state_dict()
    assert all(torch.equal(state[name], value) for name, value in weights.items())
    found = np.load(run.output("evaluate", "predictions.npz"))
    images = sorted((run.dataset.prepared / "images/test").iterdir())
    assert len(images) == 5
    for path in images:
        assert np.array_equal(model.predict(Image.open(path)), found[path.stem])
    assert kept.read(run.output("evaluate", "analysis.npz")).weight is None

    # The same scores from the checkpoint, as it is and in one file, and as a graph.
    arguments = ["import", str(folder / "weights.safetensors"), "-o", "one.safetensors"]
    assert sar_main(arguments) == 0
    for given in (folder / "weights.safetensors", "one.safetensors"):
        arguments = ["--dataset", "mini", "--threads", "1", "-o", "out", "--batch-size", "2"]
        assert evaluate_main([*arguments, "--checkpoint", str(given)]) == 0
        scores = run.output("evaluate", "metrics.json").read_text()
        assert json.loads((tmp_path / "out/metrics.json").read_text()) == json.loads(scores)
    arguments = ["export", "--checkpoint", "one.safetensors", "--format", "torchscript"]
    assert sar_main([*arguments, "-o", "one.pt"]) == 0
