import copy
import math
import pickle
import subprocess
import sys
from pathlib import Path

import pytest
import torch
import torch.nn.functional as F

from sar import SemanticAnchorRegularizer, pull

K, C = 4, 8
ROOT = Path(__file__).parents[2]


def make(**options):
    options.setdefault("generator", torch.Generator().manual_seed(0))
    return SemanticAnchorRegularizer(K, C, **options)


def batch(dtype=torch.float32):
    generator = torch.Generator().manual_seed(1)
    features = torch.randn(2, C, 6, 5, generator=generator).to(dtype)
    labels = torch.randint(0, K, (2, 12, 10), generator=generator)
    labels[0, :3] = 255
    return features, labels


def sure(embedded):
    """A classifier that is sure and right about every anchor."""
    return 50 * torch.eye(K)[:, :, None, None] + 0 * embedded.sum()


def scores(confidences):
    """A classifier that gives anchor k the probability ``confidences[k]`` of its own class."""
    p = torch.tensor(confidences)
    logits = torch.log((1 - p) / (K - 1))[:, None].repeat(1, K)
    logits[range(K), range(K)] = torch.log(p)
    return lambda embedded: logits[:, :, None, None] + 0 * embedded.sum()


def test_auxiliary_cross_entropy_follows_the_formula():
    p = torch.tensor([0.5, 0.7, 0.95, 0.3], dtype=torch.float64)
    log_p = torch.where(p > 0.9, 0.0, p.log())
    expected = (log_p / (log_p.sum() + 1e-9) * -p.log()).sum()
    module = make(aux_weight=2.0)
    loss = module(*batch(), scores([0.5, 0.7, 0.95, 0.3]))["loss_aux_ce"]
    torch.testing.assert_close(loss.item(), 2 * expected.item())
    torch.testing.assert_close(module.confidence.double(), p, atol=1e-6, rtol=0)


def test_images_as_a_whole_are_maps_of_one_pixel():
    generator = torch.Generator().manual_seed(3)
    features = torch.randn(6, C, generator=generator)
    labels = torch.tensor([0, 3, 1, 255, 2, 0])
    linear = torch.nn.Linear(C, K, bias=False)
    results = []
    for whole in (True, False):
        module = make(gated=False)
        f = features.clone().requires_grad_()
        linear.zero_grad()
        if whole:
            losses = module(f, labels, linear)
        else:
            losses = module(
                f[:, :, None, None],
                labels[:, None, None],
                lambda e: F.conv2d(e, linear.weight[:, :, None, None]),
            )
        sum(losses.values()).backward()
        of_classifier = linear.weight.grad.clone()
        results.append((*losses.values(), f.grad, of_classifier, module.semantic_anchors))
    for found, expected in zip(*results, strict=True):
        torch.testing.assert_close(found, expected)
    _, pull, gradient, of_classifier, anchors = results[0]
    known = labels != 255
    expected = (features[known] - anchors[labels[known]]).square().mean()
    torch.testing.assert_close(pull, 0.1 * expected)
    assert gradient.shape == (6, C) and gradient[3].abs().max() == 0 < gradient[0].abs().max()
    assert of_classifier.abs().max() > 0


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda f, x: (f, x[:5]), r"labels of shape \(5,\), expected \(6,\)"),
        (lambda f, x: (f, x[:, None]), r"labels of shape \(6, 1\), expected \(6,\)"),
        (lambda f, x: (f[:, 1:], x), r"expected \(N, 8, h, w\) or \(N, 8\)"),
        (lambda f, x: (f, x + 4), r"labels hold \[4\]"),
        (lambda f, x: (f, x.float()), "expected integers"),
    ],
)
def test_bad_images_as_a_whole(change, message):
    features, labels = torch.zeros(6, C), torch.zeros(6, dtype=torch.long)
    with pytest.raises(ValueError, match=message):
        make()(*change(features, labels), torch.nn.Linear(C, K))


def test_the_weights_carry_gradient():
    logits = torch.randn(K, K, dtype=torch.float64, requires_grad=True)
    loss = make()(*batch(), lambda e: logits[:, :, None, None])["loss_aux_ce"]
    (gradient,) = torch.autograd.grad(loss, logits)
    c = -F.log_softmax(logits, 1).diagonal()
    (expected,) = torch.autograd.grad((c.square() / c.sum()).sum(), logits)
    torch.testing.assert_close(gradient, expected, atol=1e-6, rtol=1e-6)


def test_confident_anchors_cost_nothing_and_the_pull_goes_on():
    module = make()
    features, labels = batch()
    features.requires_grad_()
    losses = module(features, labels, sure)
    sum(losses.values()).backward()
    assert losses["loss_aux_ce"] == 0 and losses["loss_p2a"] > 0
    assert all(
        torch.isfinite(p.grad).all() and p.grad.abs().max() == 0 for p in module.parameters()
    )
    assert features.grad.abs().max() > 0


@pytest.mark.parametrize("confidences", [[0.81] * 4, [0.95] * 3 + [0.79], [0.95] * 3 + [0.1]])
def test_gate(confidences):
    module = make()
    features, labels = batch()
    features.requires_grad_()
    losses = module(features, labels, scores(confidences))
    opened = min(confidences) > 0.8
    assert bool(module.gate) == opened == bool(module.initialized)
    assert (losses["loss_p2a"] > 0) == opened
    sum(losses.values()).backward()
    assert (features.grad.abs().max() > 0) == opened
    assert (module.semantic_anchors.abs().max() > 0) == opened


def test_gate_needs_the_right_class_even_at_low_thresholds():
    module = make(update_confidence=0.2)
    logits = torch.zeros(K, K)
    logits[range(K), range(K)] = 1.0
    logits[2, 1] = 1.1  # anchor 2 keeps p > 0.2, and class 1 wins
    module(*batch(), lambda e: logits[:, :, None, None])
    assert module.confidence[2] > 0.2 and not module.gate


def test_semantic_anchors_are_a_copy_first_and_an_average_later():
    module = make(momentum=0.9)
    seen = []

    def classifier(embedded):
        seen.append(embedded.detach().flatten(1).clone())
        return sure(embedded)

    module(*batch(), classifier)
    assert torch.equal(module.semantic_anchors, seen[0])
    with torch.no_grad():
        for p in module.embedding.parameters():
            p.add_(0.1 * torch.randn_like(p))
    module(*batch(), classifier)
    torch.testing.assert_close(module.semantic_anchors, 0.9 * seen[0] + 0.1 * seen[1])
    assert not module.semantic_anchors.requires_grad


def test_semantic_anchors_move_once_for_all_parts_of_a_batch():
    module = make(momentum=0.5)
    module(*batch(), sure)
    with torch.no_grad():
        for p in module.embedding.parameters():
            p.add_(0.1 * torch.randn_like(p))
    module(*batch(), sure)
    moved = module.semantic_anchors.clone()
    module.follows = False
    features, labels = batch()
    losses = module(features, labels, sure)
    assert torch.equal(module.semantic_anchors, moved)
    valid = labels[:, ::2, ::2] != 255
    residual = features - moved[labels[:, ::2, ::2].clamp(max=K - 1)].permute(0, 3, 1, 2)
    expected = residual.square().mean(dim=1)[valid].mean()
    torch.testing.assert_close(losses["loss_p2a"], 0.1 * expected)


def test_pull_is_the_mean_over_channels_and_valid_pixels():
    module = make(pull_weight=0.3)
    features, labels = batch()
    loss = module(features, labels, sure)["loss_p2a"]
    small = F.interpolate(labels[:, None].float(), size=(6, 5), mode="nearest")[:, 0].long()
    valid = small != 255
    target = module.semantic_anchors[small[valid]]
    expected = 0.3 * (features.permute(0, 2, 3, 1)[valid] - target).square().mean()
    torch.testing.assert_close(loss, expected)


def test_pull_does_not_reach_the_anchors_nor_the_auxiliary_loss_the_features():
    module = make()
    features, labels = batch()
    features.requires_grad_()
    classifier = torch.nn.Conv2d(C, K, 1)
    losses = module(features, labels, classifier)
    assert not torch.autograd.grad(
        losses["loss_aux_ce"], features, allow_unused=True, retain_graph=True
    )[0]
    parameters = [*module.parameters(), *classifier.parameters()]
    gradients = torch.autograd.grad(losses["loss_p2a"], parameters, allow_unused=True)
    assert all(gradient is None for gradient in gradients)


def test_forward_makes_the_gradient_that_a_training_asks_for(monkeypatch):
    """Of the mean of each loss, and their sum, as mmengine takes them; twice it is made anew."""
    module = make(momentum=1.0)
    features, labels = batch()
    features.requires_grad_()
    (2 * module(features, labels, sure)["loss_p2a"]).backward()
    twice, features.grad = features.grad, None
    losses = module(features, labels, sure)

    def made_anew(*_):
        raise AssertionError("backward reads the features")

    monkeypatch.setattr(pull, "_residuals", made_anew)
    sum(value.mean() for value in losses.values()).backward()
    assert torch.equal(2 * features.grad, twice) and twice.any()


def test_the_lag_is_that_of_the_forward_though_the_anchors_moved_since():
    module = make(anchors="learned", embedded=False, gated=False)
    module(*batch(), sure)
    module(*batch(), sure)
    before = module.lag
    with torch.no_grad():
        module.anchors.add_(1.0)
    assert torch.equal(module.lag, before)


def test_two_forwards_before_one_backward():
    module = make(momentum=0.5)
    features, labels = batch()
    features.requires_grad_()
    first = module(features, labels, sure)["loss_p2a"]
    anchors = module.semantic_anchors.clone()
    with torch.no_grad():
        module.embedding.linear1.weight.mul_(3)
    module(features, labels, sure)
    first.backward()
    small = labels[:, ::2, ::2]
    valid = small != 255
    residual = features.detach().permute(0, 2, 3, 1)[valid] - anchors[small[valid]]
    gradient = features.grad.permute(0, 2, 3, 1)[valid]
    torch.testing.assert_close(gradient, 0.1 * 2 * residual / residual.numel())


def test_eval_mode_changes_nothing():
    module = make()
    module(*batch(), sure)
    module.eval()
    before = copy.deepcopy(module.state_dict())
    losses = module(*batch(), sure)
    assert losses["loss_p2a"] > 0
    assert all(torch.equal(before[k], v) for k, v in module.state_dict().items())
    assert make().eval()(*batch(), sure)["loss_p2a"] == 0, "there are no semantic anchors yet"


def test_all_void():
    module = make()
    features, labels = batch()
    features.requires_grad_()
    losses = module(features, torch.full_like(labels, 255), sure)
    sum(losses.values()).backward()
    assert losses["loss_p2a"] == 0 and features.grad.abs().max() == 0


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
def test_autocast_computes_in_float32(dtype):
    features, labels = batch(dtype)
    classifier = torch.nn.Conv2d(C, K, 1)
    plain, cast = make(update_confidence=0.01), make(update_confidence=0.01)
    x, y = features.float().requires_grad_(), features.clone().requires_grad_()
    expected = plain(x, labels, classifier)
    with torch.autocast("cpu", dtype=dtype):
        losses = cast(y, labels, classifier)
    for name, value in losses.items():
        assert value.dtype == torch.float32
        torch.testing.assert_close(value, expected[name])
    sum(expected.values()).backward()
    sum(losses.values()).backward()
    assert y.grad.dtype == dtype
    torch.testing.assert_close(y.grad, x.grad.to(dtype))


def test_double():
    module = make().double()
    features, labels = batch(torch.float64)
    assert module(features, labels, sure)["loss_p2a"].dtype == torch.float64


def test_state():
    names = set(make().state_dict())
    assert {"anchors", "semantic_anchors", "initialized"} <= names
    assert not any("confidence" in name or "gate" in name for name in names)
    source, target = make(), make(generator=torch.Generator().manual_seed(9))
    source(*batch(), sure)
    target.load_state_dict(source.state_dict())
    for module in (target, copy.deepcopy(source), pickle.loads(pickle.dumps(source))):
        expected = copy.deepcopy(source)(*batch(), sure)["loss_p2a"]
        assert torch.equal(module(*batch(), sure)["loss_p2a"], expected)


def test_generator_owns_every_draw():
    before = torch.get_rng_state()
    first, again = make(), make()
    assert torch.equal(torch.get_rng_state(), before)
    for name, value in first.state_dict().items():
        assert torch.equal(value, again.state_dict()[name]), name
    torch.manual_seed(5)
    third = SemanticAnchorRegularizer(K, C)
    torch.manual_seed(5)
    fourth = SemanticAnchorRegularizer(K, C)
    assert torch.equal(third.embedding.conv.weight, fourth.embedding.conv.weight)
    assert torch.equal(third.anchors, fourth.anchors)
    assert not torch.equal(third.anchors, first.anchors)


def test_initial_weights_are_those_of_the_layers():
    module = SemanticAnchorRegularizer(3, 400, generator=torch.Generator().manual_seed(0))
    bound = 1 / math.sqrt(400)
    for linear in (module.embedding.linear1, module.embedding.linear2):
        for values in (linear.weight, linear.bias):
            assert 0.95 * bound < values.abs().max() <= bound
    assert abs(module.embedding.conv.weight.std() - math.sqrt(2 / 400)) < 1e-3
    assert module.embedding.conv.bias is None


def test_batch_norm_survives_conversion_to_sync():
    module = torch.nn.SyncBatchNorm.convert_sync_batchnorm(make())
    assert not any(isinstance(m, torch.nn.SyncBatchNorm) for m in module.modules())
    module(*batch(), sure)
    assert module.embedding.norm1.num_batches_tracked == 1


@pytest.mark.parametrize(
    ("options", "word"),
    [
        (dict(pull_weight=-1), "pull_weight"),
        (dict(aux_weight=float("nan")), "aux_weight"),
        (dict(aux_weight="1"), "aux_weight"),
        (dict(filter_confidence=0), "filter_confidence"),
        (dict(filter_confidence=1.5), "filter_confidence"),
        (dict(update_confidence=-0.1), "update_confidence"),
        (dict(momentum=1.1), "momentum"),
        (dict(ignore_index=2.5), "ignore_index"),
        (dict(anchors="flat"), "flat"),
        (dict(generator=3), "generator"),
    ],
)
def test_constructor_refusals(options, word):
    with pytest.raises(ValueError, match=word):
        make(**options)


@pytest.mark.parametrize(("k", "c", "word"), [(1, 8, "num_classes=1"), (4, 0, "channels=0")])
def test_size_refusals(k, c, word):
    with pytest.raises(ValueError, match=word):
        SemanticAnchorRegularizer(k, c)


@pytest.mark.parametrize(
    ("change", "word"),
    [
        (lambda f, x: (f[:, 1:], x), "features of shape"),
        (lambda f, x: (f[0], x), "features of shape"),
        (lambda f, x: (f.long(), x), "floating point"),
        (lambda f, x: (f.to(torch.complex64), x), "complex64, expected floating point"),
        (lambda f, x: (f.to(torch.float8_e5m2), x), "float8_e5m2, expected floating point"),
        (lambda f, x: (f, x[:, :0]), "have no pixel"),
        (lambda f, x: (f, x[:1]), "batch size"),
        (lambda f, x: (f, x[:, None]), "labels of shape"),
        (lambda f, x: (f, x.float()), "integers"),
        (lambda f, x: (f, x == 1), "integers"),
        (lambda f, x: (f, torch.full_like(x, K)), rf"\[{K}\]"),
        (lambda f, x: (f, torch.full_like(x, -1)), r"\[-1\]"),
    ],
)
def test_forward_refusals(change, word):
    with pytest.raises(ValueError, match=word):
        make()(*change(*batch()), sure)


@pytest.mark.parametrize("value", [float("nan"), float("inf")])
@pytest.mark.parametrize("pull_mean", ["pixels", "classes"])
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64, torch.float16, torch.bfloat16])
def test_broken_void_changes_nothing(dtype, pull_mean, value):
    def step(features):
        x, module = features.clone().requires_grad_(), make(pull_mean=pull_mean)
        losses = module(x, labels, sure)
        sum(losses.values()).backward()
        assert module.gate
        return [*losses.values(), x.grad, *module.state_dict().values()]

    features, labels = batch(dtype)
    features[0, :, 0] = 3.0  # Rows 0 to 2 of the labels, and so row 0 of the features, are void.
    broken = features.clone()
    broken[0, :, 0] = value
    assert all(map(torch.equal, step(features), step(broken)))


@pytest.mark.parametrize(
    ("options", "classifier"),
    [
        ({}, scores([0.5] * K)),
        ({"pull_weight": 0}, sure),
        ({"gated": False, "pull_weight": 0}, sure),
    ],
)
@pytest.mark.parametrize("value", [float("nan"), float("inf"), 1e30])
def test_without_a_pull_nothing_of_the_features_arrives(options, classifier, value):
    module = make(**options)
    features, labels = batch()
    x = torch.full_like(features, value).requires_grad_()
    losses = module(x, labels, classifier)
    sum(losses.values()).backward()
    assert losses["loss_p2a"] == 0 and losses["loss_aux_ce"].isfinite()
    assert x.grad is not None and not x.grad.any()
    parameters = [p.grad for p in module.parameters()]
    assert all(gradient.isfinite().all() for gradient in parameters)
    assert all(state.isfinite().all() for state in module.state_dict().values())


@pytest.mark.parametrize("size", [(0, C, 6, 5), (2, C, 0, 5)])
@pytest.mark.parametrize("options", [{}, {"pull_mean": "classes"}, {"pull_target": "common"}])
def test_an_empty_batch_pulls_nothing(size, options):
    module, full = make(**options), make(**options)
    x = torch.zeros(size, requires_grad=True)
    losses = module(x, torch.zeros(size[0], 12, 10, dtype=torch.uint8), sure)
    sum(losses.values()).backward()
    assert losses["loss_p2a"] == 0 and x.grad.shape == size
    # The anchors are learned all the same.
    full(*batch(), sure)
    assert all(
        torch.equal(a, b)
        for a, b in zip(module.state_dict().values(), full.state_dict().values(), strict=True)
    )


@pytest.mark.parametrize("dtype", [torch.uint8, torch.int8, torch.int16, torch.uint16, torch.int32])
def test_labels_of_any_integer_type(dtype):
    features, labels = batch()
    labels = torch.where(labels == 255, 100, labels)
    expected = make(ignore_index=100)(features, labels, sure)["loss_p2a"]
    assert make(ignore_index=100)(features, labels.to(dtype), sure)["loss_p2a"] == expected


def test_classifier_of_wrong_shape():
    with pytest.raises(ValueError, match="classifier returned shape"):
        make()(*batch(), lambda e: e)


def test_labels_without_void():
    features, labels = batch()
    with pytest.raises(ValueError, match="255"):
        make(ignore_index=None)(features, labels, sure)
    make(ignore_index=None)(features, labels % K, sure)
    module = make(ignore_index=-1)
    module(features, torch.where(labels == 255, -1, labels), sure)
    with pytest.raises(ValueError, match="255"):
        module(features, labels.to(torch.uint8), sure)


def test_import_needs_torch_only():
    code = (
        "import sys, sar\n"
        "bad = {'mmseg', 'mmengine', 'mmcv', 'snakemake', 'dvc', 'mlflow', 'pipelines'}\n"
        "assert not bad & {name.split('.')[0] for name in sys.modules}\n"
        "assert sar.__version__ and sar.SemanticAnchorRegularizer\n"
    )
    subprocess.run([sys.executable, "-c", code], check=True, cwd=ROOT)


@pytest.mark.gpu
@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA device")
def test_cuda_agrees_and_never_waits():
    features, labels = batch()
    cpu, gpu = make(), make().cuda()
    classifier = torch.nn.Conv2d(C, K, 1)
    cpu.update_confidence = gpu.update_confidence = 0.01
    expected = cpu(features, labels, classifier)
    features, labels, classifier = features.cuda(), labels.cuda(), classifier.cuda()
    torch.cuda.set_sync_debug_mode("error")
    try:
        losses = gpu(features, labels, classifier)
    finally:
        torch.cuda.set_sync_debug_mode("default")
    for name, value in losses.items():
        torch.testing.assert_close(value.cpu(), expected[name], rtol=1e-4, atol=1e-5)


def test_diagnostics_tell_how_the_anchors_stand():
    module = make(momentum=0.5)
    assert module.diagnostics() == {} and module.logged() == {}
    module(*batch(), scores([0.5, 0.7, 0.95, 0.3]))
    closed = module.diagnostics()
    assert closed["gate"].tolist() == [0]
    assert closed["lag"].isnan().all() and not closed["norm"].any()
    module(*batch(), sure)
    copied = module.diagnostics()
    assert copied["gate"].tolist() == [1]
    assert not copied["lag"].any()
    before = module.semantic_anchors.clone()
    with torch.no_grad():
        for parameter in module.embedding.parameters():
            parameter.mul_(1.5)
    module(*batch(), sure)
    moved = (module.semantic_anchors - before).square().mean(1).sqrt()
    followed = module.diagnostics()
    assert (moved > 0).all()
    torch.testing.assert_close(followed["lag"], moved)  # (1 - 0.5) / 0.5 times
    torch.testing.assert_close(followed["norm"], module.semantic_anchors.square().mean(1).sqrt())
    assert not any(tensor.requires_grad for tensor in followed.values())
    assert followed["confidence"].shape == (K,)
