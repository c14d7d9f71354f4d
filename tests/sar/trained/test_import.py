"""From the command line to the logits: released checkpoints become this project's."""

import zipfile

import numpy as np
import pytest
import torch
from mmengine.config import Config
from sar_cases import GOLDEN, fcn_hrnet, golden_model_config, load_trace, model_traces

from sar.checkpoints import import_regularizer_state, load_released, sort_released
from sar.cli import main
from sar.trained.bundle import load_model, read_tensors
from sar.trained.configs import read_config
from sar.trained.reading import read_trained

NAME = "fcn_hrnet_k7"
NORMAL = dict(mean=[123.675, 116.28, 103.53], std=[58.395, 57.12, 57.375])


@pytest.fixture
def config(tmp_path):
    """A function that writes a config file for a golden model, changed as told."""

    def write(name=NAME, **changes):
        path = tmp_path / f"{name}.py"
        Config({"model": golden_model_config(name) | changes}).dump(path)
        return str(path)

    return write


@pytest.fixture
def changed(tmp_path):
    """A function that saves the golden checkpoint after a change of its content."""

    def save(change, **options):
        content = load_released(GOLDEN / f"{NAME}.pth")
        change(content)
        torch.save(content, tmp_path / "changed.pth", **options)
        return str(tmp_path / "changed.pth")

    return save


def imported(tmp_path, checkpoint, config):
    out = tmp_path / "out.safetensors"
    assert main(["import", str(checkpoint), "--config", config, "-o", str(out)]) == 0
    return out


@pytest.mark.parametrize("path", model_traces(), ids=lambda path: path.stem)
def test_from_the_command_line_to_the_logits(path, tmp_path, config, capsys):
    released = path.with_suffix(".pth")
    out = imported(tmp_path, released, config(path.stem))
    said = capsys.readouterr().out
    assert "trained with semantic anchors" in said and "regularizer 23" in said

    bundle, trace = read_trained(out), load_trace(path)
    model = load_model(bundle)
    with torch.no_grad():
        samples = model(torch.as_tensor(trace["eval/image"]), mode="predict")
    logits = torch.stack([sample.seg_logits.data for sample in samples])[..., ::4, ::4].numpy()
    recorded = trace["eval/logits"]
    assert np.abs(logits - recorded).max() <= 1e-4 * np.abs(recorded).max()

    count = recorded.shape[1]
    assert bundle.classes == [f"c{index}" for index in range(count)]
    assert bundle.palette == [[index] * 3 for index in range(count)]
    _, regularizer, _ = sort_released(load_released(released)["state_dict"])
    for name, value in import_regularizer_state(regularizer).items():
        assert torch.equal(bundle.regularizer[f"regularizer.{name}"], value)


def test_equal_imports_have_equal_bytes_and_name_their_source(tmp_path, config):
    first = imported(tmp_path, GOLDEN / f"{NAME}.pth", config()).read_bytes()
    out = imported(tmp_path, GOLDEN / f"{NAME}.pth", config())
    assert out.read_bytes() == first
    assert [path.name for path in tmp_path.glob("*out*")] == ["out.safetensors"]
    source = read_trained(out).source
    assert source["file"] == f"{NAME}.pth" and len(source["sha256"]) == 64
    assert source["mmseg_version"] == "0.29.1"


def test_a_baseline_needs_no_regularizer(tmp_path, config, changed, capsys):
    def without_regularizer(content):
        content["state_dict"] = sort_released(content["state_dict"])[0]

    out = imported(tmp_path, changed(without_regularizer), config())
    assert "a baseline, 7 classes" in capsys.readouterr().out
    assert not any(name.startswith("regularizer") for name in read_tensors(out)[0])


def test_what_does_not_fit_is_listed_by_part(tmp_path, config, changed, capsys):
    def spoil(content):
        state = content["state_dict"]
        del state["backbone.conv1.weight"], state["projecter.conv.weight"]
        state["decode_head.convs.0.conv.weight"] = torch.zeros(120, 120, 3, 3)
        state["auxiliary_head.conv_seg.weight"] = torch.zeros(7, 16, 1, 1)
        state["neck.weight"] = torch.zeros(1)

    out = tmp_path / "out.safetensors"
    path = changed(spoil)
    assert main(["import", path, "--config", config(), "-o", str(out)]) == 2
    lines = capsys.readouterr().err.splitlines()
    assert lines[0].startswith(f"error: {path} does not fit")
    assert [line.strip() for line in lines[1:]] == [
        "backbone: 1 missing: backbone.conv1.weight",
        "decode head: 1 of another shape: decode_head.convs.0.conv.weight (120, 120, 3, 3), "
        "expected (120, 120, 1, 1)",
        "auxiliary head: 1 unexpected: auxiliary_head.conv_seg.weight",
        "other: 1 unexpected: neck.weight",
        "regularizer: 1 missing: projecter.conv.weight",
    ]
    assert not out.exists()


@pytest.mark.parametrize("name", ["decode_head.conv_seg.bias", "momentum_center_feat"])
def test_a_nan_is_refused_and_named(tmp_path, config, changed, name, capsys):
    def breaks(content):
        content["state_dict"][name].view(-1)[1] = float("nan")

    assert (
        main(
            ["import", changed(breaks), "--config", config(), "-o", str(tmp_path / "o.safetensors")]
        )
        == 2
    )
    assert f"changed.pth: NaN or infinite: {name} (1 of " in capsys.readouterr().err


def test_the_number_of_classes_is_the_checkpoints(tmp_path, config, capsys):
    nineteen = config(decode_head=fcn_hrnet(19, dropout_ratio=-1)["decode_head"])
    out = imported(tmp_path, GOLDEN / f"{NAME}.pth", nineteen)
    assert "decode_head: 7 classes, as in the checkpoint; the config has 19" in (
        capsys.readouterr().out
    )
    assert read_trained(out).model["decode_head"]["num_classes"] == 7


def test_names_of_another_number_of_classes_are_refused(tmp_path, config, changed, capsys):
    path = changed(lambda content: content["meta"].update(CLASSES=["one", "two"]))
    assert main(["import", path, "--config", config(), "-o", str(tmp_path / "o.safetensors")]) == 2
    assert "names 2 classes, and the model tells 7 apart" in capsys.readouterr().err


@pytest.mark.parametrize("zipped", [True, False], ids=["zip", "before torch 1.6"])
def test_numbers_of_numpy_and_an_optimizer_are_read(tmp_path, config, changed, zipped):
    def more(content):
        content["meta"]["hook_msgs"] = {"best_score": np.float64(0.5), "seen": np.arange(3)}
        content["optimizer"] = {"state": {0: {"momentum_buffer": torch.ones(2)}}}

    path = changed(more, _use_new_zipfile_serialization=zipped)
    if zipped:
        # As numpy 1 names its module, in whose time the released code ran.
        _rewrite(path, b"numpy._core", b"numpy.core")
    imported(tmp_path, path, config())


def test_code_in_a_checkpoint_is_refused_and_named(tmp_path, config, changed, capsys):
    class Surprise:
        def __reduce__(self):
            return (tmp_path / "it_ran").touch, ()

    path = changed(lambda content: content["meta"].update(env=Surprise()))
    assert main(["import", path, "--config", config(), "-o", str(tmp_path / "o.safetensors")]) == 2
    assert "it refers to " in capsys.readouterr().err
    assert not (tmp_path / "it_ran").exists()


def test_the_old_normalisation_is_found_and_not_run(tmp_path, config, changed, capsys):
    text = f"(1 / 0)\nimg_norm_cfg = dict(\n    mean={NORMAL['mean']}, std={NORMAL['std']}, "
    text += "to_rgb=True)\nmodel = dict(type='EncoderDecoder')\n"
    path = changed(lambda content: content["meta"].update(config=text))
    out = imported(tmp_path, path, config())
    assert "normalisation of images: from the checkpoint's own config" in capsys.readouterr().out
    expected = {"type": "SegDataPreProcessor", "bgr_to_rgb": True, **NORMAL}
    assert read_trained(out).model["data_preprocessor"] == expected

    same = config(data_preprocessor=expected)
    imported(tmp_path, path, same)
    other = config(data_preprocessor=expected | {"bgr_to_rgb": False})
    assert main(["import", path, "--config", other, "-o", str(out)]) == 2
    assert "to_rgb True" in capsys.readouterr().err


def test_a_packaged_config_is_found_without_its_pretraining():
    config = read_config("_base_/models/fcn_hr18.py")
    assert config.model["backbone"]["type"] == "HRNet" and "pretrained" not in config.model
    assert config.model["backbone"]["extra"]["stage2"]["num_blocks"] == (4, 4)


def test_a_whole_config_says_how_to_feed_the_model_and_what_its_classes_are():
    config = read_config("hrnet/fcn_hr48_4xb2-80k_cityscapes-512x1024.py")
    assert config.image_steps == [{"type": "Resize", "scale": (2048, 1024), "keep_ratio": True}]
    assert config.classes[0] == "road" and config.palette[0] == [128, 64, 128]


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("mmseg::hrnet/fcn_hr18.py", "what stands after ::"),
        ("none/such.py", "no such config file"),
    ],
)
def test_a_config_that_cannot_be_read_is_named(name, message, tmp_path, capsys):
    out = str(tmp_path / "o.safetensors")
    assert main(["import", str(GOLDEN / f"{NAME}.pth"), "--config", name, "-o", out]) == 2
    assert f"error: {name}: " in (said := capsys.readouterr().err) and message in said


def test_a_checkpoint_needs_a_config_and_the_result_a_known_ending(tmp_path, config, capsys):
    path = str(GOLDEN / f"{NAME}.pth")
    assert main(["import", path, "-o", str(tmp_path / "o.safetensors")]) == 2
    assert main(["import", path, "--config", config(), "-o", str(tmp_path / "o.pth")]) == 2
    assert main(["import", "none.pth", "-o", str(tmp_path / "o.safetensors")]) == 2
    said = capsys.readouterr().err
    assert "expected a config" in said and "ends in .safetensors" in said
    assert "none.pth: no such file" in said


def test_a_cut_file_is_refused(tmp_path, config, capsys):
    out = imported(tmp_path, GOLDEN / f"{NAME}.pth", config())
    out.write_bytes(out.read_bytes()[:-10])
    assert main(["import", str(out), "-o", str(tmp_path / "again.safetensors")]) == 2
    assert "no whole safetensors file" in capsys.readouterr().err


def _rewrite(path, old, new):
    with zipfile.ZipFile(path) as file:
        content = {name: file.read(name) for name in file.namelist()}
    with zipfile.ZipFile(path, "w") as file:
        for name, data in content.items():
            if name.endswith("data.pkl"):
                assert old in data
                data = data.replace(old, new)
            file.writestr(name, data)
