"""Options of the regularizer that take a part of it away, or put another in its place."""

import inspect

import pytest
import torch
import torch.multiprocessing as mp
from sar_cases import fcn_hrnet
from test_mmseg import build

from sar import SemanticAnchorRegularizer
from sar.mmseg import apply_sar
from sar.pull import count_classes
from sar.regularizer import scaled_momentum

K, C = 4, 8
RELEASED = dict(
    anchors="gaussian",
    pull_weight=0.1,
    aux_weight=1.0,
    filter_confidence=0.9,
    update_confidence=0.8,
    momentum=0.999,
    pull_mean="pixels",
    pull_target="class",
    gated=True,
    embedded=True,
)


def regularizer(**options):
    generator = torch.Generator().manual_seed(0)
    return SemanticAnchorRegularizer(K, C, generator=generator, **options)


def wrong(e):
    """A classifier that is right about no anchor: the gate stays closed."""
    scores = torch.roll(5 * torch.eye(K), 1, 0)[:, :, None, None]
    return scores + 0 * e.sum()


def right(e):
    return 9 * torch.eye(K)[:, :, None, None] + 0 * e.sum()


def scene():
    features = torch.randn(2, C, 5, 6, requires_grad=True)
    labels = torch.randint(0, K - 1, (2, 5, 6))  # the last class is absent
    labels[:, :2] = 255
    labels[0, 3, 3] = 2
    return features, labels


def test_the_defaults_are_the_released_ones():
    parameters = inspect.signature(SemanticAnchorRegularizer).parameters
    assert {name: parameters[name].default for name in RELEASED} == RELEASED


def test_no_pull():
    features, labels = scene()
    losses = regularizer(pull_weight=0)(features, labels, right)
    losses["loss_p2a"].backward()
    assert losses["loss_p2a"] == 0 and not features.grad.any()


def test_class_balanced_pull():
    features, labels = scene()
    module = regularizer(pull_mean="classes", pull_weight=1)
    loss = module(features, labels, right)["loss_p2a"]
    (gradient,) = torch.autograd.grad(loss, features)
    f, m = features.permute(0, 2, 3, 1), module.semantic_anchors
    means = [(f[labels == k] - m[k]).square().mean() for k in range(K - 1)]
    expected = torch.stack(means).mean()
    torch.testing.assert_close(loss, expected)
    (other,) = torch.autograd.grad(expected, features)
    torch.testing.assert_close(gradient, other)


def test_balanced_classes_are_pulled_as_pixels_are():
    features = torch.randn(1, C, 4, 4)
    labels = torch.arange(K).repeat_interleave(4).reshape(1, 4, 4)
    for memory in (torch.contiguous_format, torch.channels_last):
        f = features.contiguous(memory_format=memory)
        pulls = [
            regularizer(pull_mean=mean)(f, labels, right)["loss_p2a"]
            for mean in ("pixels", "classes")
        ]
        torch.testing.assert_close(*pulls)


def test_placebo_pulls_to_one_point():
    features, labels = scene()
    module = regularizer(pull_target="common", pull_weight=1)
    loss = module(features, labels, right)["loss_p2a"]
    assert module.semantic_anchors.std(dim=0).sum() > 0, "the anchors themselves stay apart"
    point = module.semantic_anchors.mean(dim=0)
    pixels = features.permute(0, 2, 3, 1)[labels != 255]
    torch.testing.assert_close(loss, (pixels - point).square().mean())
    shuffled = torch.where(labels == 255, 255, (labels + 1) % K)
    torch.testing.assert_close(module.eval()(features, shuffled, right)["loss_p2a"], loss)


def test_gate_off():
    features, labels = scene()
    closed, off = regularizer(), regularizer(gated=False)
    assert closed(features, labels, wrong)["loss_p2a"] == 0 and not closed.initialized
    assert off(features, labels, wrong)["loss_p2a"] > 0 and off.initialized and off.gate


@pytest.mark.parametrize("embedded", [True, False])
def test_fixed_anchors(embedded):
    """Embedded once and never moved; or the raw random anchors."""
    features, labels = scene()
    module = regularizer(aux_weight=0, gated=False, momentum=1, embedded=embedded)
    assert (module.embedding is None) == (not embedded)
    assert module(features, labels, wrong)["loss_aux_ce"] == 0
    first = module.semantic_anchors.clone()
    if embedded:
        with torch.no_grad():
            module.embedding.norm3.bias += 1
    else:
        assert torch.equal(first, module.anchors)
    assert module(features, labels, wrong)["loss_p2a"] > 0
    assert torch.equal(module.semantic_anchors, first)


def test_learned_anchors():
    module, same = regularizer(anchors="learned"), regularizer()
    assert isinstance(module.anchors, torch.nn.Parameter)
    assert torch.equal(module.anchors, same.anchors)
    assert set(module.state_dict()) == set(same.state_dict())
    classifier = torch.nn.Conv2d(C, K, 1)
    features, labels = scene()
    module(features, labels, classifier)["loss_aux_ce"].backward()
    assert module.anchors.grad.abs().sum() > 0 and features.grad is None


@pytest.mark.parametrize("anchors", ["orthonormal", "simplex", "learned"])
def test_anchors_in_a_model(anchors, batch):
    model = build(apply_sar(fcn_hrnet(), anchors=anchors, gated=False, pull_mean="classes"))
    model.parse_losses(model(*batch, mode="loss"))[0].backward()
    if anchors == "learned":
        assert model.regularizer.anchors.grad.abs().sum() > 0


@pytest.mark.parametrize(
    ("options", "word"),
    [
        (dict(pull_mean="images"), "pull_mean='images': expected 'pixels' or 'classes'"),
        (dict(pull_target="none"), "pull_target='none'"),
        (dict(gated=1), "gated=1: expected True or False"),
        (dict(embedded="no"), "embedded='no'"),
        (dict(momentum="auto"), "momentum='auto'"),
        (dict(anchors="random"), "anchors='random'"),
    ],
)
def test_wrong_options(options, word):
    with pytest.raises(ValueError, match=word):
        regularizer(**options)


@pytest.mark.parametrize(
    ("iterations", "momentum"), [(80_000, 0.999), (1_500, 0.948), (1_000, 0.923), (1, 0)]
)
def test_momentum_for_any_budget(iterations, momentum):
    assert scaled_momentum(iterations) == pytest.approx(momentum, abs=5e-4)
    # What is left of the first value after a training is the same whatever its length.
    assert scaled_momentum(iterations) ** iterations == pytest.approx(0.999**80_000, rel=1e-6)


def test_momentum_auto_in_a_config():
    applied = apply_sar(fcn_hrnet(), momentum="auto", iterations=1500)
    assert applied == apply_sar(fcn_hrnet(), momentum=scaled_momentum(1500))
    assert build(applied).regularizer.momentum == scaled_momentum(1500)
    assert apply_sar(fcn_hrnet(), iterations=1500) == apply_sar(fcn_hrnet())
    for iterations in (None, 0, 1.5, True):
        with pytest.raises(ValueError, match="momentum='auto' with iterations="):
            apply_sar(fcn_hrnet(), momentum="auto", iterations=iterations)


def test_count_classes():
    labels = torch.tensor([[[0, 1, 1, 255]]], dtype=torch.uint8)
    assert count_classes(labels, 3, 255).tolist() == [1, 2, 0]
    assert count_classes(labels[..., :3], 2, None).tolist() == [1, 2]


def one_process(rank, folder):
    import torch.distributed as dist

    torch.set_num_threads(1)
    dist.init_process_group("gloo", init_method=f"file://{folder}/meet", rank=rank, world_size=2)
    torch.manual_seed(0)
    features, labels = scene()
    part = slice(rank, rank + 1)
    module = regularizer(pull_mean="classes")
    loss = module(features[part], labels[part], right)["loss_p2a"].detach()
    dist.all_reduce(loss)
    torch.save(loss / 2, f"{folder}/{rank}.pt")
    dist.destroy_process_group()


def test_two_processes_balance_the_classes_of_the_whole_batch(tmp_path):
    mp.spawn(one_process, (str(tmp_path),), nprocs=2)
    torch.manual_seed(0)
    expected = regularizer(pull_mean="classes")(*scene(), right)["loss_p2a"]
    for rank in range(2):
        torch.testing.assert_close(torch.load(tmp_path / f"{rank}.pt"), expected.detach())
