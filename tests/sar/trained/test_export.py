"""Exported files: the same labels as the model's, of any size, whole or not at all."""

import json

import numpy as np
import onnx
import onnxruntime
import pytest
import torch
from PIL import Image
from sar_cases import CLASSES, NORMAL, fcn_hrnet, tiny_bundle, upernet_swin

import sar
from sar.cli import _FORMATS, main
from sar.errors import SarError
from sar.trained import export as exporting
from sar.trained.agreement import compare
from sar.trained.bundle import write_bundle
from sar.trained.export import FORMATS, SUFFIXES, export
from sar.trained.model import TrainedModel


@pytest.fixture
def project(tmp_path, monkeypatch, bundle):
    """The model as a file, and two images of other sizes than a graph is recorded with."""
    monkeypatch.chdir(tmp_path)
    write_bundle(bundle, tmp_path / "model.safetensors")
    rng = np.random.default_rng(0)
    for name, size in (("a", (70, 91)), ("b", (40, 33))):
        coarse = rng.integers(0, 255, (6, 6, 3)).astype(np.uint8)
        Image.fromarray(coarse).resize(size).save(tmp_path / f"{name}.png")
    return tmp_path


def run(path, format, images):
    """Scores by the format's own means, and what the file says of itself."""
    if format == "onnx":
        session = onnxruntime.InferenceSession(path, providers=["CPUExecutionProvider"])
        about = {entry.key: entry.value for entry in onnx.load(path).metadata_props}
        return session.run(None, {"images": images})[0], about["semantic_anchors"]
    extra = {"semantic_anchors.json": ""}
    if format == "torchscript":
        module = torch.jit.load(path, _extra_files=extra)
    else:
        module = torch.export.load(path, extra_files=extra).module()
    with torch.no_grad():
        return module(torch.from_numpy(images)).numpy(), extra["semantic_anchors.json"]


@pytest.mark.parametrize("format", FORMATS)
def test_an_exported_file_predicts_the_same_labels(project, format, capsys):
    arguments = ["predict", "a.png", "b.png", "--checkpoint", "model.safetensors"]
    assert main([*arguments, "-o", "out", "--labels", "--device", "cpu"]) == 0
    file = f"model{SUFFIXES[format]}"
    arguments = ["export", "--checkpoint", "model.safetensors", "--format", format, "-o", file]
    assert main(arguments) == 0
    assert f"{file}: scores within" in capsys.readouterr().out
    for name in "ab":
        pixels = np.asarray(Image.open(f"{name}.png"), np.float32).transpose(2, 0, 1)[None]
        scores, about = run(file, format, np.ascontiguousarray(pixels))
        labels = np.asarray(Image.open(f"out/labels/{name}.png"))
        assert len(np.unique(labels)) > 1
        assert (scores.argmax(1)[0] == labels).all()
        many, _ = run(file, format, np.ascontiguousarray(np.repeat(pixels, 3, 0)))
        np.testing.assert_allclose(many, np.repeat(scores, 3, 0), atol=1e-3)
    about = json.loads(about)
    assert about["classes"] == CLASSES and about["version"] == sar.__version__
    assert about["normalisation"] == {
        "inside": True, "channels": "RGB", "mean": NORMAL["mean"], "std": NORMAL["std"]
    }  # fmt: skip
    assert about["input"]["shape"] == ["N", 3, "H", "W"]
    assert about["source"] == {"file": "made.pth", "sha256": "0"}
    assert sorted(path.name for path in project.iterdir()) == sorted(
        ["a.png", "b.png", "model.safetensors", "out", file]
    )


def test_branches_that_grow_by_whole_numbers_fit_any_size(tmp_path):
    model = TrainedModel(tiny_bundle(fcn_hrnet()))
    before = {name for name, module in model.named_modules() if "forward" in vars(module)}
    checked = export(model, tmp_path / "model.pt", "torchscript")
    assert [each.pixels for each in checked] == [101 * 150, 3 * 128 * 96]
    assert before == {name for name, module in model.named_modules() if "forward" in vars(module)}


def test_a_graph_that_depends_on_the_size_is_refused_until_one_is_given(tmp_path):
    model, path = TrainedModel(tiny_bundle(upernet_swin(dropout=0))), tmp_path / "model.pt"
    with pytest.raises(SarError, match=r"does not run on images of .*; expected --size HEIGHTx"):
        export(model, path, "torchscript")
    assert not list(tmp_path.iterdir())
    export(model, path, "torchscript", size=(64, 96))
    images = np.zeros((1, 3, 64, 96), np.float32)
    scores, about = run(path, "torchscript", images)
    assert scores.shape == (1, 5, 64, 96)
    assert json.loads(about)["input"]["shape"] == [1, 3, 64, 96]


def test_windows_are_the_callers(tmp_path, bundle):
    test_cfg = {"mode": "slide", "crop_size": (32, 32), "stride": (20, 20)}
    model = TrainedModel(tiny_bundle(bundle.model | {"test_cfg": test_cfg}))
    with pytest.raises(SarError, match="joins sliding windows .* expected --whole"):
        export(model, tmp_path / "model.pt", "torchscript")
    export(model, tmp_path / "model.pt", "torchscript", whole=True)
    images = np.random.default_rng(0).uniform(0, 255, (1, 3, 32, 32)).astype(np.float32)
    scores, about = run(tmp_path / "model.pt", "torchscript", images)
    assert json.loads(about)["windows"] == {
        "mode": "slide", "crop_size": [32, 32], "stride": [20, 20]
    }  # fmt: skip
    with torch.no_grad():  # One window is the whole image; the model slides as before.
        np.testing.assert_allclose(scores, model(torch.from_numpy(images)), atol=1e-4)
    assert model.segmentor.test_cfg["mode"] == "slide"


def test_a_file_that_differs_takes_no_place(project, monkeypatch, capsys):
    one = exporting._FORMATS["torchscript"]

    def off(path):
        whole = one.read(path)
        return lambda images: whole(images) + 0.05

    monkeypatch.setitem(exporting._FORMATS, "torchscript", exporting._Format(one.write, off))
    (project / "model.pt").write_text("an earlier one")
    arguments = ["export", "--checkpoint", "model.safetensors", "--format", "torchscript"]
    assert main([*arguments, "-o", "model.pt"]) == 2
    assert "scores differ from the model's by up to 0.05" in capsys.readouterr().err
    assert (project / "model.pt").read_text() == "an earlier one"
    assert len(list(project.iterdir())) == 4


def test_arguments_are_checked(project, capsys):
    assert _FORMATS == FORMATS  # The command's help does without torch.
    arguments = ["export", "--checkpoint", "model.safetensors", "--format", "onnx", "-o"]
    assert main([*arguments, "model.pt"]) == 2
    assert "model.pt: expected a name that ends in .onnx" in capsys.readouterr().err
    for size in ("64", "0x8", "axb", "8x-8"):
        with pytest.raises(SystemExit):
            main([*arguments, "model.onnx", "--size", size])
        assert "expected HEIGHTxWIDTH" in capsys.readouterr().err


def test_scores_are_compared_by_the_largest_and_classes_by_the_best_two():
    expected = torch.tensor([5.0, 4.0, -20.0]).view(1, 3, 1, 1).repeat(1, 1, 2, 2)
    near = expected + 1.9e-3
    assert compare(near, expected, "x").ties == 0
    with pytest.raises(SarError, match="x: scores differ .* by up to 0.0021"):
        compare(expected + 2.1e-3, expected, "x")
    with pytest.raises(SarError, match="nan"):
        compare(expected * float("nan"), expected, "x")
    with pytest.raises(SarError, match=r"shape \(1, 3, 2, 1\), expected \(1, 3, 2, 2\)"):
        compare(expected[..., :1], expected, "x")
    tied = expected.clone()
    tied[:, 1, 0, 0] = 5.0 - 1e-3
    other = tied.clone()
    other[:, 1, 0, 0] = 5.0 + 5e-4
    assert compare(other, tied, "x").ties == 1
    assert compare(other, tied, "x").pixels == 4
