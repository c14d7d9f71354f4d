"""Tiny models and golden traces, shared by the tests of ``sar``."""

import copy
from pathlib import Path

import numpy as np

GOLDEN = Path(__file__).parents[1] / "golden"
BN = dict(type="BN", requires_grad=True)
CLASSES = ["road", "car", "sky", "wall", "tree"]
NORMAL = dict(
    type="SegDataPreProcessor",
    mean=[120.0, 110.0, 100.0],
    std=[60.0, 55.0, 50.0],
    bgr_to_rgb=True,
)


def loss_traces():
    """Traces of the loss alone: those without a checkpoint beside them."""
    return [p for p in sorted(GOLDEN.glob("*.npz")) if not p.with_suffix(".pth").exists()]


def model_traces():
    """Traces of whole models."""
    return [p for p in sorted(GOLDEN.glob("*.npz")) if p.with_suffix(".pth").exists()]


def load_trace(path):
    with np.load(path) as trace:
        return dict(trace)


def sample(labels):
    """A data sample with labels (H, W)."""
    from mmengine.structures import PixelData
    from mmseg.structures import SegDataSample

    shape = tuple(labels.shape)
    data = SegDataSample(metainfo=dict(img_shape=shape, ori_shape=shape, pad_shape=shape))
    data.gt_sem_seg = PixelData(data=labels.long()[None])
    return data


def head(kind, classes=5, **options):
    defaults = dict(
        type=kind,
        channels=16,
        num_classes=classes,
        dropout_ratio=0.1,
        norm_cfg=BN,
        align_corners=False,
        loss_decode=dict(type="CrossEntropyLoss", use_sigmoid=False, loss_weight=1.0),
    )
    return {**defaults, **options}


def segmentor(decode_head, backbone=None, kind="EncoderDecoder", **options):
    backbone = backbone or resnet()
    tests = dict(train_cfg=dict(), test_cfg=dict(mode="whole"))
    return copy.deepcopy(
        dict(type=kind, backbone=backbone, decode_head=decode_head, **tests, **options)
    )


def resnet(**options):
    """ResNet-18 at a quarter of its width: 16, 32, 64, 128 channels."""
    return dict(
        type="ResNet",
        depth=18,
        stem_channels=16,
        base_channels=16,
        num_stages=4,
        strides=(1, 2, 1, 1),
        dilations=(1, 1, 1, 1),
        norm_cfg=BN,
        **options,
    )


def hrnet():
    def stage(block, blocks, channels):
        return dict(
            num_modules=1,
            num_branches=len(blocks),
            block=block,
            num_blocks=blocks,
            num_channels=channels,
        )

    extra = dict(
        stage1=stage("BOTTLENECK", (1,), (16,)),
        stage2=stage("BASIC", (1, 1), (8, 16)),
        stage3=stage("BASIC", (1, 1, 1), (8, 16, 32)),
        stage4=stage("BASIC", (1, 1, 1, 1), (8, 16, 32, 64)),
    )
    return dict(type="HRNet", norm_cfg=BN, norm_eval=False, extra=extra)


def hrnet_inputs(**options):
    options = {"in_channels": [8, 16, 32, 64], "in_index": [0, 1, 2, 3], **options}
    return dict(input_transform="resize_concat", channels=120, **options)


def fcn_hrnet(classes=5, **options):
    options = {"kernel_size": 1, "num_convs": 1, "concat_input": False, **options}
    return segmentor(head("FCNHead", classes, **hrnet_inputs(), **options), hrnet())


def upernet_swin(classes=5, dropout=0.1):
    backbone = dict(
        type="SwinTransformer",
        pretrain_img_size=64,
        embed_dims=16,
        depths=(1, 1, 1, 1),
        num_heads=(1, 2, 4, 8),
        window_size=4,
        drop_path_rate=0.0,
    )
    decode = head(
        "UPerHead",
        classes,
        in_channels=[16, 32, 64, 128],
        in_index=[0, 1, 2, 3],
        pool_scales=(1, 2, 3, 6),
        channels=32,
        dropout_ratio=dropout,
    )
    auxiliary = head(
        "FCNHead",
        classes,
        in_channels=64,
        in_index=2,
        num_convs=1,
        concat_input=False,
        dropout_ratio=dropout,
        loss_decode=dict(type="CrossEntropyLoss", use_sigmoid=False, loss_weight=0.4),
    )
    return segmentor(decode, backbone, auxiliary_head=auxiliary)


def ocr_cascade(classes=5):
    first = head("FCNHead", classes, **hrnet_inputs(), kernel_size=1, num_convs=1)
    last = head("OCRHead", classes, **{**hrnet_inputs(), "channels": 16}, ocr_channels=8)
    return segmentor([first, last], hrnet(), "CascadeEncoderDecoder", num_stages=2)


def segformer(classes=5):
    backbone = dict(
        type="MixVisionTransformer",
        embed_dims=8,
        num_stages=4,
        num_layers=[1, 1, 1, 1],
        num_heads=[1, 2, 4, 8],
        patch_sizes=[7, 3, 3, 3],
        sr_ratios=[8, 4, 2, 1],
        out_indices=(0, 1, 2, 3),
        mlp_ratio=2,
        drop_path_rate=0.1,
    )
    decode = head("SegformerHead", classes, in_channels=[8, 16, 32, 64], in_index=[0, 1, 2, 3])
    return segmentor(decode, backbone)


def golden_model_config(name):
    """Config of a golden whole model, by the name of its file: ``<architecture>_k<classes>``."""
    architecture, classes = name.rsplit("_k", 1)
    if architecture == "fcn_hrnet":
        return fcn_hrnet(int(classes), dropout_ratio=-1)
    if architecture == "upernet_swin":
        return upernet_swin(int(classes), dropout=0.0)
    raise KeyError(f"{name}: give the architecture of this trace here")


def tiny_bundle(config=None, **fields):
    """A trained model, of random weights whose scores differ enough for several classes."""
    import torch

    from sar.trained.bundle import Bundle, build_bare

    torch.manual_seed(1)
    if config is None:
        norm = dict(type="GN", num_groups=4)  # of an image: more than one class is found in it
        config = segmentor(head("FCNHead", in_channels=64, in_index=2, norm_cfg=norm))
    config.setdefault("data_preprocessor", NORMAL)
    weights = build_bare(config, []).state_dict()
    name = "decode_head.conv_seg.weight"
    weights[name] = 10 * torch.randn(weights[name].shape)
    return Bundle(config, weights, CLASSES, **fields)


def train_one_step(model, batch, own="regularizer"):
    """The losses of a step of SGD, in which all parameters with `own` in their names take part."""
    import torch

    model.train()
    losses = model(*batch, mode="loss")
    total, logged = model.parse_losses(losses)
    assert all(torch.isfinite(torch.as_tensor(value)).all() for value in logged.values())
    total.backward()
    for name, parameter in model.named_parameters():
        assert parameter.grad is None or parameter.grad.isfinite().all(), name
        assert parameter.grad is not None or own not in name, f"DDP waits for {name}"
    torch.optim.SGD(model.parameters(), lr=0.01).step()
    return losses


def boundary_batch():
    """Two images with edge maps, which heads of several branches ask for."""
    import torch
    from mmengine.structures import PixelData

    samples = [sample(torch.randint(0, 5, (64, 64))) for _ in range(2)]
    for one in samples:
        one.gt_edge_map = PixelData(data=torch.zeros_like(one.gt_sem_seg.data))
    return torch.randn(2, 3, 64, 64), samples
