"""Published weights of a backbone: on their way, verified, and read without running their code."""

from __future__ import annotations

import hashlib
import io
import json
import pickle
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file, save

from pipelines.base.errors import PipelineError
from pipelines.fetch.__main__ import main
from pipelines.fetch.stage import fetch_backbone
from pipelines.study import CHECKSUMS, Weights
from tests.pipelines.fetch import web

STATE = {
    "conv1.weight": torch.arange(6.0).reshape(1, 2, 3),
    "norm1.running_mean": torch.ones(2, dtype=torch.float16),
    "norm1.num_batches_tracked": torch.tensor(7),
}


def saved(content) -> bytes:
    buffer = io.BytesIO()
    torch.save(content, buffer)
    return buffer.getvalue()


DATA = saved({"state_dict": STATE, "meta": {"epoch": 100}, "optimizer": {"lr": [0.1]}})
SHA256 = hashlib.sha256(DATA).hexdigest()


@pytest.fixture
def entry(project):
    """A function that writes the model entry `net` and returns its weights."""
    (project.root / CHECKSUMS).parent.mkdir(parents=True)

    def write(*urls: str, **more) -> Weights:
        pretrained = {"file": "net-abc.pth", "urls": list(urls), "sha256": SHA256[:8]} | more
        path = project.root / "params/models/net.yaml"
        path.parent.mkdir(parents=True, exist_ok=True)
        content = {"title": "Net", "config": "net.py", "pretrained": pretrained}
        path.write_text(json.dumps(content))
        return Weights.load("net")

    return write


def check(weights: Weights, expected: dict = STATE) -> None:
    found = load_file(weights.backbone)
    assert found.keys() == expected.keys()
    for name, tensor in expected.items():
        assert found[name].dtype == tensor.dtype and torch.equal(found[name], tensor)


def test_a_file_is_verified_and_comes_with_a_receipt_that_no_replay_changes(entry, server):
    weights = entry(server.add("/net.pth", DATA))
    fetch_backbone(weights)
    check(weights)
    receipt = weights.receipt.read_bytes()
    assert json.loads(receipt)["outputs"].keys() == {"backbone.safetensors"}
    fetch_backbone(weights)
    assert weights.receipt.read_bytes() == receipt
    assert len(server.requests) == 1
    assert {path.name for path in weights.folder().iterdir()} == {
        *("backbone.safetensors", "receipt.json", "runtime.json")
    }


def test_a_cut_transfer_is_resumed(entry, server):
    url = server.add("/net.pth", DATA, faults=[web.cut_after(100)])
    fetch_backbone(weights := entry(url))
    check(weights)
    assert server.requests[1].headers["Range"] == "bytes=100-"


def test_the_second_address_is_tried(entry, server):
    fetch_backbone(weights := entry(server.url("/gone.pth"), server.add("/net.pth", DATA)))
    check(weights)


def test_the_published_digits_decide_and_then_the_whole_checksum(entry, server):
    """What begins alike at a later time is still not what was first seen."""
    url = server.add("/net.pth", DATA)
    fetch_backbone(weights := entry(url, sha256=SHA256[:8]))
    noted = json.loads(CHECKSUMS.read_text())["weights"]["net-abc.pth"]
    assert noted == {"bytes": len(DATA), "sha256": SHA256}

    other = SHA256[:8] + "0" * 56
    content = {"weights": {"net-abc.pth": {"bytes": len(DATA), "sha256": other}}}
    CHECKSUMS.write_text(json.dumps(content))
    with pytest.raises(PipelineError, match=f"has the sha256 {SHA256}, expected {other}") as error:
        fetch_backbone(weights)
    assert "delete its entry there" in str(error.value)


def test_digits_of_another_file_make_the_record_void(entry, server):
    noted = {"bytes": 3, "sha256": "f" * 64}
    CHECKSUMS.write_text(json.dumps({"weights": {"net-abc.pth": noted, "other.pth": noted}}))
    fetch_backbone(entry(server.add("/net.pth", DATA)))
    recorded = json.loads(CHECKSUMS.read_text())["weights"]
    assert recorded["net-abc.pth"]["sha256"] == SHA256
    assert recorded["other.pth"] == noted


def test_a_whole_checksum_is_not_recorded(entry, server):
    fetch_backbone(weights := entry(server.add("/net.pth", DATA), sha256=SHA256))
    check(weights)
    assert not CHECKSUMS.exists()


@pytest.mark.parametrize("digits", [8, 64])
def test_another_file_is_refused(entry, server, digits):
    weights = entry(server.add("/net.pth", saved(dict(STATE))), sha256=SHA256[:digits])
    with pytest.raises(PipelineError, match=f"expected {SHA256[:digits]}.*model entry"):
        fetch_backbone(weights)
    assert not weights.receipt.exists()
    assert not (weights.downloads / "net-abc.pth").exists()


def test_without_a_network_the_file_the_address_and_the_place_are_named(entry, server, capsys):
    url = server.url("/net.pth")
    entry(url)
    assert main(["--weights", "net"]) == 2
    message = capsys.readouterr().err
    assert "params/models/net.yaml: pretrained: net-abc.pth cannot be downloaded" in message
    assert f"{url}: the server answers 404" in message
    assert "put the file at data/downloads/weights/net-abc.pth by hand" in message


def test_a_file_put_there_by_hand_or_in_the_mirror_needs_no_network(entry, tmp_path, monkeypatch):
    weights = entry("http://127.0.0.1:9/net.pth")
    weights.downloads.mkdir(parents=True)
    (weights.downloads / "net-abc.pth").write_bytes(DATA)
    fetch_backbone(weights)
    check(weights)
    (weights.downloads / "net-abc.pth").unlink()
    mirror = tmp_path / "mirror/weights"
    mirror.mkdir(parents=True)
    (mirror / "net-abc.pth").write_bytes(DATA)
    monkeypatch.setenv("SAR_MIRROR", str(tmp_path / "mirror"))
    weights.receipt.unlink()
    fetch_backbone(weights)
    check(weights)


class Evil:
    """Unpickled, it would leave the file `executed`."""

    def __reduce__(self):
        return Path.touch, (Path("executed"),)


@pytest.mark.parametrize("pack", [saved, pickle.dumps])
def test_a_pickle_with_code_is_refused_and_not_executed(entry, server, pack):
    data = pack({"state_dict": STATE, "meta": Evil()})
    sha256 = hashlib.sha256(data).hexdigest()
    weights = entry(server.add("/net.pth", data), sha256=sha256)
    with pytest.raises(PipelineError, match=r"net.yaml: pretrained: .*net-abc.pth: not loaded"):
        fetch_backbone(weights)
    assert not Path("executed").exists()
    assert not weights.receipt.exists()


@pytest.mark.parametrize(
    "content",
    [
        {"state_dict": {f"module.backbone.{name}": tensor for name, tensor in STATE.items()}},
        {"model": {f"backbone.{name}": t for name, t in STATE.items()} | {"head.w": torch.ones(1)}},
        {f"backbone.{name}": tensor for name, tensor in STATE.items()} | {"head.w": torch.ones(1)},
    ],
)
def test_a_prefix_chooses_the_backbone_of_a_whole_model(entry, server, content):
    data = saved(content)
    url, sha256 = server.add("/net.pth", data), hashlib.sha256(data).hexdigest()
    for prefix in (None, "backbone."):
        fetch_backbone(weights := entry(url, sha256=sha256, prefix=prefix))
        check(weights)
    weights = entry(url, sha256=sha256, prefix="back_bone.")
    with pytest.raises(PipelineError, match=r"prefix: .*begin with 'back_bone.'; it has backbone"):
        fetch_backbone(weights)


def test_safetensors_are_taken_as_well(entry, server):
    data = save(STATE)
    sha256 = hashlib.sha256(data).hexdigest()
    weights = entry(server.add("/net", data), sha256=sha256, file="net.safetensors")
    fetch_backbone(weights)
    check(weights)


def test_a_file_that_is_no_checkpoint_is_named(entry, server):
    data = b"<html>Sign in</html>"
    sha256 = hashlib.sha256(data).hexdigest()
    weights = entry(server.add("/net.pth", data), sha256=sha256)
    with pytest.raises(PipelineError, match=r"net-abc.pth: not loaded, as it is no checkpoint"):
        fetch_backbone(weights)


def test_a_model_without_weights_has_nothing_to_fetch(project, capsys):
    path = project.root / "params/models/net.yaml"
    path.parent.mkdir(parents=True)
    path.write_text(json.dumps({"title": "Net", "config": "net.py"}))
    assert main(["--weights", "net"]) == 2
    assert "params/models/net.yaml: pretrained: not given" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("key", "value", "message"),
    [
        ("file", "../net.pth", r"pretrained.file: .*match pattern"),
        ("sha256", "D2186C55", r"pretrained.sha256: .*match pattern"),
        ("sha256", "abc", r"pretrained.sha256: .*match pattern"),
        ("urls", [], r"pretrained.urls: .*at least 1 item"),
        ("url", "x", r"pretrained.url: Extra inputs"),
    ],
)
def test_a_mistake_in_an_entry_names_file_and_key(entry, key, value, message):
    with pytest.raises(PipelineError, match=rf"params/models/net.yaml: {message}"):
        entry("http://127.0.0.1:9/net.pth", **{key: value})
