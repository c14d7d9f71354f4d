"""A model of the user's own: trained from files of the project, and used where these are not."""

from __future__ import annotations

import dataclasses
import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from pipelines.base.errors import PipelineError
from pipelines.check import check_models, check_own_code
from pipelines.configs.model import entry_config
from pipelines.drivers.code import code_files
from pipelines.evaluate.stage import evaluate
from pipelines.fetch.stage import fetch
from pipelines.prepare.stage import prepare
from pipelines.study import Study
from pipelines.train.stage import train
from tests.pipelines import mini

FILES = {
    "mine_nets/parts.py": "WIDTH = 8\n",
    "mine_nets/net.py": '''"""A net of the user's own."""

import torch
from mmengine.model import BaseModule
from mmseg.registry import MODELS

from mine_nets.parts import WIDTH


@MODELS.register_module()
class MineNet(BaseModule):
    def __init__(self, stride=4):
        super().__init__()
        self.conv = torch.nn.Conv2d(3, WIDTH, 3, stride=stride, padding=1)
        self.said = "{{ braces }}, 'quotes' and a\\\\nline"

    def forward(self, images):
        return (self.conv(images).relu(),)
''',
    "mine_configs/base.py": """model = dict(
    type="EncoderDecoder",
    data_preprocessor=dict(
        type="SegDataPreProcessor", mean=[120.0] * 3, std=[60.0] * 3, bgr_to_rgb=True,
        pad_val=0, seg_pad_val=255,
    ),
    backbone=dict(type="MineNet"),
    decode_head=dict(
        type="FCNHead", in_channels=8, in_index=0, channels=8, num_convs=1, num_classes=2,
        norm_cfg=dict(type="BN"), dropout_ratio=0, concat_input=False,
        loss_decode=dict(type="CrossEntropyLoss"),
    ),
    train_cfg=dict(), test_cfg=dict(mode="whole"),
)
""",
    "mine_configs/strided.py": "_base_ = ['base.py']\nmodel = dict(backbone=dict(stride=2))\n",
}
ENTRY = {
    "title": "Mine",
    "config": "mine_configs/strided.py",
    "custom_imports": ["mine_nets/net.py", "mine_nets/parts.py"],
}


@pytest.fixture
def own(tmp_path, monkeypatch):
    """The run of `mini` with SAR on a model of the user's, in a project of its own."""
    folder = tmp_path / "project"
    folder.mkdir()
    monkeypatch.chdir(folder)
    monkeypatch.setattr(sys, "path", list(sys.path))
    mini.write_params(folder)
    for name, text in FILES.items():
        Path(name).parent.mkdir(exist_ok=True)
        Path(name).write_text(text)
    Path(f"params/models/{mini.MODEL}.yaml").write_text(json.dumps(ENTRY))
    yield next(run for run in Study.load("mini").runs if run.method == "sar")
    from mmseg.registry import MODELS

    MODELS._module_dict.pop("MineNet", None)
    for name in ("mine_nets", "mine_nets.net", "mine_nets.parts"):
        sys.modules.pop(name, None)


@pytest.mark.slow
def test_it_trains_with_sar_and_predicts_elsewhere(own, tmp_path):
    fetch(own.dataset)
    prepare(own.dataset)
    check_models(own.study)
    train(own)
    evaluate(own)
    weights = own.output("train", "weights.safetensors").absolute()
    image = next((own.dataset.prepared / "images/test").iterdir()).absolute()
    elsewhere = tmp_path / "elsewhere"
    elsewhere.mkdir()

    def sar(*words: str) -> subprocess.CompletedProcess:
        return subprocess.run(
            [sys.executable, "-m", "sar", *words],
            cwd=elsewhere,
            env=os.environ | {"PYTHONPATH": str(mini.ROOT)},
            capture_output=True,
            text=True,
        )

    refused = sar("import", str(weights), "-o", "m.safetensors")
    assert refused.returncode == 2 and "mine_nets/net.py, mine_nets/parts.py" in refused.stderr
    done = sar("import", str(weights), "-o", "m.safetensors", "--trust-code")
    assert done.returncode == 0, done.stderr
    words = ("predict", str(image), "--checkpoint", "m.safetensors", "-o", "out")
    assert sar(*words).returncode == 2
    done = sar(*words, "--trust-code")
    assert done.returncode == 0, done.stderr
    assert [path.suffix for path in (elsewhere / "out").iterdir()] == [".png"]


def test_the_documentation_s_net_takes_a_step(own, monkeypatch):
    text = (mini.ROOT / "docs/models.md").read_text(encoding="utf-8")
    _, _, after = text.partition("<!-- run by tests/scenarios/test_own_model.py -->\n```python\n")
    Path("documented.py").write_text(after.partition("```")[0])
    model = {"backbone": {"_delete_": True, "type": "MyNet", "width": 32}, "pretrained": None}
    model |= {"decode_head": {"in_channels": [32], "in_index": [0], "channels": 8}}
    entry = {"title": "Theirs", "config": "_base_/models/fcn_hr18.py", "model": model}
    Path(f"params/models/{mini.MODEL}.yaml").write_text(
        json.dumps(entry | {"custom_imports": ["documented.py"]})
    )
    try:
        check_models(Study.load("mini"))
    finally:
        from mmseg.registry import MODELS

        MODELS._module_dict.pop("MyNet", None)
        sys.modules.pop("documented", None)


def test_an_encoder_of_another_library_needs_no_files(own):
    pytest.importorskip("transformers")
    settings = {"hidden_sizes": [8, 16], "depths": [1, 1], "embedding_size": 8}
    backbone = {"_delete_": True, "type": "sar.adapters.huggingface.Encoder"}
    backbone |= {"model_type": "resnet", "settings": settings | {"layer_type": "basic"}}
    head = {"in_channels": [8, 16], "in_index": [0, 1], "channels": 8}
    entry = {"title": "Theirs", "config": "_base_/models/fcn_hr18.py", "pretrained": None}
    entry |= {"model": {"backbone": backbone, "decode_head": head}}
    Path(f"params/models/{mini.MODEL}.yaml").write_text(json.dumps(entry))
    run = Study.load("mini").runs[0]
    assert Path("sar/adapters/huggingface.py") in [
        Path(*path.parts[-3:]) for path in code_files("evaluate", run)
    ]
    check_models(run.study)


def test_a_file_that_would_not_be_carried_is_named(own):
    entry = own.entry.model_copy(update={"custom_imports": ["mine_nets/net.py"]})
    study = dataclasses.replace(own.study, models={own.model: entry})
    Path("mine_nets/__init__.py").touch()
    with pytest.raises(PipelineError, match=r"its files import mine_nets/parts.py; expected these"):
        check_own_code(study)
    check_own_code(own.study)


def test_the_entry_s_config_is_the_project_s_with_what_it_is_based_on(own):
    model = entry_config(own.model, own.entry).model
    assert model.backbone == {"type": "MineNet", "stride": 2}


@pytest.mark.parametrize(
    ("file", "text", "message"),
    [
        ("mine_nets/net.py", "import nothing_such", r"mine_nets/net.py: fails when .*ModuleNotFo"),
        ("mine_configs/base.py", "model = 1 / 0", r"config: .*strided.py: not read .*ZeroDivision"),
        ("mine_configs/strided.py", "a = 1", r"strided.py has no `model = dict"),
    ],
)
def test_a_file_that_cannot_be_run_is_named(own, file, text, message):
    Path(file).write_text(text)
    with pytest.raises(PipelineError, match=message):
        entry_config(own.model, own.entry)


def test_a_file_whose_name_is_taken_is_refused(own):
    Path("json.py").write_text("")
    entry = own.entry.model_copy(update={"custom_imports": ["json.py"]})
    with pytest.raises(PipelineError, match=r"json.py: Python imports .*json/__init__.py as json"):
        entry_config(own.model, entry)
