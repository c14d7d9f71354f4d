"""Code that comes with a trained model: it runs for those who trust it, and for nobody else."""

from __future__ import annotations

import json
import sys

import numpy as np
import pytest
import torch
from PIL import Image
from sar_cases import fcn_hrnet

from sar.cli import main
from sar.errors import SarError
from sar.trained.bundle import KEY, Bundle, build_bare, load_model, read_tensors, write_bundle
from sar.trained.reading import read_trained

CODE = {
    "carried_nets/parts.py": "import torch\n\n\ndef conv(channels):\n"
    "    return torch.nn.Conv2d(3, channels, 3, stride=4, padding=1)\n",
    "carried_nets/net.py": """from mmengine.model import BaseModule

from carried_nets.parts import conv


class Net(BaseModule):
    def __init__(self, channels):
        super().__init__()
        self.conv = conv(channels)

    def forward(self, images):
        return (self.conv(images),)
""",
}
NAMES = ["carried_nets", "carried_nets.net", "carried_nets.parts"]


@pytest.fixture
def config(monkeypatch):
    """Of a model made of `CODE`; its modules are forgotten afterwards."""
    monkeypatch.setattr(sys, "meta_path", list(sys.meta_path))
    head = fcn_hrnet(2)["decode_head"]
    head |= {"in_channels": 8, "in_index": 0, "input_transform": None, "channels": 8}
    head |= {"norm_cfg": {"type": "GN", "num_groups": 4}}
    yield {
        "type": "EncoderDecoder",
        "data_preprocessor": {"type": "SegDataPreProcessor", "mean": [0] * 3, "std": [255] * 3},
        "backbone": {"type": "carried_nets.net.Net", "channels": 8},
        "decode_head": head,
        "test_cfg": {"mode": "whole"},
    }
    for name in NAMES:
        sys.modules.pop(name, None)


@pytest.fixture
def bundle(config):
    built = build_bare(config, ["carried_nets.net"], CODE, trust_code=True)
    for name in NAMES:
        sys.modules.pop(name)
    sys.meta_path.pop(0)
    return Bundle(config, built.state_dict(), ["a", "b"], imports=["carried_nets.net"], code=CODE)


def test_a_file_carries_the_code_and_predicts_with_it_when_told(bundle, tmp_path, capsys):
    path = tmp_path / "model.safetensors"
    write_bundle(bundle, path)
    image = np.random.default_rng(0).integers(0, 255, (32, 32, 3)).astype(np.uint8)
    Image.fromarray(image).save(tmp_path / "a.png")
    words = ["predict", str(tmp_path / "a.png"), "--checkpoint", str(path), "--device", "cpu"]
    words += ["-o", str(tmp_path / "out")]
    assert main(words) == 2
    error = capsys.readouterr().err
    assert "carried_nets/net.py, carried_nets/parts.py" in error and "--trust-code" in error
    assert "carried_nets.net" not in sys.modules and not (tmp_path / "out").exists()
    assert main([*words, "--trust-code"]) == 0
    assert (tmp_path / "out/a.png").is_file()


def test_the_model_is_the_same(bundle, tmp_path):
    write_bundle(bundle, tmp_path / "model.safetensors")
    read = read_trained(tmp_path / "model.safetensors")
    assert read.code == CODE
    with pytest.raises(SarError, match="trust_code=True"):
        load_model(read)
    model = load_model(read, trust_code=True)
    assert torch.equal(model.backbone.conv.weight, bundle.weights["backbone.conv.weight"])
    # Again, now that its modules are there.
    load_model(read, trust_code=True)


def test_a_file_without_code_is_written_as_ever(bundle, tmp_path):
    plain = Bundle(bundle.model, bundle.weights, bundle.classes)
    write_bundle(plain, tmp_path / "model.safetensors")
    assert "code" not in json.loads(read_tensors(tmp_path / "model.safetensors")[1][KEY])


def test_another_module_of_that_name_is_no_substitute(config):
    build_bare(config, [], CODE, trust_code=True)
    other = CODE | {"carried_nets/net.py": CODE["carried_nets/net.py"] + "# Another.\n"}
    with pytest.raises(SarError, match="another one of that name is loaded already"):
        build_bare(config, [], other, trust_code=True)


@pytest.mark.parametrize(
    ("code", "message"),
    [
        (["a.py"], "expected texts of Python files by their paths"),
        ({"a/../b.py": ""}, "expected a path of names that Python can import"),
        ({"a.txt": ""}, "expected a path of names that Python can import"),
        ({"a.py": 3}, "expected the text of a Python file"),
    ],
)
def test_a_damaged_header_is_no_code(bundle, tmp_path, code, message):
    broken = Bundle(bundle.model, bundle.weights, bundle.classes, code=code)
    write_bundle(broken, tmp_path / "model.safetensors")
    with pytest.raises(SarError, match=message):
        read_trained(tmp_path / "model.safetensors", trust_code=True)


def test_code_that_fails_is_an_error_of_the_model(config):
    code = CODE | {"carried_nets/net.py": "1 / 0\n"}
    with pytest.raises(SarError, match="module carried_nets.net fails: ZeroDivisionError"):
        build_bare(config, ["carried_nets.net"], code, trust_code=True)
