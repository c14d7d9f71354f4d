"""Options of a model entry: how a training is computed, while what it learns stays the same."""

from __future__ import annotations

import json
import os
import shutil
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import torch

from pipelines.base.errors import PipelineError
from pipelines.configs.training import training_config
from pipelines.fetch.stage import fetch
from pipelines.prepare.stage import prepare
from pipelines.running.curves import read_curves
from pipelines.train import hooks
from pipelines.train import stage as train_stage
from pipelines.train.runner import QuietRunner, register
from tests.pipelines import mini

NORM = {"type": "GN", "num_groups": 4, "requires_grad": True}
ENTRY = {
    "title": "FCN, first stage of a narrow ResNet, without statistics over the batch",
    "config": "_base_/models/fcn_r50-d8.py",
    "pretrained": None,
    "model": {
        "backbone": {
            "_delete_": True,
            "type": "ResNet",
            "depth": 18,
            "stem_channels": 8,
            "base_channels": 8,
            "num_stages": 1,
            "strides": [1],
            "dilations": [1],
            "out_indices": [0],
            "norm_cfg": NORM,
        },
        "decode_head": {
            **{"in_channels": 8, "in_index": 0, "channels": 16, "dropout_ratio": 0.0},
            "norm_cfg": NORM,
        },
        "auxiliary_head": None,
    },
}


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """The study `mini` with its data."""
    folder = tmp_path_factory.mktemp("options")
    before = Path.cwd()
    os.chdir(folder)
    study = mini.study_file()
    # Anchors that move fast show whether they move once a step.
    study["methods"]["sar"]["options"] = {"update_confidence": 0.2, "momentum": 0.5}
    recipe = {"batch_size": 4, "validation_interval": None}
    mini.write_params(folder, methods=study["methods"], training=study["training"] | recipe)
    for dataset in mini.load().datasets.values():
        fetch(dataset)
        prepare(dataset)
    yield folder
    os.chdir(before)


@pytest.fixture
def trained(folder, tmp_path, monkeypatch, open_gate):
    """A function: curves and final state of SAR's run with these options of the model entry."""
    entry_file = folder / f"params/models/{mini.MODEL}.yaml"
    text = entry_file.read_text()

    def train(work: str = "work", watch=None, **options):
        entry_file.write_text(json.dumps(ENTRY | options))
        [run] = [run for run in mini.load().runs if run.method == "sar"]
        config = training_config(run, tmp_path / work)
        # mmengine shares what it logs between experiments of one name that start in one second.
        config.experiment_name = f"{tmp_path.name}/{work}"
        register(run)
        runner = QuietRunner.from_cfg(config)
        if watch is not None:
            watch(runner)
        runner.train()
        curves = pd.DataFrame.from_dict(read_curves(tmp_path / work), orient="index").sort_index()
        return curves, {name: value.clone() for name, value in runner.model.state_dict().items()}

    yield train
    entry_file.write_text(text)


@pytest.fixture
def open_gate(monkeypatch):
    """Let trainings begin with a classifier that knows the anchors: L_p2a acts at once."""
    original = hooks.ReseedHook.before_train

    def classify_anchors(self, runner):
        original(self, runner)
        if runner.iter:
            return
        with torch.no_grad():
            model = runner.model
            regularizer = model.regularizer
            embedded = regularizer.embedding(regularizer.anchors).flatten(1)
            weight = 3 * torch.linalg.pinv(embedded).T
            model.decode_head.conv_seg.weight.copy_(weight[:, :, None, None])

    monkeypatch.setattr(hooks.ReseedHook, "before_train", classify_anchors)


def test_listings_go_to_the_log_file_and_not_to_the_console(trained, tmp_path, capfd):
    groups = {"custom_keys": {"backbone": {"lr_mult": 0.5}}}
    trained(watch=lambda runner: runner.optim_wrapper.update(paramwise_cfg=groups))
    said = "".join(capfd.readouterr())
    assert "paramwise_options" not in said and "Hooks will be executed" not in said
    assert "Iter(train)" in said
    kept = "".join(path.read_text() for path in (tmp_path / "work").rglob("*.log"))
    assert "paramwise_options" in kept


def test_bf16_follows_float32(trained):
    """Within 2 % of the loss over 6 steps; the weights and the losses stay float32."""
    types = set()

    def watch(runner):
        def note(module, inputs, output):
            types.add(output.dtype)

        runner.model.backbone.conv1.register_forward_hook(note)

    plain, _ = trained()
    curves, state = trained("bf16", watch, precision="bf16")
    assert types == {torch.bfloat16}
    assert {value.dtype for value in state.values() if value.is_floating_point()} == {torch.float32}
    assert plain["sar.gate"].sum() >= 4
    for name in ("loss", "decode.loss_ce", "sar.loss_aux_ce", "sar.loss_p2a"):
        np.testing.assert_allclose(curves[name], plain[name], rtol=0.02, err_msg=name)
    assert (curves["loss"] != plain["loss"]).all()


def test_fp16_without_a_gpu_is_refused(trained, monkeypatch):
    monkeypatch.setattr("pipelines.configs.optimizer.is_cuda_available", lambda: False)
    expected = rf"params/models/{mini.MODEL}.yaml: precision: fp16 needs a GPU"
    with pytest.raises(PipelineError, match=expected):
        trained(precision="fp16")


@pytest.mark.parametrize("parts", [2, 4])
def test_parts_of_a_batch_give_the_step_of_the_whole(trained, parts):
    """Losses and weights within 1e-4 over 6 steps, the semantic anchors among them."""
    sizes = []

    def watch(runner):
        runner.model.backbone.register_forward_pre_hook(lambda m, x: sizes.append(len(x[0])))

    plain, whole = trained()
    curves, state = trained("parts", watch, accumulate=parts)
    assert sizes == [4 // parts] * (6 * parts)
    assert list(curves.index) == [1, 2, 3, 4, 5, 6]
    np.testing.assert_array_equal(curves["lr"], plain["lr"])
    assert (plain["sar.loss_p2a"] > 0).all()
    for name in ("loss", "decode.loss_ce", "sar.loss_aux_ce", "sar.loss_p2a"):
        np.testing.assert_allclose(curves[name], plain[name], rtol=1e-4, err_msg=name)
    # The embedding's own statistics are taken once a part, and used by nothing.
    learned = [name for name in whole if "running" not in name and "num_batches" not in name]
    for name in learned:
        torch.testing.assert_close(state[name], whole[name], rtol=1e-4, atol=1e-5, msg=name)


def test_a_training_in_parts_that_broke_off_ends_as_if_it_had_not(trained, monkeypatch):
    _, whole = trained("whole", accumulate=2)
    original = hooks.ReseedHook.after_train_iter

    def breaks(self, runner, *args, **kwargs):
        original(self, runner, *args, **kwargs)
        if runner.iter == 2:
            raise KeyboardInterrupt

    with monkeypatch.context() as patch, pytest.raises(KeyboardInterrupt):
        patch.setattr(hooks.ReseedHook, "after_train_iter", breaks)
        trained("broken", accumulate=2)
    _, state = trained("broken", accumulate=2)
    assert all(torch.equal(state[name], value) for name, value in whole.items())


def test_a_batch_that_cannot_be_cut_is_named(trained):
    expected = rf"mini.yaml: training.batch_size: 4 images .* 3 parts each .*{mini.MODEL}.yaml"
    with pytest.raises(PipelineError, match=expected):
        trained(accumulate=3)


@pytest.mark.slow
@pytest.mark.skipif(shutil.which("g++") is None, reason="torch.compile needs a C++ compiler")
def test_a_compiled_backbone_follows_the_plain_one_and_keeps_its_names(trained):
    """Within 1e-4 of the loss over 6 steps."""
    compiled = []

    def watch(runner):
        def note(module, inputs):
            compiled.append(module._compiled_call_impl is not None)

        runner.model.backbone.register_forward_pre_hook(note)

    plain, bare = trained()
    curves, state = trained("compiled", watch, compile=True)
    assert compiled and all(compiled)
    assert state.keys() == bare.keys()
    np.testing.assert_allclose(curves["loss"], plain["loss"], rtol=1e-4)


@pytest.mark.parametrize(
    ("key", "value", "message"),
    [
        (
            "precision",
            "fp32",
            r"precision: .*'float32', 'tf32', 'bf16', 'fp16' or 'auto' \(got 'fp32'\)",
        ),
        ("accumulate", 0, r"accumulate: .*greater than 0"),
        ("compile", "yes", r"compile: .*valid boolean"),
    ],
)
def test_a_mistake_in_an_option_is_named(trained, key, value, message):
    with pytest.raises(PipelineError, match=rf"{mini.MODEL}.yaml: {message}"):
        trained(**{key: value})


def test_options_of_training_leave_finished_evaluations_valid(trained, folder):
    def hashes(**options):
        path = folder / f"params/models/{mini.MODEL}.yaml"
        path.write_text(json.dumps(ENTRY | options))
        run = mini.load().runs[0]
        return run.parameters_hash("train"), run.parameters_hash("evaluate")

    before = hashes()
    assert hashes(precision="float32", accumulate=1, compile=False) == before
    for option in (
        {"precision": "auto"},
        {"precision": "bf16"},
        {"accumulate": 2},
        {"compile": True},
    ):
        after = hashes(**option)
        assert after[0] != before[0] and after[1] == before[1]


def test_what_one_run_compiled_the_others_of_its_study_find(folder, monkeypatch):
    (folder / f"params/models/{mini.MODEL}.yaml").write_text(json.dumps(ENTRY | {"compile": True}))
    # Set first, so that what the training sets is taken back.
    monkeypatch.setenv("TORCHINDUCTOR_CACHE_DIR", "elsewhere")

    class Stopped(Exception):
        pass

    def stop(run):
        raise Stopped

    monkeypatch.setattr("pipelines.train.runner.register", stop)
    for chosen, expected in (
        ("elsewhere", "elsewhere"),
        (None, str(folder / "work" / "mini" / "compiled")),
    ):
        if chosen is None:
            monkeypatch.delenv("TORCHINDUCTOR_CACHE_DIR")
        with pytest.raises(Stopped):
            train_stage.train(mini.load().runs[0])
        assert os.environ["TORCHINDUCTOR_CACHE_DIR"] == expected
