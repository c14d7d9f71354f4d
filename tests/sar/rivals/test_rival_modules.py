"""The rivals without a model: what their formulas say, on tensors of a few pixels."""

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from sar_cases import GOLDEN, load_trace

from sar.rivals.car import CAR
from sar.rivals.ceco import CeCo
from sar.rivals.center_loss import CenterLoss
from sar.rivals.class_balanced import ClassBalancedCrossEntropy
from sar.rivals.class_means import pixel_labels
from sar.rivals.contrast import PixelContrast
from sar.rivals.contrast_terms import contrast_loss, memory_contrast, sample_anchors
from sar.rivals.logit_adjustment import LogitAdjustment
from sar.rivals.prototypes import FeaturePrototypes
from sar.rivals.seesaw import SeesawLoss

K, C = 4, 6
SHARE = [0.6, 0.3, 0.09, 0.01]
INSIDE = {
    "logit adjustment": lambda: LogitAdjustment(K, class_share=SHARE),
    "class-balanced": lambda: ClassBalancedCrossEntropy(K, image_count=[90, 50, 9, 0]),
    "seesaw": lambda: SeesawLoss(K),
}
BESIDE = {
    "center loss": lambda: CenterLoss(K, C),
    "prototypes": lambda: FeaturePrototypes(K, C),
    "CAR": lambda: CAR(K, C),
    "CeCo": lambda: CeCo(K, C, class_share=SHARE, dim=8),
    "contrast": lambda: PixelContrast(K, C, max_views=3, max_samples=24),
    "memory": lambda: PixelContrast(K, C, max_views=3, memory=True, memory_size=10),
}


def scene(n=2, void=True):
    features, logits = torch.randn(n, C, 5, 6), torch.randn(n, K, 5, 6)
    labels = torch.randint(0, K - 1, (n, 10, 12))  # the last class is absent
    if void:
        labels[:, :4] = 255
    return features.requires_grad_(), logits.requires_grad_(), labels


def run(module, features, logits, labels):
    needs_logits = isinstance(module, PixelContrast)
    return module(features, logits, labels) if needs_logits else module(features, labels)


@pytest.mark.parametrize("name", BESIDE)
@pytest.mark.parametrize("kind", ["some void", "all void", "one image", "one pixel", "half"])
def test_losses_are_finite(name, kind):
    features, logits, labels = scene(1 if kind == "one image" else 2)
    if kind == "all void":
        labels[:] = 255
    if kind == "one pixel":
        features, logits, labels = features[:1, :, :1, :1], logits[:1, :, :1, :1], labels[:1, 4:5]
        labels = labels[:, :, :1]
    if kind == "half":
        features, logits = features.bfloat16(), logits.bfloat16()
    module = BESIDE[name]()
    for _ in range(2):
        losses = run(module, features, logits, labels)
        total = sum(losses.values())
        assert total.isfinite() and total.ndim == 0 and total.dtype == torch.float32
    if kind == "all void" and name != "CAR":
        assert total == 0
    total.backward()
    assert all(p.grad.isfinite().all() for p in module.parameters())
    assert all(value.isfinite().all() for value in module.state_dict().values())


def step(name, module, features, logits, labels):
    """After a step: the losses, the gradient of the input, and all else that it decides."""
    if name in INSIDE:
        losses, x = [module(logits, labels)], logits
    else:
        losses, x = [*run(module, features, logits, labels).values()], features
    sum(losses).backward()
    return losses, x.grad, [*(p.grad for p in module.parameters()), *module.state_dict().values()]


@pytest.mark.parametrize("value", [float("nan"), float("inf"), -float("inf")])
@pytest.mark.parametrize("name", BESIDE | INSIDE)
def test_broken_void_counts_as_zeros(name, value):
    """Where void counts at all; it has no gradient then, which zeros may have."""
    found = []
    for filled in (0.0, value):
        torch.manual_seed(0)
        module = (BESIDE | INSIDE)[name]()
        features, logits, labels = scene()
        if name in INSIDE:
            labels = labels[:, ::2, ::2]
        with torch.no_grad():
            features[:, :, :2] = filled
            logits[:, :, :2] = filled
        found.append(step(name, module, features, logits, labels))
    zeros, broken = found
    assert all(each.isfinite().all() for each in [*broken[0], *broken[2]])
    assert all(map(torch.equal, zeros[0] + zeros[2], broken[0] + broken[2]))
    assert torch.equal(zeros[1][:, :, 2:], broken[1][:, :, 2:]) and not broken[1][:, :, :2].any()


@pytest.mark.parametrize("name", BESIDE | INSIDE)
def test_an_empty_batch_costs_nothing(name):
    module = (BESIDE | INSIDE)[name]()
    features, logits = (torch.zeros(0, n, 5, 6, requires_grad=True) for n in (C, K))
    labels = torch.zeros(0, *((5, 6) if name in INSIDE else (10, 12)), dtype=torch.long)
    losses, _, rest = step(name, module, features, logits, labels)
    assert not any(losses) and all(each.isfinite().all() for each in rest)


def test_before_its_start_contrast_takes_nothing_of_the_features():
    module = PixelContrast(K, C, max_views=3, start=5)
    features, logits, labels = scene()
    with torch.no_grad():
        features.fill_(float("nan"))
    losses, gradient, _ = step("contrast", module, features, logits, labels)
    assert losses == [0] and not gradient.any()
    assert not any(p.grad.any() for p in module.parameters())


@pytest.mark.parametrize("name", INSIDE)
@pytest.mark.parametrize("shape", [(), (5,), (3, 4)])
def test_cross_entropies(name, shape):
    logits = torch.randn(2, K, *shape, requires_grad=True)
    labels = torch.randint(0, K - 1, (2, *shape))
    module = INSIDE[name]()
    loss = module(logits, labels)
    loss.backward()
    assert loss.isfinite() and logits.grad.isfinite().all()
    void = torch.full_like(labels, 255)
    assert module(logits, void) == 0
    both = torch.cat([labels, void])
    module.eval()
    torch.testing.assert_close(module(torch.cat([logits, logits]), both), module(logits, labels))


def test_logit_adjustment():
    logits, labels = torch.randn(7, K), torch.tensor([0, 1, 2, 3, 0, 1, 255])
    expected = F.cross_entropy(logits + 0.5 * torch.tensor(SHARE).log(), labels, ignore_index=255)
    tripled = [3 * share for share in SHARE]
    loss = LogitAdjustment(K, class_share=tripled, tau=0.5)(logits, labels)
    torch.testing.assert_close(loss, expected)
    with pytest.raises(ValueError, match="no class without a pixel"):
        LogitAdjustment(2, class_share=[1, 0])


def test_class_balanced():
    module = ClassBalancedCrossEntropy(2, image_count=[1000, 10])
    raw = torch.tensor([(1 - 0.9999) / (1 - 0.9999**n) for n in (1000, 10)], dtype=torch.float64)
    torch.testing.assert_close(module.weight, (2 * raw / raw.sum()).float())
    assert module.weight[1] / module.weight[0] > 90
    logits, labels = torch.randn(5, 2), torch.tensor([0, 0, 1, 255, 1])
    each = F.cross_entropy(logits, labels, ignore_index=255, reduction="none")
    expected = (each * module.weight[[0, 0, 1, 0, 1]]).sum() / 4
    torch.testing.assert_close(module(logits, labels), expected)
    uniform = ClassBalancedCrossEntropy(2, image_count=[5, 1], beta=0)
    torch.testing.assert_close(uniform.weight, torch.ones(2))


def test_seesaw_counts_in_training_only():
    module, labels = SeesawLoss(3), torch.tensor([[0, 0, 1, 255]])
    logits = torch.randn(1, 3, 4)
    module(logits, labels)
    assert module.counts.tolist() == [2, 1, 0]
    module.eval()(logits, labels)
    assert module.counts.tolist() == [2, 1, 0]
    plain = SeesawLoss(3, p=0, q=0)
    expected = F.cross_entropy(logits, labels, ignore_index=255)
    torch.testing.assert_close(plain(logits, labels), expected)


def test_center_loss_by_hand():
    module = CenterLoss(2, 1, weight=3.0, center_lr=0.5)
    module.centers.copy_(torch.tensor([[1.0], [5.0]]))
    features = torch.tensor([[[[2.0, 4.0, 9.0]]]])
    loss = module(features, torch.tensor([[[0, 0, 255]]]))["loss_center"]
    torch.testing.assert_close(loss, torch.tensor(3 * (1 + 9) / 2))
    # By half of the gradient 2 (n_k c_k - sum f) / n = 2 (2 - 6) / 2.
    torch.testing.assert_close(module.centers, torch.tensor([[3.0], [5.0]]))
    module.follows = False
    module(features, torch.tensor([[[0, 1, 1]]]))
    assert module.centers.flatten().tolist() == [3, 5]


def test_prototypes_by_hand():
    module = FeaturePrototypes(3, 1, pull_weight=1.0, momentum=0.9)
    labels = torch.tensor([[[0, 0, 1]]])
    loss = module(torch.tensor([[[[1.0, 3.0, 7.0]]]]), labels)["loss_pull"]
    assert module.prototypes.flatten().tolist() == [2, 7, 0]
    assert module.initialized.tolist() == [True, True, False]
    torch.testing.assert_close(loss, torch.tensor(2 / 3))
    module(torch.tensor([[[[12.0, 12.0, 7.0]]]]), labels)
    torch.testing.assert_close(module.prototypes.flatten(), torch.tensor([3.0, 7, 0]))
    # In eval mode nothing moves, and a class without a prototype pulls nothing.
    module.eval()
    features = torch.tensor([[[[100.0, 3.0, 7.0]]]])
    assert module(features, torch.tensor([[[2, 0, 1]]]))["loss_pull"] < 1e-6
    assert not module.initialized[2]


def test_backward_after_the_state_moved():
    """The loss's gradient is that of the targets it was computed with."""
    for module in (CenterLoss(K, C), FeaturePrototypes(K, C, momentum=0.1)):
        features, _, labels = scene()
        loss = sum(module(features, labels).values())
        state = module.centers if isinstance(module, CenterLoss) else module.prototypes
        (expected,) = torch.autograd.grad(loss, features, retain_graph=True)
        module(features.detach() + 1, labels)
        (gradient,) = torch.autograd.grad(loss, features)
        assert torch.equal(gradient, expected) and state.abs().sum() > 0


def test_ceco_has_a_fixed_simplex():
    module = CeCo(K, C, class_share=SHARE, dim=8)
    cosines = module.frame @ module.frame.T
    torch.testing.assert_close(cosines, torch.eye(K) * (1 + 1 / (K - 1)) - 1 / (K - 1))
    assert "frame" not in dict(module.named_parameters()) and "frame" in module.state_dict()
    with pytest.raises(ValueError, match="dim=2"):
        CeCo(K, C, class_share=SHARE, dim=2)


@pytest.mark.parametrize("path", sorted((GOLDEN / "rivals").glob("contrastiveseg_k*")), ids=str)
def test_the_recorded_pixels_are_sampled(path):
    trace = load_trace(path)
    steps = sum(name.endswith("torch_seed") for name in trace)
    for step in range(steps):
        at = {n: torch.as_tensor(trace[f"step{step}/{n}"]) for n in ("features", "predict")}
        labels = torch.as_tensor(trace[f"step{step}/labels"])
        anchors, classes = sample_anchors(
            at["features"].flatten(2),
            pixel_labels(labels, at["features"].shape[-2:], 255),
            at["predict"].flatten(1).long(),
            int(trace["hyper_max_samples"]),
            int(trace["hyper_max_views"]),
            torch.Generator().manual_seed(int(trace[f"step{step}/torch_seed"])),
        )
        assert np.array_equal(anchors, trace[f"step{step}/sampled_features"])
        assert np.array_equal(classes, trace[f"step{step}/sampled_labels"])


def test_a_class_with_few_pixels_is_not_contrasted():
    labels = torch.tensor([[0] * 9 + [1] * 3 + [-1] * 9])
    embedded, predicted = torch.randn(1, 2, 21), torch.zeros(1, 21, dtype=torch.long)
    anchors, classes = sample_anchors(embedded, labels, predicted, 100, 3, torch.Generator())
    assert classes.tolist() == [0] and anchors.shape == (1, 3, 2)
    anchors, classes = sample_anchors(embedded, labels, predicted, 100, 9, torch.Generator())
    assert anchors.shape == (0, 1, 2) and not len(classes)


def test_half_of_the_anchors_are_wrong_where_there_are_as_many():
    labels = torch.zeros(1, 40, dtype=torch.long)
    embedded = torch.arange(40.0).reshape(1, 1, 40)
    for wrong, expected in ((20, 5), (2, 2), (38, 8)):
        predicted = torch.zeros_like(labels)
        predicted[:, :wrong] = 1
        anchors, _ = sample_anchors(embedded, labels, predicted, 100, 10, torch.Generator())
        assert (anchors < wrong).sum() == expected and len(anchors.unique()) == 10


def test_contrast_by_hand():
    anchors = torch.tensor([[1.0, 0], [0.6, 0.8], [0, 1]])
    loss = contrast_loss(anchors, torch.tensor([0, 0, 1]), anchors, torch.tensor([0, 0, 1]), 0.5)
    e = [[np.exp(a @ b / 0.5) for b in anchors.numpy()] for a in anchors.numpy()]
    terms = -np.log([e[0][1] / (e[0][1] + e[0][2]), e[1][0] / (e[1][0] + e[1][2]), 1])
    assert loss.item() == pytest.approx(0.5 / 0.07 * terms.mean(), rel=1e-5)


def test_the_memory_of_class_0_is_not_used():
    queue = F.normalize(torch.randn(3, 5, 4), dim=2)
    anchors, classes = F.normalize(torch.randn(6, 4), dim=1), torch.tensor([0, 1, 2, 0, 1, 2])
    first = memory_contrast(anchors, classes, queue)
    queue[0] = F.normalize(torch.randn(5, 4), dim=1)
    assert torch.equal(memory_contrast(anchors, classes, queue), first)
    queue[1] = F.normalize(torch.randn(5, 4), dim=1)
    assert not torch.equal(memory_contrast(anchors, classes, queue), first)


def test_the_memory_holds_the_last_regions_and_pixels():
    module = PixelContrast(2, C, memory=True, memory_size=12, max_views=3)
    before = module.queue.clone()
    labels = torch.zeros(1, 5, 6, dtype=torch.long)
    for turn in range(1, 4):
        module(torch.randn(1, C, 5, 6), torch.randn(1, 2, 5, 6), labels)
        assert module.place.tolist() == [[turn, 10 * turn % 12], [0, 0]]
    same = (module.queue == before).all(dim=2)
    assert same[0].tolist() == [False] * 3 + [True] * 9 + [False] * 12 and same[1].all()
    torch.testing.assert_close(module.queue.norm(dim=2), torch.ones(2, 24))
    module.eval()
    state = {name: value.clone() for name, value in module.state_dict().items()}
    module(torch.randn(1, C, 5, 6), torch.randn(1, 2, 5, 6), labels)
    assert all(torch.equal(value, state[name]) for name, value in module.state_dict().items())


def test_contrast_begins_late():
    module = PixelContrast(K, C, max_views=3, start=2)
    losses = [run(module, *scene())["loss_contrast"].item() for _ in range(4)]
    assert losses[:2] == [0, 0] and min(losses[2:]) > 0


def test_each_iteration_samples_other_pixels_and_the_same_again_when_resumed():
    module, given = PixelContrast(K, C, max_views=3), scene()
    losses, states = [], []
    for _ in range(2):
        states.append({name: value.clone() for name, value in module.state_dict().items()})
        losses.append(run(module, *given)["loss_contrast"].item())
    assert losses[0] != losses[1]
    resumed = PixelContrast(K, C, max_views=3)
    resumed.load_state_dict(states[1])
    assert run(resumed, *given)["loss_contrast"].item() == losses[1]
