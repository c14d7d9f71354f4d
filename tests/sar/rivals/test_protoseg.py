"""ProtoSeg: its formulas on a few pixels, and as the classifier of models of all kinds of heads."""

import copy
import pickle

import numpy as np
import pytest
import sar_cases
import torch
import torch.nn.functional as F
from mmengine.config import Config, ConfigDict
from mmseg.registry import MODELS
from PIL import Image
from sar_cases import CLASSES, NORMAL, boundary_batch, fcn_hrnet, ocr_cascade, segmentor
from test_mmseg import HEADS, build, ddrnet, pidnet, same_state
from torch import nn

from sar.classifier import Classifier, replace_classifier
from sar.door import attached, detach
from sar.mmseg import apply_sar, baseline_state_dict
from sar.packaged import register_mmseg
from sar.rivals.protoseg import Matches, PrototypeClassifier, apply_protoseg, sinkhorn
from sar.support import UnsupportedModelError, last_head
from sar.trained.bundle import Bundle, build_bare, read_tensors, write_bundle
from sar.trained.export import SUFFIXES, export
from sar.trained.model import TrainedModel, load
from sar.trained.reading import read_trained
from tests.golden.rivals import replay_file

K, C, M = 4, 6, 3
OWN = "decode_head.conv_seg."


def scene():
    features = torch.randn(2, C, 5, 6).requires_grad_()
    labels = torch.randint(0, K - 1, (2, 10, 12))  # the last class is absent
    labels[:, :4] = 255
    return features, labels


def module(**options):
    return PrototypeClassifier(K, C, num_prototypes=M, **options)


def train_one_step(model, batch):
    return sar_cases.train_one_step(model, batch, own="conv_seg")


# The formulas.


def test_the_score_of_a_class_is_the_cosine_of_its_nearest_prototype():
    one = module().eval()
    with torch.no_grad():
        one.class_norm.weight.copy_(torch.tensor([1.0, 2, 1, 1]))
        one.pixel_norm.bias.copy_(torch.randn(C))
    features, _ = scene()
    logits = one(features)
    pixels = F.normalize(one.project(features), dim=1).permute(0, 2, 3, 1)
    pixels = F.normalize(F.layer_norm(pixels, (C,), bias=one.pixel_norm.bias), dim=3)
    for y, x in ((0, 0), (3, 5)):
        nearest = torch.stack([(p @ pixels[1, y, x]).max() for p in one.prototypes])
        expected = F.layer_norm(nearest, (K,)) * torch.tensor([1.0, 2, 1, 1])
        torch.testing.assert_close(logits[1, :, y, x], expected)
    torch.testing.assert_close(one.prototypes.norm(dim=2), torch.ones(K, M))


def test_pixels_are_shared_out_equally():
    """Also where the cosines send all to one prototype, and not to those of other classes."""
    classes = torch.tensor([0] * 60 + [2] * 30)
    own = torch.rand(90, M) + torch.tensor([0.8, 0, 0])
    shares = sinkhorn(own, classes, K, rounds=50)
    torch.testing.assert_close(shares.sum(dim=1), torch.ones(90))
    torch.testing.assert_close(shares[:60].sum(dim=0), torch.full((M,), 20.0), atol=0.01, rtol=0)
    torch.testing.assert_close(shares[60:].sum(dim=0), torch.full((M,), 10.0), atol=0.01, rtol=0)
    alone = sinkhorn(own[60:], classes[60:] * 0, 1, rounds=50)
    torch.testing.assert_close(shares[60:], alone)


def by_hand(momentum):
    """Two classes of two prototypes on the circle, and pixels whose scores are given."""
    one = PrototypeClassifier(2, 2, num_prototypes=2, momentum=momentum)
    circle = torch.tensor([[[1.0, 0], [0, 1]], [[-1, 0], [0, -1]]])
    one.prototypes.copy_(circle)
    pixels = F.normalize(torch.tensor([[1.0, 0.2], [0.3, 1], [-1, 0.1], [9, 9]]), dim=1)
    pixels = pixels.reshape(1, 1, 4, 2)
    cosines = torch.einsum("nhwc,kmc->nhwkm", pixels, circle).requires_grad_()
    logits = cosines.amax(dim=4).movedim(-1, 1)
    return one, Matches(pixels, cosines, logits), torch.tensor([[[0, 0, 1, 255]]])


def test_losses_and_prototypes_by_hand():
    one, scores, labels = by_hand(momentum=0.9)
    still = torch.zeros(3, 2)
    terms = one.losses(scores, labels, noise=still)
    # Of class 1 there is one pixel, and any share-out is (1/2, 1/2): the first prototype.
    flat = scores.cosines[0, 0, :3].flatten(1)
    target = torch.tensor([0, 1, 2])
    expected = F.cross_entropy(flat, target)
    torch.testing.assert_close(terms["loss_ppc"], 0.01 * expected)
    distance = (1 - flat[torch.arange(3), target]).square().mean()
    torch.testing.assert_close(terms["loss_ppd"], 0.001 * distance)
    pixels = scores.pixels[0, 0]
    for (k, m), pixel in {(0, 0): 0, (0, 1): 1, (1, 0): 2}.items():
        old = by_hand(0.9)[0].prototypes[k, m]
        moved = F.normalize(0.9 * old + 0.1 * pixels[pixel], dim=0)
        torch.testing.assert_close(one.prototypes[k, m], moved)
    assert torch.equal(one.prototypes[1, 1], torch.tensor([0.0, -1])), "nothing was drawn for it"
    assert one.iteration == 1


def test_pixels_that_are_classified_wrongly_move_nothing():
    one, scores, labels = by_hand(momentum=0.5)
    before = one.prototypes.clone()
    wrong = torch.where(labels == 255, labels, 1 - labels)
    one.losses(scores, wrong)
    assert torch.equal(one.prototypes, before)


@pytest.mark.parametrize("still", ["eval", "not following", "all void"])
def test_prototypes_stay(still):
    one, (features, labels) = module(momentum=0.1), scene()
    before = one.prototypes.clone()
    if still == "eval":
        one.eval()
    elif still == "not following":
        one.follows = False
    else:
        labels[:] = 255
    terms = one.losses(one.scores(features), labels)
    assert torch.allclose(one.prototypes, before, atol=1e-7)
    assert all((value == 0) == (still == "all void") for value in terms.values())
    one.train().follows = True
    features, labels = scene()
    for _ in range(5):
        one.losses(one.scores(features), labels)
    assert not torch.allclose(one.prototypes, before, atol=1e-3)
    assert torch.allclose(one.prototypes[K - 1], before[K - 1]), "an absent class stays"


def test_backward_after_the_prototypes_moved():
    one, (features, labels) = module(momentum=0.1), scene()
    scores = one.scores(features)
    (expected,) = torch.autograd.grad(scores.logits.square().sum(), features, retain_graph=True)
    before = one.prototypes.clone()
    one.losses(scores, labels)
    assert not torch.equal(one.prototypes, before)
    (gradient,) = torch.autograd.grad(scores.logits.square().sum(), features)
    assert torch.equal(gradient, expected)


@pytest.mark.parametrize("value", [float("nan"), float("inf")])
def test_broken_void_reaches_neither_the_losses_nor_the_prototypes(value):
    found = []
    for filled in (0.0, value):
        torch.manual_seed(0)
        one, (features, labels) = module(momentum=0.5, generator=torch.Generator()), scene()
        with torch.no_grad():
            features[:, :, :2] = filled
        terms = one.losses(one.scores(features), labels)
        found.append([*terms.values(), one.prototypes.clone()])
    assert all(map(torch.equal, *found)) and all(each.isfinite().all() for each in found[1])


@pytest.mark.parametrize("n", [0, 1])
def test_an_empty_batch_and_a_single_pixel(n):
    one = module()
    features = torch.randn(n, C, 1, 1, requires_grad=True)
    scores = one.scores(features)
    terms = one.losses(scores, torch.zeros(n, 2, 2, dtype=torch.long))
    assert scores.logits.shape == (n, K, 1, 1)
    assert all(value.isfinite() and bool(value > 0) == bool(n) for value in terms.values())
    sum(terms.values()).backward()
    assert features.grad.isfinite().all()


def test_mixed_precision():
    """The projection is in bfloat16; unit vectors, cosines and what follows are not."""
    one, (features, labels) = module(), scene()
    with torch.autocast("cpu", torch.bfloat16):
        scores = one.scores(features)
        assert one.project(features).dtype == torch.bfloat16
    assert {each.dtype for each in scores} == {torch.float32}
    torch.testing.assert_close(scores.pixels.norm(dim=3), torch.ones(2, 5, 6))
    terms = one.losses(scores, labels)
    sum([scores.logits.sum(), *terms.values()]).backward()
    assert all(p.grad.isfinite().all() for p in one.parameters())
    half = copy.deepcopy(one).to(torch.bfloat16).eval()
    assert half(features.bfloat16()).dtype == torch.bfloat16


def test_what_is_drawn_follows_from_seed_and_iteration():
    given = scene()

    def trained(seed, steps, state=None):
        one = module(momentum=0.5, generator=torch.Generator().manual_seed(seed))
        if state:
            one.load_state_dict(state)
        before = torch.get_rng_state()
        for _ in range(steps):
            one.losses(one.scores(given[0]), given[1])
        assert torch.equal(torch.get_rng_state(), before)
        return copy.deepcopy(one.state_dict())

    torch.manual_seed(0)
    started = trained(1, 0)
    two = trained(1, 4, started)
    same_state(two, trained(1, 4, started))
    same_state(two, trained(9, 2, trained(1, 2, started)))  # resumed
    other = started | {"seed": started["seed"] + 100}
    assert not torch.equal(trained(1, 4, other)["prototypes"], two["prototypes"])


def shared_out(cosines):
    """`sinkhorn` of one class, as the paper's algorithm is written: (prototypes, pixels)."""
    plan = (cosines.T / 0.05).exp()
    plan /= plan.sum()
    for _ in range(3):
        plan /= plan.sum(dim=1, keepdim=True) * len(plan)
        plan /= plan.sum(dim=0, keepdim=True) * plan.shape[1]
    return (plan * plan.shape[1]).T


def restated_trace(classes, count, channels, size):
    """A trace with void, a class that is absent and one of a single pixel: class by class, with the
    draws of torch's global generator."""
    generator = torch.Generator().manual_seed(0)
    raw = 0.02 * torch.randn(classes, count, channels, generator=generator)
    trace = {"state0/prototypes_raw": raw, "hyper_gamma": 0.8, "ignore_index": 255}
    trace |= {"hyper_ppc_weight": 0.02, "hyper_ppd_weight": 0.003}
    prototypes = F.normalize(raw, dim=2)
    for step in range(2):
        at = {"torch_seed": 7 + step, "prototypes_used": prototypes}
        labels = torch.randint(classes - 2, (2, *size), generator=generator)
        labels[0, 0, 0], labels[:, 5:9] = classes - 1, 255
        features = torch.randn(2, channels, *size, generator=generator).requires_grad_()
        at |= {"labels": labels.to(torch.uint8), "features": features.detach()}
        pixels = features.permute(0, 2, 3, 1).reshape(-1, channels)
        pixels = F.normalize(F.layer_norm(pixels, (channels,)), dim=1)
        flat = pixels @ prototypes.flatten(0, 1).T
        best = flat.reshape(-1, classes, count).amax(dim=2)
        logits = F.layer_norm(best, (classes,)).reshape(2, *size, classes).permute(0, 3, 1, 2)
        y, target, moved = labels.flatten(), labels.flatten().clone(), prototypes.clone()
        torch.manual_seed(7 + step)
        for k in range(classes):
            own = (y == k).nonzero().flatten()
            if not len(own):
                continue
            shares = shared_out(flat[own][:, k * count : (k + 1) * count].detach())
            target[own] = k * count + shares.argmax(dim=1)
            chosen = F.gumbel_softmax(shares, tau=0.5, hard=True).argmax(dim=1)
            right = best[own].argmax(dim=1) == k
            for m in range(count):
                mine = own[right & (chosen == m)]
                if len(mine):
                    mean = F.normalize(pixels[mine].sum(dim=0), dim=0).detach()
                    moved[k, m] = 0.8 * prototypes[k, m] + 0.2 * mean
        prototypes = F.normalize(moved, dim=2)
        known = y != 255
        ppc = F.cross_entropy(flat[known], target[known])
        ppd = (1 - flat[known].gather(1, target[known][:, None])).square().mean()
        own_terms = 0.02 * ppc + 0.003 * ppd
        total = F.cross_entropy(logits, labels, ignore_index=255) + own_terms
        for name, term in (("ppc_ppd", own_terms), ("total", total)):
            (grad,) = torch.autograd.grad(term, features, retain_graph=True)
            at[f"grad_features_{name}"] = grad
        at |= {"proto_logits": flat, "seg_logits": logits, "proto_target": target.float()}
        at |= {"ppc": ppc, "ppd": ppd, "total": total, "prototypes_after": prototypes}
        trace |= {f"step{step}/{name}": value for name, value in at.items()}
    return {name: np.array(torch.as_tensor(value).detach()) for name, value in trace.items()}


def test_other_sizes_and_void_are_replayed(tmp_path):
    np.savez(tmp_path / "protoseg_k6_m10_c24_ignore.npz", **restated_trace(6, 10, 24, (12, 18)))
    error, name = replay_file(tmp_path / "protoseg_k6_m10_c24_ignore.npz")
    assert error < 1e-5, name


# In models.


@pytest.mark.parametrize("head", HEADS)
def test_heads(head, batch):
    model = build(apply_protoseg(segmentor(HEADS[head]), num_prototypes=M))
    classifier = model.decode_head.conv_seg
    before = classifier.prototypes.clone()
    losses = train_one_step(model, batch)
    assert {"regularizer.loss_ppc", "regularizer.loss_ppd"} <= set(losses)
    assert not torch.equal(classifier.prototypes, before)
    assert "forward" not in vars(classifier)


def test_a_cascade(batch):
    model = build(apply_protoseg(ocr_cascade()))
    losses = train_one_step(model, batch)
    assert {"decode_0.loss_ce", "decode_1.loss_ce", "regularizer.loss_ppc"} <= set(losses)
    assert isinstance(model.decode_head[0].conv_seg, nn.Conv2d)
    assert isinstance(model.decode_head[1].conv_seg, PrototypeClassifier)


@pytest.mark.parametrize("net", [ddrnet, pidnet])
def test_heads_of_several_branches(net):
    train_one_step(build(apply_protoseg(net())), boundary_batch())


def test_all_else_begins_as_the_baseline():
    """To the bit, and the classifier's own weights are left as they were drawn."""
    baseline = build(fcn_hrnet(), 3)
    drawn = torch.get_rng_state()
    torch.manual_seed(3)
    model = MODELS.build(ConfigDict(apply_protoseg(fcn_hrnet(), seed=5)))
    own = {n: v.clone() for n, v in model.state_dict().items() if n.startswith(OWN)}
    assert model.decode_head.conv_seg.pixel_norm.weight.eq(1).all()
    model.init_weights()
    assert torch.equal(torch.get_rng_state(), drawn), "drew from the global generator"
    state, expected = model.state_dict(), baseline.state_dict()
    assert all(torch.equal(state[name], value) for name, value in own.items())
    assert {f"{OWN}prototypes", f"{OWN}project.0.weight"} <= set(own)
    shared = [name for name in expected if not name.startswith(OWN)]
    assert all(torch.equal(state[name], expected[name]) for name in shared)
    assert set(state) == {*shared, *own}
    again = MODELS.build(ConfigDict(apply_protoseg(fcn_hrnet(), seed=5))).state_dict()
    other = MODELS.build(ConfigDict(apply_protoseg(fcn_hrnet(), seed=6))).state_dict()
    for name in (f"{OWN}prototypes", f"{OWN}project.0.weight"):
        assert torch.equal(again[name], own[name]) and not torch.equal(other[name], own[name])


def test_the_baseline_has_the_same_dropout(batch):
    drawn = []
    config = fcn_hrnet(dropout_ratio=0.5)
    for model in (build(config), build(apply_protoseg(config))):
        torch.manual_seed(5)
        model(*batch, mode="loss")
        drawn.append(torch.get_rng_state())
    assert torch.equal(*drawn)


def test_state_is_saved_and_goes_on(batch):
    config = apply_protoseg(fcn_hrnet(dropout_ratio=0), momentum=0.5, seed=1)
    model = build(config)
    for _ in range(2):
        train_one_step(model, batch)
    resumed = build(config, seed=9)
    resumed.load_state_dict(model.state_dict(), strict=True)
    resumed.zero_grad(), model.zero_grad()
    losses = [train_one_step(one, batch) for one in (model, resumed)]
    assert losses[0].keys() == losses[1].keys()
    for name, value in losses[0].items():
        assert torch.equal(torch.as_tensor(value), torch.as_tensor(losses[1][name])), name
    same_state(model.state_dict(), resumed.state_dict())
    for twin in (copy.deepcopy(model), pickle.loads(pickle.dumps(model))):
        assert type(twin) is type(model)
        same_state(twin.state_dict(), model.state_dict())


def test_what_trains_is_what_predicts(batch, tmp_path):
    """Dumped config and saved weights, without the plug-in being named, give the same labels."""
    register_mmseg()
    normal = {"data_preprocessor": NORMAL}
    config = apply_protoseg(fcn_hrnet(norm_cfg=dict(type="GN", num_groups=4)) | normal)
    assert attached(config) and detach(config) == config and not attached(fcn_hrnet())
    model = build(config)
    for _ in range(3):
        train_one_step(model, batch)
    model.eval()
    state = {name: value.contiguous() for name, value in model.state_dict().items()}
    torch.save({"state_dict": state}, tmp_path / "last.pth")
    Config(dict(model=config)).dump(tmp_path / "config.py")
    bundle = read_trained(tmp_path / "last.pth", tmp_path / "config.py")
    assert not bundle.regularizer and f"{OWN}prototypes" in bundle.weights
    write_bundle(bundle, tmp_path / "model.safetensors")
    assert f"{OWN}prototypes" in read_tensors(tmp_path / "model.safetensors")[0]
    image = Image.fromarray(np.random.default_rng(0).integers(0, 255, (48, 64, 3)).astype("uint8"))
    expected = TrainedModel(bundle).predict(image)
    loaded = load(tmp_path / "model.safetensors")
    assert len(np.unique(expected)) > 1 and np.array_equal(loaded.predict(image), expected)
    pixels = loaded.preprocess(image)
    mean, std = (torch.tensor(NORMAL[name])[:, None, None] for name in ("mean", "std"))
    with torch.no_grad():
        scores = model((pixels - mean) / std)
        size = pixels.shape[-2:]
        full = F.interpolate(scores, size, mode="bilinear", align_corners=False)
        torch.testing.assert_close(loaded(pixels), full)
    assert np.array_equal(full.argmax(1)[0].numpy(), expected)


@pytest.mark.parametrize("format", ["onnx", "torchscript", "torch.export"])
def test_it_is_exported(format, tmp_path):
    """`export` compares the file with the model and refuses one that differs."""
    normal = {"data_preprocessor": NORMAL}
    config = apply_protoseg(segmentor(HEADS["FCN"]) | normal, num_prototypes=M)
    torch.manual_seed(1)
    weights = build_bare(config, []).state_dict()
    model = TrainedModel(Bundle(config, weights, CLASSES))
    checked = export(model, tmp_path / f"model{SUFFIXES[format]}", format)
    assert [each.pixels for each in checked] == [101 * 150, 3 * 128 * 96]


def test_a_file_cannot_name_what_is_no_classifier():
    config = apply_protoseg(fcn_hrnet())
    for name in ("os:getcwd", "torch.nn:Identity", "nowhere:Thing", "sar.door", None):
        config["classifier"]["type"] = name
        with pytest.raises(UnsupportedModelError, match=r"classifier has type="):
            MODELS.build(ConfigDict(copy.deepcopy(config)))


def test_one_method_at_a_time():
    for first in (apply_protoseg(fcn_hrnet()), apply_sar(fcn_hrnet())):
        for apply in (apply_protoseg, apply_sar):
            with pytest.raises(UnsupportedModelError, match="already has"):
                apply(first)


def test_a_head_that_classifies_twice_is_refused(batch):
    from mmseg.models import FCNHead

    class Twice(FCNHead):
        def forward(self, inputs):
            features = self._forward_feature(inputs)
            return self.cls_seg(features) + self.cls_seg(features)

    config = segmentor(HEADS["FCN"])
    config["decode_head"]["type"] = Twice
    model = build(apply_protoseg(config))
    with pytest.raises(RuntimeError, match="called conv_seg 2 times"):
        model(*batch, mode="loss")
    assert "forward" not in vars(last_head(model.decode_head).conv_seg)


@pytest.mark.parametrize(
    ("options", "word"),
    [
        (dict(num_prototypes=0), "num_prototypes=0"),
        (dict(momentum=1.5), "momentum=1.5"),
        (dict(momentum="auto"), "iterations=None"),
        (dict(ppc_weight=-1), "ppc_weight=-1"),
        (dict(ppd_weight="much"), "ppd_weight='much'"),
        (dict(seed=-1), "seed=-1"),
    ],
)
def test_options_out_of_range(options, word):
    with pytest.raises(ValueError, match=word):
        apply_protoseg(fcn_hrnet(), **options)


def test_momentum_may_follow_the_length_of_the_training():
    config = apply_protoseg(fcn_hrnet(), momentum="auto", iterations=1000)
    assert config["classifier"]["momentum"] == pytest.approx(0.999**80)


def test_a_classifier_of_ones_own(batch):
    class Plain(Classifier):
        """The linear one, with a loss beside it."""

        def __init__(self, num_classes, channels):
            super().__init__(channels, num_classes)
            self.conv = nn.Conv2d(channels, num_classes, 1)

        def scores(self, features):
            from types import SimpleNamespace

            return SimpleNamespace(logits=self.conv(features), features=features)

        def losses(self, scores, labels):
            return {"loss_size": scores.features.square().mean(), "labels": labels.float().sum()}

    globals()["Plain"] = Plain
    Plain.__qualname__ = "Plain"
    losses = train_one_step(build(replace_classifier(fcn_hrnet(), Plain)), batch)
    labels = sum(one.gt_sem_seg.data.sum() for one in batch[1])
    assert losses["regularizer.loss_size"] > 0 and losses["regularizer.labels"] == labels


def test_baseline_state_dict_keeps_what_predicts():
    model = build(apply_protoseg(fcn_hrnet()))
    same_state(model.state_dict(), baseline_state_dict(model))
