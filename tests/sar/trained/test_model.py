"""A trained model as a module: read from whatever holds it, the same labels as mmsegmentation's."""

import subprocess
import sys

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from mmengine.config import Config
from PIL import Image
from safetensors.torch import save_file
from sar_cases import CLASSES, NORMAL, tiny_bundle

import sar
from sar.errors import SarError
from sar.trained.bundle import write_bundle
from sar.trained.model import TrainedModel

RESIZE = {"type": "Resize", "scale": (96, 64), "keep_ratio": False}


def image(height=40, width=56):
    coarse = np.random.default_rng(0).integers(0, 255, (6, 6, 3)).astype(np.uint8)
    return Image.fromarray(coarse).resize((width, height))


@pytest.fixture
def run(tmp_path, bundle):
    """A run's folder as a training leaves it, its images resized."""
    folder = tmp_path / "run/train"
    folder.mkdir(parents=True)
    save_file(bundle.weights, folder / "weights.safetensors")
    pipeline = [{"type": "LoadImageFromFile"}, RESIZE, {"type": "PackSegInputs"}]
    metainfo = {"classes": CLASSES, "palette": [[k, k, k] for k in range(5)]}
    dataset = {"type": "BaseSegDataset", "metainfo": metainfo, "pipeline": pipeline}
    Config({"model": bundle.model, "test_dataloader": {"dataset": dataset}}).dump(
        folder / "config.py"
    )
    return folder


def test_a_folder_of_a_training_is_a_model_that_is_ready(run, bundle):
    model = sar.load(run)
    assert isinstance(model, torch.nn.Module) and not model.training
    assert model.classes == CLASSES and model.palette == [[k, k, k] for k in range(5)]
    assert model.image_steps == [RESIZE] and model.channels == "RGB" and not model.sliding
    assert model.mean == NORMAL["mean"] and model.std == NORMAL["std"]
    assert model.source["file"] == "weights.safetensors"
    prepared = model.preprocess(image())
    assert prepared.shape == (1, 3, 64, 96) and prepared.dtype == torch.float32
    with torch.no_grad():
        scores = model(prepared)
    assert scores.shape == (1, 5, 64, 96)
    ids = model.predict(image())
    assert ids.shape == (40, 56) and ids.dtype == np.uint8 and len(np.unique(ids)) > 1
    assert (F.interpolate(scores, (40, 56), mode="bilinear").argmax(1)[0].numpy() == ids).all()
    assert (ids != TrainedModel(bundle).predict(image())).any()


def test_weights_bundles_and_folders_hold_the_same_model(run, tmp_path, bundle):
    write_bundle(bundle, tmp_path / "model.safetensors")
    from_bundle = sar.load(str(tmp_path / "model.safetensors"))
    assert from_bundle.image_steps == []
    for path in (run, run / "weights.safetensors"):
        state = sar.load(path).segmentor.state_dict()
        assert all(torch.equal(x, state[k]) for k, x in from_bundle.segmentor.state_dict().items())


@pytest.mark.parametrize(
    "change",
    [
        {},
        {"data_preprocessor": NORMAL | {"bgr_to_rgb": False}},
        {"data_preprocessor": {"type": "SegDataPreProcessor"}},
        {"data_preprocessor": NORMAL | {"test_cfg": {"size_divisor": 32}, "pad_val": 7}},
        {"data_preprocessor": NORMAL | {"test_cfg": {"size": (64, 80)}}},
        {"test_cfg": {"mode": "slide", "crop_size": (32, 32), "stride": (20, 24)}},
    ],
    ids=["RGB", "BGR", "as they are", "padded to a divisor", "padded to a size", "windows"],
)
def test_the_scores_are_those_of_mmsegmentations_own_inference(bundle, change):
    model = TrainedModel(tiny_bundle(bundle.model | change))
    assert model.sliding == ("test_cfg" in change)
    with torch.no_grad():
        scores = model(model.preprocess(image()))
        batch = model(torch.cat([model.preprocess(image())] * 2))
    assert scores.shape == (1, 5, 40, 56)
    packed = model._packed(image())
    theirs = model.segmentor.test_step({name: [value] for name, value in packed.items()})[0]
    torch.testing.assert_close(scores[0], theirs.seg_logits.data, atol=1e-4, rtol=1e-4)
    assert (scores.argmax(1)[0].numpy() == model.predict(image())).all()
    torch.testing.assert_close(batch, scores.expand(2, -1, -1, -1), atol=1e-3, rtol=0)


def test_images_of_another_shape_are_refused(bundle):
    model = TrainedModel(bundle)
    for shape in ((3, 8, 8), (1, 1, 8, 8), (1, 8, 8, 3)):
        with pytest.raises(ValueError, match=r"expected \(N, 3, H, W\)"):
            model(torch.zeros(shape))


def test_what_holds_no_model_is_named(run, tmp_path):
    with pytest.raises(SarError, match=r"nothing: no such file or folder"):
        sar.load(tmp_path / "nothing")
    with pytest.raises(SarError, match=r"run: no weights.safetensors .* it is in .*run/train"):
        sar.load(run.parent)
    with pytest.raises(SarError, match=rf"{tmp_path}: no weights.safetensors in this folder"):
        sar.load(tmp_path)


def test_without_mmsegmentation_it_says_which_extra_brings_it(run):
    program = (
        "import sys; sys.modules.update(dict.fromkeys(['mmseg', 'mmcv', 'mmengine']))\n"
        "import importlib.util as u; find = u.find_spec\n"
        "import sar.extras\n"
        "sar.extras.find_spec = lambda name: None if name in sys.modules else find(name)\n"
        f"import sar\ntry:\n    sar.load({str(run)!r})\nexcept ValueError as error:\n"
        "    print(error)"
    )
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True)
    assert "not installed; expected: pip install 'semantic-anchors[mmseg]'" in done.stdout
