"""Semantic anchors with mmengine's Runner and a model of mmsegmentation, without the pipeline.

To run it: `pip install '.[mmseg]'` in a checkout, then `python examples/mmengine_runner.py`.
"""

import tempfile

import torch
import toy
from mmengine.registry import init_default_scope
from mmengine.runner import Runner
from mmengine.structures import PixelData
from mmseg.structures import SegDataSample
from torch.utils.data import Dataset

from sar.checkpoints import baseline_state_dict
from sar.mmseg import apply_sar
from sar.packaged import register_mmseg
from sar.weight_decay import without_decay

BN = {"type": "BN", "requires_grad": True}
MODEL = {
    "type": "EncoderDecoder",
    "data_preprocessor": {
        "type": "SegDataPreProcessor",
        "mean": [127.5] * 3,
        "std": [127.5] * 3,
        "bgr_to_rgb": True,
        "size": (32, 32),
    },
    "backbone": {
        "type": "ResNet",
        "depth": 18,
        "stem_channels": 8,
        "base_channels": 8,
        "strides": (1, 1, 1, 1),
        "dilations": (1, 1, 1, 1),
        "norm_cfg": BN,
    },
    "decode_head": {
        "type": "FCNHead",
        "in_channels": 64,
        "channels": 16,
        "num_convs": 1,
        "concat_input": False,
        "num_classes": len(toy.CLASSES),
        "norm_cfg": BN,
        "align_corners": False,
        "loss_decode": {"type": "CrossEntropyLoss", "use_sigmoid": False},
    },
    "train_cfg": {},
    "test_cfg": {"mode": "whole"},
}


class Scenes(Dataset):
    """What transforms of mmsegmentation would give: BGR images and data samples."""

    metainfo = {"classes": toy.CLASSES}  # noqa: RUF012  mmengine looks for it here

    def __init__(self, count, seed=0):
        images, self.labels = toy.scenes(count, seed=seed)
        self.images = (255 * images.clamp(0, 1)).byte().flip(1)

    def __len__(self):
        return len(self.images)

    def __getitem__(self, index):
        shape = tuple(self.labels[index].shape)
        sample = SegDataSample(metainfo={"ori_shape": shape, "img_shape": shape})
        sample.gt_sem_seg = PixelData(data=self.labels[index][None])
        return {"inputs": self.images[index], "data_samples": sample}


def main(steps=60):
    register_mmseg()
    init_default_scope("mmseg")
    with tempfile.TemporaryDirectory() as folder:
        runner = Runner(
            model=apply_sar(MODEL, momentum="auto", iterations=steps),
            work_dir=folder,
            train_dataloader={
                "batch_size": 8,
                "dataset": Scenes(64),
                "sampler": {"type": "InfiniteSampler", "shuffle": True},
                "collate_fn": {"type": "pseudo_collate"},
            },
            train_cfg={"type": "IterBasedTrainLoop", "max_iters": steps},
            optim_wrapper={
                "type": "OptimWrapper",
                "optimizer": {"type": "AdamW", "lr": 0.005, "weight_decay": 0.01},
                **without_decay(),
            },
            default_hooks={"logger": {"type": "LoggerHook", "interval": 20}, "checkpoint": None},
            randomness={"seed": 0},
            default_scope="mmseg",
        )
        model = runner.train()

    model.cpu().eval()
    test = Scenes(32, seed=1)
    with torch.no_grad():
        samples = model.test_step({"inputs": [*test.images], "data_samples": [
            test[index]["data_samples"] for index in range(len(test))
        ]})  # fmt: skip
    found = torch.stack([sample.seg_logits.data for sample in samples])
    accuracy = toy.accuracy(found, test.labels)
    print(f"mean accuracy {accuracy:.3f}, anchors set: {bool(model.regularizer.initialized)}")
    return {
        "accuracy": accuracy,
        "regularizer": model.regularizer,
        "state": baseline_state_dict(model),
    }


if __name__ == "__main__":
    main()
