"""Each rival in models of all kinds of heads: it trains, and leaves prediction alone."""

import copy
import pickle

import pytest
import torch
from mmengine.config import Config, ConfigDict
from mmseg.registry import MODELS
from sar_cases import boundary_batch, fcn_hrnet, ocr_cascade, sample, segmentor, train_one_step
from test_mmseg import HEADS, build, ddrnet, pidnet, same_state

from sar.checkpoints import baseline_state_dict
from sar.door import attached, detach
from sar.rivals.car import apply_car
from sar.rivals.ceco import apply_ceco
from sar.rivals.center_loss import apply_center_loss
from sar.rivals.class_balanced import apply_class_balanced
from sar.rivals.contrast import apply_contrast
from sar.rivals.logit_adjustment import apply_logit_adjustment
from sar.rivals.prototypes import apply_prototypes
from sar.rivals.seesaw import apply_seesaw
from sar.support import UnsupportedModelError

DATA = {
    "pixel_share": [0.5, 0.3, 0.15, 0.05, 0.0],
    "image_count": [100, 80, 40, 7, 0],
    "num_images": 100,
    "num_pixels": 30_000,
}
RIVALS = {
    "logit adjustment": lambda cfg, **o: apply_logit_adjustment(cfg, data=DATA, **o),
    "class-balanced": lambda cfg, **o: apply_class_balanced(cfg, data=DATA, **o),
    "seesaw": apply_seesaw,
    "center loss": apply_center_loss,
    "prototypes": apply_prototypes,
    "contrast": lambda cfg, **o: apply_contrast(cfg, iterations=7, max_views=20, **o),
    "contrast with memory": lambda cfg, **o: apply_contrast(
        cfg, iterations=7, max_views=20, memory=True, memory_size=20, **o
    ),
    "CAR": apply_car,
    "CeCo": lambda cfg, **o: apply_ceco(cfg, data=DATA, dim=16, **o),
}
INSIDE = ("logit adjustment", "class-balanced", "seesaw")
FEW = ("DA", "Enc", "UPer", "Segformer")
rivals = pytest.mark.parametrize("rival", RIVALS)


@pytest.mark.parametrize(
    ("rival", "head"),
    # Inside, beside, and with a network: one of each with every head, the rest with a few.
    [(r, h) for r in RIVALS for h in (HEADS if r in ("seesaw", "prototypes", "CAR") else FEW)],
)
def test_heads(rival, head, batch):
    model = build(RIVALS[rival](segmentor(HEADS[head])))
    losses = train_one_step(model, batch)
    own = [name for name in losses if name.startswith("regularizer.loss")]
    assert bool(own) == (rival not in INSIDE)
    assert "cls_seg" not in vars(model.decode_head)


@rivals
def test_a_cascade(rival, batch):
    model = build(RIVALS[rival](ocr_cascade()))
    losses = train_one_step(model, batch)
    assert {"decode_0.loss_ce", "decode_1.loss_ce"} <= set(losses)


@rivals
def test_weights_and_predictions_are_the_baselines(rival, batch):
    torch.manual_seed(3)
    baseline = MODELS.build(ConfigDict(fcn_hrnet()))
    baseline.init_weights()
    drawn = torch.get_rng_state()
    torch.manual_seed(3)
    model = MODELS.build(ConfigDict(RIVALS[rival](fcn_hrnet())))
    model.init_weights()
    assert torch.equal(torch.get_rng_state(), drawn), "drew from the global generator"
    same_state(baseline.state_dict(), baseline_state_dict(model))
    baseline.eval(), model.eval()
    with torch.no_grad():
        assert torch.equal(baseline(batch[0]), model(batch[0]))
        expected, actual = (one(batch[0], mode="predict") for one in (baseline, model))
    for one, other in zip(expected, actual, strict=True):
        assert torch.equal(one.seg_logits.data, other.seg_logits.data)


@rivals
def test_draws_nothing_that_the_baseline_would_have_drawn(rival, batch):
    config = fcn_hrnet(dropout_ratio=0.5)
    drawn, gradients = [], []
    for model in (build(config), build(RIVALS[rival](config))):
        torch.manual_seed(5)
        train_one_step(model, batch)
        drawn.append(torch.get_rng_state())
        gradients.append(model.decode_head.convs[0].conv.weight.grad)
    assert torch.equal(*drawn) and not torch.allclose(*gradients)


@rivals
def test_state_is_saved_and_goes_on(rival, batch):
    config = RIVALS[rival](fcn_hrnet(dropout_ratio=0), seed=1)
    model = build(config)
    for _ in range(2):
        train_one_step(model, batch)
    resumed = build(config, seed=9)
    resumed.load_state_dict(model.state_dict(), strict=True)
    resumed.zero_grad(), model.zero_grad()
    losses = [train_one_step(one, batch) for one in (model, resumed)]
    for name, value in losses[0].items():
        assert torch.equal(torch.as_tensor(value), torch.as_tensor(losses[1][name])), name
    same_state(model.state_dict(), resumed.state_dict())


@rivals
def test_a_dumped_config_rebuilds_the_model(rival, tmp_path):
    config = RIVALS[rival](fcn_hrnet(), seed=4)
    assert attached(config) and detach(config) == fcn_hrnet() and not attached(fcn_hrnet())
    imports = dict(imports=["sar.door"], allow_failed_imports=False)
    Config(dict(model=config, custom_imports=imports)).dump(tmp_path / "config.py")
    loaded = Config.fromfile(tmp_path / "config.py").model
    assert loaded == config
    model, again = build(config), build(loaded)
    same_state(model.state_dict(), again.state_dict())
    for twin in (copy.deepcopy(model), pickle.loads(pickle.dumps(model))):
        assert type(twin) is type(model)
        same_state(twin.state_dict(), model.state_dict())


@rivals
def test_one_method_at_a_time(rival):
    config = RIVALS[rival](fcn_hrnet())
    with pytest.raises(UnsupportedModelError, match="already has"):
        RIVALS[rival](config)


@rivals
def test_all_void(rival, batch):
    void = [sample(torch.full((48, 64), 255)) for _ in batch[0]]
    model = build(RIVALS[rival](fcn_hrnet()))
    losses = train_one_step(model, (batch[0], void))
    for name, value in losses.items():
        if name.startswith("regularizer.loss") and rival != "CAR":  # Its void has other classes.
            assert value == 0, name


@rivals
def test_heads_of_several_branches(rival):
    train_one_step(build(RIVALS[rival](ddrnet())), boundary_batch())
    if rival in INSIDE:
        with pytest.raises(UnsupportedModelError, match="PIDHead.*OhemCrossEntropy"):
            build(RIVALS[rival](pidnet()))
    else:
        train_one_step(build(RIVALS[rival](pidnet())), boundary_batch())


@pytest.mark.parametrize(
    ("apply", "options", "word"),
    [
        (apply_logit_adjustment, dict(tau=-1, data=DATA), "tau=-1"),
        (apply_logit_adjustment, dict(data={}), "data has no 'pixel_share'"),
        (apply_logit_adjustment, dict(data={"pixel_share": [1, 0]}), "data has no 'num_pixels'"),
        (apply_class_balanced, dict(beta=1, data=DATA), r"beta=1.*\[0, 1\)"),
        (apply_class_balanced, dict(data=dict(image_count="many")), "image_count="),
        (apply_seesaw, dict(p=-0.1), "p=-0.1"),
        (apply_seesaw, dict(q="two"), "q='two'"),
        (apply_seesaw, dict(eps=0), "eps=0"),
        (apply_center_loss, dict(center_lr=1.5), "center_lr=1.5"),
        (apply_center_loss, dict(weight=-1), "weight=-1"),
        (apply_prototypes, dict(momentum=1.1), "momentum=1.1"),
        (apply_prototypes, dict(momentum="auto"), "iterations=None"),
        (apply_contrast, dict(iterations=0), "iterations=0"),
        (apply_contrast, dict(iterations=9, temperature=0), "temperature=0"),
        (apply_contrast, dict(iterations=9, memory=1), "memory=1"),
        (apply_contrast, dict(iterations=9, max_views=1), "max_views=1"),
        (apply_car, dict(c2c_threshold=2), "c2c_threshold=2"),
        (apply_car, dict(intra_weight=float("nan")), "intra_weight=nan"),
        (apply_ceco, dict(data=DATA, scale=0), "scale=0"),
        (apply_ceco, dict(data=DATA, dim=0), "dim=0"),
        (apply_car, dict(seed=-1), "seed=-1"),
    ],
)
def test_options_out_of_range(apply, options, word):
    with pytest.raises(ValueError, match=word):
        apply(fcn_hrnet(), **options)


def test_data_of_another_number_of_classes():
    data = DATA | {"pixel_share": [0.5, 0.5], "image_count": [1, 1]}
    for apply in (apply_logit_adjustment, apply_class_balanced, apply_ceco):
        with pytest.raises(ValueError, match="5, one a class"):
            build(apply(fcn_hrnet(), data=data))


def test_logit_adjustment_is_a_constant_of_each_class(batch):
    """And its tau of 0 is the baseline, to the bit."""
    plain, zero = build(fcn_hrnet(dropout_ratio=0)), RIVALS["logit adjustment"]
    none = build(zero(fcn_hrnet(dropout_ratio=0), tau=0))
    one = build(zero(fcn_hrnet(dropout_ratio=0)))
    expected, same, other = (m(*batch, mode="loss")["decode.loss_ce"] for m in (plain, none, one))
    assert torch.equal(expected, same) and not torch.allclose(expected, other)
    with torch.no_grad():
        shift = torch.tensor([*DATA["pixel_share"][:4], 1 / 30_000]).log()
        plain.decode_head.conv_seg.bias += shift - torch.logsumexp(shift, 0)
    torch.testing.assert_close(plain(*batch, mode="loss")["decode.loss_ce"], other)


def test_methods_inside_keep_the_heads_own_settings(batch):
    loss = dict(type="CrossEntropyLoss", loss_weight=0.4, avg_non_ignore=True)
    config = fcn_hrnet(dropout_ratio=0, loss_decode=[loss, dict(type="DiceLoss")])
    plain, model = build(config), build(RIVALS["class-balanced"](config))
    expected, losses = plain(*batch, mode="loss"), model(*batch, mode="loss")
    torch.testing.assert_close(losses["decode.loss_dice"], expected["decode.loss_dice"])
    assert not torch.allclose(losses["decode.loss_ce"], expected["decode.loss_ce"])
    logits = model(batch[0])
    labels = torch.cat([one.gt_sem_seg.data for one in batch[1]])
    full = torch.nn.functional.interpolate(logits, labels.shape[1:], mode="bilinear")
    torch.testing.assert_close(losses["decode.loss_ce"], 0.4 * model.regularizer(full, labels))
