"""Overlays of images, from the command line."""

import dataclasses

import numpy as np
import pytest
import torch
from mmengine.config import Config
from PIL import Image
from safetensors.torch import save_file
from sar_cases import fcn_hrnet

from sar.cli import main
from sar.trained.bundle import Bundle, build_bare, load_model, write_bundle
from sar.trained.images import result_names
from sar.trained.model import TrainedModel
from sar.trained.overlay import overlay
from sar.trained.palette import distinct_colours, seen_lab

CLASSES = ["road", "car", "sky", "a very long name of a class that fills more than a line", "tree"]
PALETTE = [[200, 30, 30], [30, 200, 30], [30, 30, 200], [200, 200, 30], [30, 200, 200]]
NORMAL = dict(type="SegDataPreProcessor", mean=[120.0] * 3, std=[60.0] * 3, bgr_to_rgb=True)


@pytest.fixture(scope="module")
def bundle():
    torch.manual_seed(1)
    config = fcn_hrnet(5, dropout_ratio=-1) | {"data_preprocessor": NORMAL}
    config["decode_head"]["norm_cfg"] = dict(type="GN", num_groups=4)
    weights = build_bare(config, []).state_dict()
    # Scores that differ enough for several classes to be found.
    weights["decode_head.conv_seg.weight"] = torch.randn(5, 120, 1, 1)
    return Bundle(config, weights, CLASSES, PALETTE)


@pytest.fixture
def project(tmp_path, monkeypatch, bundle):
    """A folder with the checkpoint and three images of unequal sizes, as working directory."""
    monkeypatch.chdir(tmp_path)
    write_bundle(bundle, tmp_path / "model.safetensors")
    (tmp_path / "photos/more").mkdir(parents=True)
    rng = np.random.default_rng(0)
    for name, size in (("a.png", (40, 56)), ("b.jpg", (64, 48)), ("more/c.png", (33, 65))):
        coarse = rng.integers(0, 255, (6, 6, 3)).astype(np.uint8)
        Image.fromarray(coarse).resize(size[::-1]).save(tmp_path / "photos" / name)
    return tmp_path


def predict(*arguments):
    return main(["predict", *arguments, "--checkpoint", "model.safetensors", "-o", "out"])


def written(folder):
    return sorted(p.relative_to(folder).as_posix() for p in folder.rglob("*") if p.is_file())


def test_an_image_of_too_many_pixels_is_named_and_the_limit_can_be_raised(project, capsys):
    assert predict("photos", "--max-pixels", "2500") == 1
    assert written(project / "out") == ["a.png", "c.png"]
    assert "skipped photos/b.jpg: 48 x 64 pixels, more than 2500 in all" in capsys.readouterr().err
    assert predict("photos", "--max-pixels", "4000") == 0
    with pytest.raises(SystemExit):
        predict("photos", "--max-pixels", "0")


def test_a_folder_gives_overlays_and_labels_of_all_images(project, bundle, capsys):
    assert predict("photos", "--labels", "--device", "cpu") == 0
    names = ["a.png", "b.png", "c.png"]
    assert written(project / "out") == names + [f"labels/{name}" for name in names]
    said = capsys.readouterr()
    assert "3 of 3 images into out" in said.out and "3/3" in said.err
    model = TrainedModel(bundle)
    with Image.open("photos/a.png") as image, Image.open("out/labels/a.png") as labels:
        ids = np.asarray(labels)
        assert labels.mode == "L" and labels.size == image.size == (56, 40)
        assert (ids == model.predict(image)).all()
        assert len(np.unique(ids)) > 1
        with Image.open("out/a.png") as drawn:
            expected = overlay(image, ids, CLASSES, PALETTE)
            assert (np.asarray(drawn) == np.asarray(expected)).all()


def test_labels_are_what_the_model_says_of_the_normalised_image(project, bundle):
    assert predict("photos/a.png", "--labels") == 0
    model = load_model(bundle)
    pixels = torch.as_tensor(np.array(Image.open("photos/a.png"))).permute(2, 0, 1)[None].float()
    with torch.no_grad():
        logits = model((pixels - 120) / 60, mode="tensor")
    logits = torch.nn.functional.interpolate(logits, (40, 56), mode="bilinear")
    agreement = (np.array(Image.open("out/labels/a.png")) == logits.argmax(1)[0].numpy()).mean()
    assert agreement == 1


def test_patterns_reach_into_folders_and_results_are_not_taken_for_images(project):
    assert predict("photos/**/*.png") == 0
    assert written(project / "out") == ["a.png", "c.png"]
    (project / "out").rename(project / "photos/out")
    arguments = ["predict", "photos", "--checkpoint", "model.safetensors", "-o", "photos/out"]
    assert main(arguments) == 0
    assert written(project / "photos/out") == ["a.png", "b.png", "c.png"]


def test_what_cannot_be_read_is_named_and_the_others_are_done(project, capsys):
    whole = (project / "photos/a.png").read_bytes()
    (project / "photos/cut.png").write_bytes(whole[: len(whole) // 2])
    (project / "photos/text.png").write_text("no image")
    deep = Image.fromarray(np.full((8, 8), 40_000, np.uint16))
    deep.save(project / "photos/deep.png")
    assert predict("photos", "none.png", "nothing/*.png") == 1
    assert written(project / "out") == ["a.png", "b.png", "c.png"]
    said = capsys.readouterr()
    assert "3 of 8 images into out" in said.out
    for name in ("photos/cut.png: cannot be", "photos/text.png: cannot be", "photos/deep.png: not"):
        assert f"skipped {name}" in said.err
    assert "skipped none.png: no such file or folder\n" in said.err
    assert "skipped nothing/*.png: no image fits this pattern\n" in said.err


@pytest.mark.parametrize(
    ("named", "why"),
    [
        ("nothing", "nothing: no such file or folder"),
        ("photos/A.png", "photos/A.png: no such file or folder"),
        ("empty", "empty: no image in this folder; expected files in .bmp, .jpeg"),
        ("empty/*", "empty/*: no image fits this pattern"),
    ],
)
def test_no_image_at_all_is_an_error(project, named, why, capsys):
    (project / "empty").mkdir()
    assert predict(named, "none.png") == 2
    said = capsys.readouterr().err
    assert f"error: {why}" in said and "; none.png: no such file or folder" in said
    assert not (project / "out").exists()


def test_a_checkpoint_that_is_not_there_is_named(project, capsys):
    arguments = ["predict", "photos", "-o", "out", "--checkpoint"]
    assert main([*arguments, "no/model.safetensors"]) == 2
    assert "error: no/model.safetensors: no such file or folder" in capsys.readouterr().err
    assert main([*arguments, "photos"]) == 2
    assert "error: photos: no weights.safetensors in this folder" in capsys.readouterr().err


def test_images_of_one_name_do_not_replace_each_other(project):
    with Image.open("photos/b.jpg") as image:
        image.save("photos/more/a.png")
    assert predict("photos", "photos/a.png") == 0  # The same image twice is one.
    assert written(project / "out") == ["a.png", "b.png", "more__a.png", "more__c.png"]


@pytest.mark.parametrize(
    ("paths", "names"),
    [
        (["x/a.png", "x/b.png"], ["a", "b"]),
        (["x/a.png", "y/a.png"], ["x__a", "y__a"]),
        (["x/a.png", "x/A.jpg"], ["a_png", "A_jpg"]),
        (["a_b/c.png", "a_b/c.jpg", "a_b/c_png.jpg"], ["c_png", "c_jpg", "c_png_jpg"]),
        (["x/a.png", "x__a.png", "y/a.png"], ["000000_a", "000001_x__a", "000002_a"]),
    ],
)
def test_names_of_results(tmp_path, paths, names):
    assert result_names([tmp_path / path for path in paths]) == names


def test_a_result_never_replaces_an_image(project, capsys):
    before = (project / "photos/a.png").read_bytes()
    arguments = ["predict", "photos/a.png", "--checkpoint", "model.safetensors", "-o", "photos"]
    assert main(arguments) == 2
    assert "is one of the images" in capsys.readouterr().err
    assert (project / "photos/a.png").read_bytes() == before


def test_a_photo_is_turned_as_its_camera_says(project):
    image = Image.open("photos/a.png")
    exif = image.getexif()
    exif[0x0112] = 6
    image.save("photos/turned.png", exif=exif)
    assert predict("photos/turned.png", "--labels") == 0
    with Image.open("out/labels/turned.png") as labels:
        assert labels.size == (40, 56)


def test_weights_of_a_run_use_the_config_beside_them(project, bundle, capsys):
    resize = {"type": "Resize", "scale_factor": 2.0, "keep_ratio": True}
    dataset = {
        "type": "BaseSegDataset",
        "metainfo": {"classes": CLASSES, "palette": PALETTE},
        "pipeline": [
            {"type": "LoadImageFromFile"},
            {"type": "LoadAnnotations"},
            resize,
            {"type": "RandomCrop", "crop_size": (8, 8)},
            {"type": "PackSegInputs"},
        ],
    }
    (project / "run").mkdir()
    save_file(bundle.weights, project / "run/weights.safetensors")
    arguments = ["predict", "photos/a.png", "--checkpoint", "run/weights.safetensors", "-o", "out"]
    assert main(arguments) == 2
    assert "expected a config beside it" in capsys.readouterr().err
    config = {"model": bundle.model, "train_dataloader": {"dataset": dataset}}
    Config(config).dump(project / "run/config.py")
    assert main([*arguments, "--labels"]) == 0
    larger = TrainedModel(Bundle(bundle.model, bundle.weights, CLASSES, image_steps=[resize]))
    ids = np.array(Image.open("out/labels/a.png"))
    assert (ids == larger.predict(Image.open("photos/a.png"))).all()
    assert (ids != TrainedModel(bundle).predict(Image.open("photos/a.png"))).any()


@pytest.mark.parametrize("value", [float("nan"), float("inf")])
def test_one_number_that_is_not_finite_is_named(project, bundle, value, capsys):
    name = "backbone.bn2.running_var"
    weights = {key: tensor.clone() for key, tensor in bundle.weights.items()}
    weights[name][3] = value
    write_bundle(dataclasses.replace(bundle, weights=weights), project / "model.safetensors")
    assert predict("photos") == 2
    said = capsys.readouterr().err
    assert f"model.safetensors: NaN or infinite: {name} (1 of 64 numbers)" in said
    assert not (project / "out").exists()


def test_arguments_are_checked(project, capsys):
    for arguments, message in (
        (["--device", "tpu"], "--device tpu"),
        (["--device", "cuda:99"], "CUDA devices on this machine"),
        (["--config", "x.py"], "holds its own config"),
    ):
        assert predict("photos", *arguments) == 2
        assert message in capsys.readouterr().err
    with pytest.raises(SystemExit) as stopped:
        predict("photos", "--opacity", "1.5")
    assert stopped.value.code == 2
    assert "expected a number from 0 to 1" in capsys.readouterr().err


@pytest.mark.gpu
@pytest.mark.skipif(not torch.cuda.is_available(), reason="no CUDA device")
def test_a_gpu_finds_what_a_cpu_finds(project):
    assert predict("photos/a.png", "--labels", "--device", "cuda") == 0
    found = np.array(Image.open("out/labels/a.png"))
    assert predict("photos/a.png", "--labels", "--device", "cpu") == 0
    assert (found == np.array(Image.open("out/labels/a.png"))).mean() > 0.99


@pytest.mark.parametrize("size", [(180, 240), (64, 64), (1024, 2048)], ids=str)
def test_a_legend_has_the_classes_of_the_picture_and_no_other(size):
    ids = np.zeros(size, np.uint8)
    ids[: size[0] // 2], ids[:5, :5] = 2, 3
    image = Image.fromarray(np.full((*size, 3), 90, np.uint8))
    drawn = overlay(image, ids, CLASSES, PALETTE)
    factor = drawn.width // size[1]
    assert drawn.width == factor * size[1] and drawn.width >= 400
    legend = np.asarray(drawn)[factor * size[0] :].reshape(-1, 3)
    shown = {tuple(colour) for colour in legend} & set(map(tuple, PALETTE))
    assert shown == {tuple(PALETTE[index]) for index in (0, 2, 3)}


def test_opacity_goes_from_the_image_to_the_classes():
    rng = np.random.default_rng(0)
    image = Image.fromarray(rng.integers(0, 255, (400, 400, 3)).astype(np.uint8))
    ids = np.zeros((400, 400), np.uint8)
    ids[100:] = 1
    picture = {
        opacity: np.asarray(overlay(image, ids, CLASSES, PALETTE, opacity))[:400]
        for opacity in (0.0, 1.0)
    }
    assert (picture[0.0] == np.asarray(image)).all()
    assert (picture[1.0] == np.array(PALETTE, np.uint8)[ids]).all()


def test_default_colours_can_be_told_apart_by_every_eye():
    for count, least in ((8, 15), (19, 15), (59, 8), (255, 1)):
        colours = distinct_colours(count)
        assert len(set(colours)) == count and distinct_colours(255)[:count] == colours
        seen = seen_lab(np.array(colours))
        distance = np.linalg.norm(seen[:, :, None] - seen[:, None], axis=-1)
        assert distance[:, ~np.eye(count, dtype=bool)].min() > least


def test_the_least_able_eye_cannot_tell_all_colours_apart():
    red, green = [200, 80, 40], [124, 124, 40]
    seen = seen_lab(np.array([red, green]))
    normal, protan, deutan, _ = np.linalg.norm(seen[:, 0] - seen[:, 1], axis=-1)
    assert normal > 50 and min(protan, deutan) < 25
