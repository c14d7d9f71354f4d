import copy
import pickle
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from mmengine.config import Config, ConfigDict
from mmengine.model import ExponentialMovingAverage
from mmseg.models import EncoderDecoder, FCNHead
from mmseg.registry import MODELS
from sar_cases import (
    BN,
    fcn_hrnet,
    head,
    ocr_cascade,
    resnet,
    sample,
    segformer,
    segmentor,
    upernet_swin,
)

from sar.mmseg import UnsupportedModelError, apply_sar, baseline_state_dict

ROOT = Path(__file__).parents[2]
SINGLE = dict(in_channels=128, in_index=3)
MULTI = dict(in_channels=[16, 32, 64, 128], in_index=[0, 1, 2, 3])
SE = dict(type="CrossEntropyLoss", use_sigmoid=True, loss_weight=0.2)
MLA = dict(in_channels=[64, 128], in_index=[2, 3], mla_channels=8, up_scale=2)

HEADS = {
    "ANN": head("ANNHead", in_channels=[64, 128], in_index=[2, 3], project_channels=8),
    "APC": head("APCHead", **SINGLE, pool_scales=(1, 2)),
    "ASPP": head("ASPPHead", **SINGLE, dilations=(1, 2)),
    "ASPP separable": head(
        "DepthwiseSeparableASPPHead", **SINGLE, dilations=(1, 2), c1_in_channels=16, c1_channels=8
    ),
    "DA": head("DAHead", **SINGLE, pam_channels=8),
    "DM": head("DMHead", **SINGLE, filter_sizes=(1, 3)),
    "DNL": head("DNLHead", **SINGLE),
    "EMA": head("EMAHead", **SINGLE, ema_channels=16, num_bases=4, num_stages=2),
    "Enc": head("EncHead", **MULTI, num_codes=4, loss_se_decode=SE),
    "FCN": head("FCNHead", **SINGLE),
    "FCN separable": head("DepthwiseSeparableFCNHead", **SINGLE, dw_act_cfg=None),
    "FPN": head("FPNHead", in_channels=[16] * 4, in_index=[0] * 4, feature_strides=[4] * 4),
    "GC": head("GCHead", **SINGLE),
    "ISA": head("ISAHead", **SINGLE, isa_channels=8, down_factor=(4, 4)),
    "NL": head("NLHead", **SINGLE),
    "PSP": head("PSPHead", **SINGLE, pool_scales=(1, 2)),
    "Segformer": head("SegformerHead", **MULTI),
    "SETR MLA": head("SETRMLAHead", **MLA),
    "SETR PUP": head("SETRUPHead", **SINGLE, num_convs=1, kernel_size=3),
    "UPer": head("UPerHead", **MULTI, pool_scales=(1, 2)),
    "Hamburger": head(
        "LightHamHead",
        in_channels=[32, 64, 128],
        in_index=[1, 2, 3],
        ham_channels=16,
        ham_kwargs=dict(MD_R=4),
        norm_cfg=dict(type="GN", num_groups=4),
    ),
}


def pidnet():
    ohem = dict(type="OhemCrossEntropy", thres=0.9, min_kept=1000)
    losses = [dict(type="CrossEntropyLoss"), ohem, dict(type="BoundaryLoss"), ohem]
    backbone = dict(
        type="PIDNet", channels=8, ppm_channels=8, num_stem_blocks=1, num_branch_blocks=1
    )
    decode = head("PIDHead", in_channels=32, channels=16, loss_decode=losses)
    return segmentor(decode, backbone)


def ddrnet():
    backbone = dict(type="DDRNet", in_channels=3, channels=8, ppm_channels=8, norm_cfg=BN)
    losses = [dict(type="CrossEntropyLoss", loss_weight=w) for w in (1.0, 0.4)]
    return segmentor(head("DDRHead", in_channels=32, channels=16, loss_decode=losses), backbone)


def build(config, seed=0):
    torch.manual_seed(seed)
    model = MODELS.build(ConfigDict(copy.deepcopy(config)))
    model.init_weights()
    return model


def always_open(config, **options):
    """Any confidence will do, and the classifier is right about every anchor."""
    model = build(apply_sar(config, update_confidence=1e-6, **options))
    decode = model.decode_head[-1] if hasattr(model.decode_head, "__len__") else model.decode_head
    with torch.no_grad():
        e = model.regularizer.embedding(model.regularizer.anchors).flatten(1)
        weight = 5 * torch.linalg.pinv(e).T
        decode.conv_seg.weight.copy_(weight[:, :, None, None])
        decode.conv_seg.bias.zero_()
    return model, decode


def same_state(state, other):
    assert list(state) == list(other)
    assert all(torch.equal(state[name], other[name]) for name in state)


@pytest.mark.parametrize("config", [fcn_hrnet, upernet_swin, ocr_cascade, segformer])
def test_same_weights_and_predictions_as_the_baseline(config, batch):
    torch.manual_seed(3)
    baseline = MODELS.build(ConfigDict(config()))
    drawn = torch.get_rng_state()
    torch.manual_seed(3)
    model = MODELS.build(ConfigDict(apply_sar(config())))
    assert torch.equal(torch.get_rng_state(), drawn), "the plug-in drew from the global generator"
    same_state(baseline.state_dict(), baseline_state_dict(model))
    names = list(model.state_dict())
    torch.manual_seed(4)
    baseline.init_weights()
    torch.manual_seed(4)
    model.init_weights()
    same_state(baseline.state_dict(), baseline_state_dict(model))
    assert list(model.state_dict()) == names
    assert isinstance(model, EncoderDecoder) and type(model).__name__.startswith("SAR")
    baseline.eval(), model.eval()
    with torch.no_grad():
        for mode in ("tensor", "predict"):
            expected, actual = baseline(batch[0], mode=mode), model(batch[0], mode=mode)
            if mode == "predict":
                expected, actual = ([x.seg_logits.data for x in xs] for xs in (expected, actual))
            assert all(torch.equal(a, b) for a, b in zip(actual, expected, strict=True))


def test_initialisation_leaves_the_regularizer_alone():
    initialise = dict(type="Kaiming", layer=["Conv2d", "Linear"], distribution="uniform")
    config = segmentor(HEADS["FCN"], resnet(init_cfg=[]), init_cfg=initialise)
    torch.manual_seed(3)
    baseline, model = (MODELS.build(ConfigDict(c)) for c in (config, apply_sar(config, seed=0)))
    before = copy.deepcopy(model.regularizer.state_dict())
    for one in (baseline, model):
        torch.manual_seed(4)
        one.init_weights()
    same_state(model.regularizer.state_dict(), before)
    same_state(baseline.state_dict(), baseline_state_dict(model))


def test_seed():
    first, again, other = (build(apply_sar(fcn_hrnet(), seed=s), 5) for s in (1, 1, 2))
    same_state(first.regularizer.state_dict(), again.regularizer.state_dict())
    assert not torch.equal(first.regularizer.anchors, other.regularizer.anchors)
    same_state(baseline_state_dict(first), baseline_state_dict(other))
    first, again, other = (build(apply_sar(fcn_hrnet()), seed) for seed in (1, 1, 2))
    same_state(first.regularizer.state_dict(), again.regularizer.state_dict())
    assert not torch.equal(first.regularizer.anchors, other.regularizer.anchors)


def check_training(config, batch):
    model, decode = always_open(config)
    model.train()
    losses = model(*batch, mode="loss")
    assert losses["sar.gate"] == 1 and losses["sar.loss_p2a"] > 0
    assert 0 < losses["sar.min_confidence"] <= 1
    total, logged = model.parse_losses(losses)
    names = [name for name in logged if "loss" in name and name != "loss"]
    torch.testing.assert_close(total.item(), sum(logged[name].item() for name in names))
    total.backward()
    assert decode.conv_seg.weight.grad.abs().max() > 0
    assert "cls_seg" not in vars(decode)
    assert model.regularizer.channels == decode.conv_seg.in_channels


@pytest.mark.parametrize("name", HEADS)
def test_heads(name, batch):
    check_training(segmentor(HEADS[name]), batch)


@pytest.mark.parametrize("config", [fcn_hrnet, upernet_swin, ocr_cascade, segformer])
def test_models(config, batch):
    check_training(config(), batch)


@pytest.mark.parametrize("config", [pidnet, ddrnet])
def test_of_several_branches_that_of_inference_is_regularized(config):
    from mmengine.structures import PixelData

    images = torch.randn(2, 3, 64, 64)
    samples = [sample(torch.randint(0, 255, (64, 64))) for _ in images]
    for one in samples:
        one.gt_sem_seg.data %= 5
        one.gt_edge_map = PixelData(data=torch.zeros_like(one.gt_sem_seg.data))
    check_training(config(), (images, samples))


def test_the_feature_is_what_enters_cls_seg_before_dropout(batch):
    model, decode = always_open(fcn_hrnet(dropout_ratio=0.5))
    model.train()
    seen = {}
    forward = model.regularizer.forward

    def before_dropout(_, args):
        seen.setdefault("before", args[0])

    decode.dropout.register_forward_pre_hook(before_dropout)

    def spy(features, labels, classifier):
        seen["given"] = features
        e = model.regularizer.embedding(model.regularizer.anchors).detach()
        seen["scores"], seen["plain"] = classifier(e), decode.conv_seg(e)
        assert decode.dropout.training, "dropout is on again"
        return forward(features, labels, classifier)

    model.regularizer.forward = spy
    model(*batch, mode="loss")
    assert seen["given"] is seen["before"]
    assert torch.equal(seen["scores"], seen["plain"])


def test_a_head_of_ones_own_keeps_its_cls_seg(batch):
    class Scaled(FCNHead):
        def cls_seg(self, feat):
            return 2 * super().cls_seg(feat)

    model, decode = always_open(segmentor(dict(HEADS["FCN"], type=Scaled)))
    model.train()
    model(*batch, mode="loss")
    e = model.regularizer.embedding(model.regularizer.anchors).flatten(1)
    expected = (2 * e @ decode.conv_seg.weight.flatten(1).T).softmax(1).diagonal()
    torch.testing.assert_close(model.regularizer.confidence, expected.detach())


@pytest.mark.parametrize("times", [0, 2])
def test_exactly_one_map_is_required(times, batch):
    class Odd(FCNHead):
        def forward(self, inputs):
            x = self._forward_feature(inputs)
            for _ in range(times):
                out = self.cls_seg(x)
            return out if times else self.conv_seg(x)

    model = build(apply_sar(segmentor(dict(HEADS["FCN"], type=Odd))))
    with pytest.raises(RuntimeError, match=f"Odd called cls_seg {times} times"):
        model(*batch, mode="loss")
    assert "cls_seg" not in vars(model.decode_head)


def test_nothing_stays_behind_an_error(batch):
    model = build(apply_sar(fcn_hrnet()))
    with pytest.raises(Exception):  # noqa: B017
        model(batch[0][:, :2], batch[1], mode="loss")
    assert "cls_seg" not in vars(model.decode_head)


def test_copies_and_pickles(batch):
    model, _ = always_open(fcn_hrnet(dropout_ratio=0))
    model(*batch, mode="loss")
    for twin in (copy.deepcopy(model), pickle.loads(pickle.dumps(model))):
        assert type(twin) is type(model)
        same_state(twin.state_dict(), model.state_dict())
        twin.train()
        twin(*batch, mode="loss")["sar.loss_p2a"].backward()
        assert all(p.grad is None for p in model.parameters())


@pytest.mark.parametrize("update_buffers", [False, True])
def test_averaged_models(update_buffers, batch):
    model, _ = always_open(fcn_hrnet(dropout_ratio=0))
    averaged = ExponentialMovingAverage(model, update_buffers=update_buffers)
    for _ in range(2):
        model(*batch, mode="loss")
        averaged.update_parameters(model)
    same = torch.equal(
        averaged.module.regularizer.semantic_anchors, model.regularizer.semantic_anchors
    )
    assert same != update_buffers


@pytest.mark.parametrize("kind", [dict, ConfigDict])
def test_the_given_config_is_left_alone(kind):
    config = kind(fcn_hrnet())
    before = copy.deepcopy(config)
    applied = apply_sar(config, pull_weight=0.2)
    assert config == before and type(applied) is kind
    applied["decode_head"]["channels"] = 3
    assert config == before


@pytest.mark.parametrize("anchors", ["simplex", torch.randn(5, 120), [[0.5] * 120] * 5])
def test_config_round_trip(anchors, tmp_path):
    applied = apply_sar(fcn_hrnet(), anchors=anchors, momentum=0.9, seed=4)
    path = tmp_path / "config.py"
    imports = dict(imports=["sar.mmseg"], allow_failed_imports=False)
    Config(dict(model=applied, custom_imports=imports)).dump(path)
    loaded = Config.fromfile(path)
    assert loaded.model == applied
    model, again = build(applied), build(loaded.model)
    same_state(model.state_dict(), again.state_dict())
    assert model.regularizer.momentum == 0.9


def test_sync_batch_norm_is_replaced_without_cuda(batch, monkeypatch):
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    config = fcn_hrnet()
    config["decode_head"]["norm_cfg"] = dict(type="SyncBN", requires_grad=True)
    applied = apply_sar(config)
    assert applied["decode_head"]["norm_cfg"]["type"] == "SyncBN"
    model = build(applied)
    assert not any(isinstance(m, torch.nn.SyncBatchNorm) for m in model.modules())
    model(*batch, mode="loss")


def test_autocast_is_close_to_float32(batch):
    model, _ = always_open(fcn_hrnet(dropout_ratio=0))
    model.eval()  # the same statistics in both
    model.regularizer.train()
    expected = copy.deepcopy(model)(*batch, mode="loss")
    with torch.autocast("cpu", dtype=torch.bfloat16):
        losses = model(*batch, mode="loss")
    for name in ("sar.loss_aux_ce", "sar.loss_p2a"):
        assert losses[name].dtype == torch.float32
        torch.testing.assert_close(losses[name], expected[name], rtol=0.02, atol=1e-4)
    torch.testing.assert_close(losses["sar.loss_aux_ce"], expected["sar.loss_aux_ce"])
    model.parse_losses(losses)[0].backward()


def refuse(config, word, **options):
    with pytest.raises(UnsupportedModelError, match=word):
        apply_sar(config, **options)


@pytest.mark.parametrize(
    ("kind", "word"),
    [
        ("MaskFormerHead", "masks"),
        ("Mask2FormerHead", "masks"),
        ("SegmenterMaskTransformerHead", "no conv_seg"),
        ("IterativeDecodeHead", "kernels"),
        ("PointHead", "points"),
        ("VPDDepthHead", "depth"),
        ("SideAdapterCLIPHead", "text"),
        ("NoSuchHead", "custom_imports"),
        ("nowhere.NoSuchHead", "custom_imports"),
        ("ResNet", "BaseDecodeHead"),
        (None, "type=None"),
    ],
)
def test_refused_heads(kind, word):
    refuse(segmentor(head(kind, **SINGLE)), word)
    refuse(segmentor([HEADS["FCN"], head(kind)], kind="CascadeEncoderDecoder", num_stages=2), word)


@pytest.mark.parametrize(
    ("kind", "word"),
    [
        ("DepthEstimator", "depth"),
        ("MultimodalEncoderDecoder", "text"),
        ("SegTTAModel", "EncoderDecoder"),
        ("NoSuchSegmentor", "custom_imports"),
        ("FCNHead", "outside the family"),
    ],
)
def test_refused_segmentors(kind, word):
    refuse(segmentor(HEADS["FCN"], kind=kind), word)


def test_refused_scores():
    refuse(segmentor(dict(HEADS["FCN"], num_classes=2, out_channels=1)), "out_channels=1")
    refuse(segmentor(dict(HEADS["FCN"], num_classes=1)), "num_classes=1")
    apply_sar(segmentor(dict(HEADS["FCN"], num_classes=2, out_channels=2)))

    class Binary(FCNHead):
        def __init__(self, **options):
            super().__init__(**{**options, "num_classes": 2, "out_channels": 1})

    with pytest.raises(UnsupportedModelError, match="out_channels=1"):
        build(apply_sar(segmentor(dict(HEADS["FCN"], type=Binary))))


def test_refused_twice():
    refuse(apply_sar(fcn_hrnet()), "works once")


@pytest.mark.parametrize(
    ("options", "word"),
    [
        (dict(pull=1), "'pull'.*pull_weight"),
        (dict(ignore_index=0), "decode head decides"),
        (dict(momentum=2), "momentum=2"),
        (dict(seed=-1), "seed=-1"),
        (dict(seed=1.5), "seed=1.5"),
        (dict(anchors="flat"), "anchors='flat'"),
        (dict(anchors=[[1.0, float("nan")], [0.0, 1.0]]), "anchors hold NaN"),
        (dict(anchors=torch.ones(5, 120, dtype=torch.complex64)), "complex64"),
        (dict(anchors=[1.0, 2.0]), r"anchors of shape \(2,\)"),
    ],
)
def test_refused_options(options, word):
    with pytest.raises(ValueError, match=word):
        apply_sar(fcn_hrnet(), **options)


def test_refused_configs():
    with pytest.raises(TypeError, match="expected a model's config"):
        apply_sar("fcn_hrnet")
    refuse(dict(model=fcn_hrnet()), "type=None")
    refuse(dict(type="EncoderDecoder"), "no decode_head")


def test_head_decides_what_is_ignored(batch):
    model = build(apply_sar(fcn_hrnet(ignore_index=254)))
    assert model.regularizer.ignore_index == 254
    with pytest.raises(ValueError, match="254"):
        model.regularizer(torch.zeros(1, 120, 4, 4), torch.full((1, 4, 4), 255), lambda e: e[:, :5])
    assert sample(torch.zeros(2, 2)).gt_sem_seg.data.shape == (1, 2, 2)


TRAINING = """
import sys
import torch
torch.set_num_threads(1)
from mmengine.config import Config
from mmengine.runner import Runner
from torch.utils.data import Dataset

config = Config.fromfile("config.py")

class Scenes(Dataset):
    def __len__(self):
        return 8

    def __getitem__(self, index):
        from mmengine.structures import PixelData
        from mmseg.structures import SegDataSample
        generator = torch.Generator().manual_seed(index)
        labels = torch.randint(0, 5, (1, 32, 32), generator=generator)
        data = SegDataSample(metainfo=dict(img_shape=(32, 32), ori_shape=(32, 32)))
        data.gt_sem_seg = PixelData(data=labels)
        image = torch.randint(0, 255, (3, 32, 32), generator=generator, dtype=torch.uint8)
        return dict(inputs=image, data_samples=data)

def run(iterations, resume=False):
    runner = Runner(
        model=config.model,
        work_dir="work",
        train_dataloader=dict(
            dataset=Scenes(),
            batch_size=2,
            sampler=dict(type="InfiniteSampler", shuffle=False),
            collate_fn=dict(type="pseudo_collate"),
        ),
        train_cfg=dict(type="IterBasedTrainLoop", max_iters=iterations, val_interval=100),
        optim_wrapper=dict(optimizer=dict(type="SGD", lr=0.01, momentum=0.9)),
        default_hooks=dict(checkpoint=dict(type="CheckpointHook", interval=1, by_epoch=False)),
        load_from=None if resume else "open.pth",
        randomness=dict(seed=3),
        resume=resume,
        default_scope="mmseg",
        experiment_name=f"test{iterations}",
    )
    runner.train()
    return runner

first = run(2)  # the weights it starts from have seen one batch of anchors
assert "pipelines" not in sys.modules
state = {k: v.clone() for k, v in first.model.state_dict().items()}
saved = torch.load("work/iter_2.pth", map_location="cpu", weights_only=False)["state_dict"]
assert all(torch.equal(saved[k], v) for k, v in state.items())
assert state["regularizer.initialized"] and state["regularizer.semantic_anchors"].abs().sum() > 0
assert state["regularizer.embedding.norm1.num_batches_tracked"] == 3
resumed = run(3, resume=True)
assert resumed.model.regularizer.embedding.norm1.num_batches_tracked == 4
assert torch.equal(resumed.model.regularizer.anchors, state["regularizer.anchors"])
moved = resumed.model.regularizer.semantic_anchors - saved["regularizer.semantic_anchors"]
assert 0 < moved.abs().max() < 0.02, "a resumed run goes on with its semantic anchors"
print("trained")
"""


def test_stock_runner_trains_and_resumes(tmp_path):
    config = segmentor(head("FCNHead", **SINGLE), resnet())
    model, _ = always_open(config)
    torch.save(model.state_dict(), tmp_path / "open.pth")
    config["data_preprocessor"] = dict(type="SegDataPreProcessor", size=(32, 32))
    applied = apply_sar(config, update_confidence=1e-6)
    imports = dict(imports=["sar.mmseg"], allow_failed_imports=False)
    Config(dict(model=applied, custom_imports=imports)).dump(tmp_path / "config.py")
    (tmp_path / "train.py").write_text(TRAINING)
    done = subprocess.run(
        [sys.executable, "train.py"],
        cwd=tmp_path,
        env={"PATH": "/usr/bin:/bin", "PYTHONPATH": str(ROOT), "HOME": str(tmp_path)},
        capture_output=True,
        text=True,
    )
    assert done.returncode == 0 and "trained" in done.stdout, done.stderr[-3000:]
    assert "sar.loss_aux_ce" not in done.stderr
