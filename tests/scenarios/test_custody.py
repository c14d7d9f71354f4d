"""Real runs in miniature: what was made by hand of something else is never taken for the run's."""

from __future__ import annotations

import contextlib
import json
import os
import shutil
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from pipelines.analyse.__main__ import main as analyse
from pipelines.base.artifacts import read_json
from pipelines.compare.__main__ import main as compare
from pipelines.evaluate.__main__ import main as evaluate
from pipelines.fetch.__main__ import main as fetch
from pipelines.plan import main as plan
from pipelines.prepare.__main__ import main as prepare
from pipelines.running import custody
from pipelines.running.custody import Made
from pipelines.study import Study
from pipelines.train.__main__ import main as train
from tests.pipelines import mini

BASELINE, SAR = (f"mini/{mini.MODEL}/{method}/seed0" for method in ("baseline", "sar"))
PREPARE = "run python -m pipelines.prepare --dataset mini"
STUDY, CARD = Path("params/studies/mini.yaml"), Path("params/datasets/mini.yaml")
IMAGES = ("train_0", "train_1", "test_0")


def data() -> None:
    assert fetch(["--dataset", "mini"]) == 0
    assert prepared() == 0


def prepared() -> int:
    # Worker processes of an earlier test would be in its folder.
    return prepare(["--dataset", "mini", "--jobs", "1"])


def stage(main, run: str, *more: str) -> int:
    return main(["--study", "mini", "--run", run, *more])


@pytest.fixture(scope="module")
def project(tmp_path_factory):
    """A project whose two runs are trained and evaluated on files of its own."""
    folder = tmp_path_factory.mktemp("project")
    training = {"iterations": 2, "validation_interval": None, "checkpoint_interval": 2}
    mini.write_params(folder, training=mini.study_file()["training"] | training)
    with contextlib.chdir(folder):
        splits = {
            split: {"images": f"images/{split}_*.png", "labels": f"masks/{split}_*.png"}
            for split in ("train", "test")
        }
        parts = {"own": {"kind": "folder", "path": "own"}}
        card = json.loads(CARD.read_text()) | {"classes": ["ground", "block"]}
        card |= {"palette": card["palette"][:2]}
        card["source"] = {"kind": "files", "parts": parts, "splits": splits}
        CARD.write_text(json.dumps(card, indent=2))
        rng = np.random.default_rng(0)
        for kind in ("images", "masks"):
            Path("own", kind).mkdir(parents=True)
        for name in IMAGES:
            mask = np.kron(rng.integers(0, 2, (4, 4)), np.ones((8, 8))).astype(np.uint8)
            Image.fromarray(mask).save(f"own/masks/{name}.png")
            Image.fromarray(np.stack([mask * 200] * 3, axis=2)).save(f"own/images/{name}.png")
        with pytest.MonkeyPatch.context() as patch:
            patch.setenv("MLFLOW_TRACKING_URI", f"sqlite:///{folder}/mlflow.db")
            data()
            for run in (BASELINE, SAR):
                assert (stage(train, run), stage(evaluate, run)) == (0, 0)
    return folder


@pytest.fixture
def copy(project, tmp_path, monkeypatch):
    """A copy of it as working directory."""
    shutil.copytree(project, tmp_path / "copy")
    monkeypatch.chdir(tmp_path / "copy")
    monkeypatch.setenv("MLFLOW_TRACKING_URI", f"sqlite:///{tmp_path}/mlflow.db")
    return Study.load("mini")


def correct_masks() -> None:
    for path in Path("own/masks").glob("train_*"):
        Image.fromarray(1 - np.asarray(Image.open(path))).save(path)


def changed(path: Path, old: str, new: str) -> None:
    content = path.read_text()
    assert old in content
    path.write_text(content.replace(old, new))


def test_baseline_and_method_trained_on_different_data_are_not_compared(copy, capsys):
    correct_masks()
    assert fetch(["--dataset", "mini"]) == 0
    assert stage(train, SAR) == 2
    assert "made from another data/raw/mini/receipt.json: sha256 " in capsys.readouterr().err
    assert prepared() == 0
    assert stage(evaluate, SAR) == 2
    again = f"run python -m pipelines.train --study mini --run {SAR}"
    error = capsys.readouterr().err
    assert "train/receipt.json: was made from another data/prepared/mini/receipt.json" in error
    assert again in error
    assert (stage(train, SAR), stage(evaluate, SAR)) == (0, 0)
    for main in (compare, analyse):
        assert main(["--study", "mini"]) == 2
        error = capsys.readouterr().err
        assert "runs were trained on different data, so that they cannot be compared" in error
        assert f"{BASELINE} on data/prepared/mini/receipt.json with sha256 " in error
        assert f"; {SAR} on data/prepared/mini/receipt.json with sha256 " in error
    assert not Path("results/mini/compare").exists()
    assert plan(["--study", "mini"]) == 0
    assert "2 runs: 1 done, 1 to do" in capsys.readouterr().out
    assert (stage(train, BASELINE), stage(evaluate, BASELINE)) == (0, 0)
    assert compare(["--study", "mini"]) == 0


@pytest.mark.parametrize(
    ("path", "old", "new", "said"),
    [
        (STUDY, '"lr": 0.05', '"lr": 0.01', "training.optimizer.lr was 0.05, is 0.01"),
        (STUDY, '"threads": 1', '"threads": 2', "threads was 1, is 2"),
        (CARD, '"ground"', '"floor"', f"classes.0 was ground, is floor); {PREPARE}"),
        (CARD, '"classes": [', '"ignore_index": 254, "classes": [', f"is 254); {PREPARE}"),
    ],
)
def test_weights_of_other_parameters_or_classes_are_not_evaluated(
    copy, capsys, path, old, new, said
):
    metrics = copy.run(SAR).output("evaluate", "metrics.json").read_bytes()
    changed(path, old, new)
    assert stage(evaluate, SAR) == 2
    error = capsys.readouterr().err
    assert said in error and "Traceback" not in error
    if path == STUDY:
        assert f"); run python -m pipelines.train --study mini --run {SAR}" in error
    else:
        assert stage(train, SAR) == 2
        assert said in capsys.readouterr().err
    assert copy.run(SAR).output("evaluate", "metrics.json").read_bytes() == metrics


@pytest.mark.parametrize("name", ["weights", "plugin", "diagnostics"])
def test_damaged_or_missing_weights_are_not_evaluated(copy, capsys, name):
    path = copy.run(SAR).output("train", f"{name}.safetensors")
    whole = path.read_bytes()
    damaged = bytearray(whole)
    for index in range(max(len(whole) - 4000, len(whole) // 2), len(whole)):
        damaged[index] ^= 0xFF
    times = path.stat()
    path.write_bytes(damaged)
    os.utime(path, ns=(times.st_atime_ns, times.st_mtime_ns))
    again = f"run python -m pipelines.train --study mini --run {SAR}"
    for more in ((), ("--verify",)):
        assert stage(evaluate, SAR, *more) == 2
        error = capsys.readouterr().err
        assert f"{path}: was changed or damaged: sha256 " in error and again in error
    path.unlink()
    assert stage(evaluate, SAR) == 2
    assert f"{path}: not found; {again}" in capsys.readouterr().err


def test_weights_of_another_method_are_not_evaluated(copy, capsys):
    shutil.copy2(
        *(copy.run(name).output("train", "weights.safetensors") for name in (BASELINE, SAR))
    )
    assert stage(evaluate, SAR) == 2
    assert "weights.safetensors: was changed or damaged" in capsys.readouterr().err


@pytest.mark.parametrize("kind", ["images", "labels"])
@pytest.mark.parametrize("fault", ["pixel", "emptied", "removed", "added"])
def test_prepared_data_that_were_changed_are_neither_trained_on_nor_tested(
    copy, capsys, kind, fault
):
    path = copy.datasets["mini"].prepared / kind / "train" / "train_0.png"
    if fault == "pixel":
        picture = Image.open(path)
        pixels = np.array(picture)
        pixels[0, 0] = 1 - pixels[0, 0] if kind == "labels" else 77
        new = Image.fromarray(pixels, mode=picture.mode)
        if picture.mode == "P":
            new.putpalette(picture.getpalette())
        new.save(path)
    elif fault == "emptied":
        path.write_bytes(b"")
    elif fault == "removed":
        path.unlink()
    else:
        shutil.copy(path, path.with_name("train_9.png"))
    for main in (train, evaluate):
        assert stage(main, SAR) == 2
        error = capsys.readouterr().err
        assert "data/prepared/mini/*/train: was changed or damaged: digest " in error
        assert PREPARE in error
    assert prepared() == 0
    custody.require(Made("prepare", copy.datasets["mini"]), content=True)


def test_raw_data_that_were_changed_are_not_prepared(copy, capsys):
    path = copy.datasets["mini"].raw / "masks/train_0.png"
    shutil.copyfile("own/masks/train_1.png", path)
    assert prepared() == 2
    error = capsys.readouterr().err
    assert "data/raw/mini/files: was changed or damaged" in error
    assert "run python -m pipelines.fetch --dataset mini" in error
    data()


def test_a_replay_leaves_the_same_receipt_and_says_how_it_was_made(copy):
    run = copy.run(SAR)
    before = run.output("evaluate", "receipt.json").read_bytes()
    assert stage(evaluate, SAR, "--verify") == 0
    assert run.output("evaluate", "receipt.json").read_bytes() == before
    for name in ("train", "evaluate"):
        parameters = read_json(run.output(name, "runtime.json"))["parameters"]
        assert parameters == json.loads(json.dumps(run.parameters(name, defaults=False)))


def test_two_studies_of_one_name_do_not_share_results(copy, capsys):
    Path("mine").mkdir()
    shutil.copy(STUDY, "mine/mini.yaml")
    for main in (train, evaluate):
        assert main(["--study", "mine/mini.yaml", "--run", SAR]) == 2
        error = capsys.readouterr().err
        assert "params/studies/mini.yaml, and mine/mini.yaml has the same name" in error
