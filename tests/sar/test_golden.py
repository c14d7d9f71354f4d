"""The released implementation's recorded numbers, trace by trace."""

import numpy as np
import pytest
import torch
from sar_cases import GOLDEN, golden_model_config, load_trace, loss_traces, model_traces, sample

from sar import SemanticAnchorRegularizer
from sar.checkpoints import import_model_state, import_regularizer_state, load_released

TOLERANCE = 1e-4


def close(actual, expected, name):
    """Within 1e-4 of the largest recorded entry: small ones carry the rounding of the large."""
    actual = torch.as_tensor(actual).detach().double()
    expected = torch.as_tensor(np.asarray(expected)).double()
    assert actual.shape == expected.shape, name
    scale = expected.abs().max().item() if expected.numel() else 0.0
    error = (actual - expected).abs().max().item() if expected.numel() else 0.0
    assert error <= TOLERANCE * scale + 1e-8, f"{name}: off by {error:.3g}, scale {scale:.3g}"


@pytest.mark.parametrize("path", loss_traces(), ids=lambda path: path.stem)
def test_loss_trace(path):
    trace = load_trace(path)
    state0 = {k.removeprefix("state0/"): v for k, v in trace.items() if k.startswith("state0/")}
    filter_confidence, update_confidence, pull_weight, aux_weight, lr, momentum = trace["hyper"]
    k, c = state0["random_center"].shape
    regularizer = SemanticAnchorRegularizer(
        k,
        c,
        pull_weight=pull_weight,
        aux_weight=aux_weight,
        filter_confidence=filter_confidence,
        update_confidence=update_confidence,
    )
    regularizer.load_state_dict(import_regularizer_state(state0))
    classifier = torch.nn.Conv2d(c, k, 1)
    classifier.load_state_dict(
        {n: torch.as_tensor(state0[f"decode_head.conv_seg.{n}"]) for n in ("weight", "bias")}
    )
    parameters = [*regularizer.parameters(), *classifier.parameters()]
    optimizer = torch.optim.SGD(parameters, lr=lr, momentum=momentum)

    steps = sum(name.endswith("/aux_ce") for name in trace)
    assert steps
    for t in range(steps):
        step = {n.split("/", 1)[1]: v for n, v in trace.items() if n.startswith(f"step{t}/")}
        features = torch.as_tensor(step["features"]).requires_grad_()
        losses = regularizer(features, torch.as_tensor(step["labels"]), classifier)
        close(losses["loss_aux_ce"], step["aux_ce"], f"aux_ce of step {t}")
        pull = step["pull"]
        assert bool(regularizer.gate) == (not np.isnan(pull)), f"gate of step {t}"
        close(losses["loss_p2a"], np.nan_to_num(pull), f"pull of step {t}")
        optimizer.zero_grad()
        sum(losses.values()).backward()
        close(features.grad, step["grad_features"], f"grad_features of step {t}")
        close(
            classifier.weight.grad.flatten(1),
            step["grad_classifier_weight"],
            f"grad_classifier_weight of step {t}",
        )
        optimizer.step()

    state1 = {k.removeprefix("state1/"): v for k, v in trace.items() if k.startswith("state1/")}
    final = regularizer.state_dict()
    for name, value in import_regularizer_state(state1).items():
        close(final[name].float(), value.float(), name)
    for n in ("weight", "bias"):
        close(getattr(classifier, n), state1[f"decode_head.conv_seg.{n}"], f"conv_seg.{n}")


@pytest.fixture(scope="module", params=model_traces(), ids=lambda path: path.stem)
def whole_model(request):
    from mmseg.registry import MODELS

    from sar.mmseg import apply_sar

    path = request.param
    model = MODELS.build(apply_sar(golden_model_config(path.stem)))
    released = load_released(path.with_suffix(".pth"))
    model.load_state_dict(import_model_state(released), strict=True)
    return model, load_trace(path)


def test_whole_model_trace(whole_model):
    model, trace = whole_model
    model.eval()
    with torch.no_grad():
        samples = model(torch.as_tensor(trace["eval/image"]), mode="predict")
    logits = torch.stack([s.seg_logits.data for s in samples])
    close(logits[..., ::4, ::4], trace["eval/logits"], "logits")
    predictions = torch.cat([s.pred_sem_seg.data for s in samples])
    assert (predictions.numpy() == trace["eval/pred"]).mean() > 0.9999

    model.train()
    optimizer = torch.optim.SGD(model.parameters(), lr=0.01, momentum=0.9, weight_decay=5e-4)
    names = {"main.center_ce_loss": "sar.loss_aux_ce", "main.feature_loss": "sar.loss_p2a"}
    steps = sum(name.endswith("/labels") for name in trace)
    assert steps
    for t in range(steps):
        images = torch.as_tensor(trace[f"step{t}/image"])
        samples = [sample(torch.as_tensor(labels)) for labels in trace[f"step{t}/labels"]]
        losses = model(images, samples, mode="loss")
        prefix = f"step{t}/loss/"
        recorded = {n.removeprefix(prefix): v for n, v in trace.items() if n.startswith(prefix)}
        for name, value in recorded.items():
            close(losses[names.get(name, name)].mean(), np.nan_to_num(value), f"step {t}, {name}")
        if "main.feature_loss" not in recorded:
            assert losses["sar.loss_p2a"] == 0
        optimizer.zero_grad()
        model.parse_losses(losses)[0].backward()
        optimizer.step()


def test_traces_are_found():
    assert GOLDEN.is_dir() and loss_traces() and model_traces()
