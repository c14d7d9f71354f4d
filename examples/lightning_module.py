"""Semantic anchors with Lightning: a mix-in for any LightningModule.

To run it: `pip install lightning`, then `python examples/lightning_module.py`.
"""

import lightning
import torch
import torch.nn.functional as F
import toy
from torch.utils.data import DataLoader, TensorDataset

from sar import SemanticAnchorRegularizer
from sar.checkpoints import baseline_state_dict


class SemanticAnchors:
    """Gives a LightningModule `anchor_loss`, and optimizers a group without weight decay.

    The attribute is called `regularizer`: `sar.checkpoints.baseline_state_dict` leaves it out.
    """

    def set_up_anchors(self, num_classes, channels, **options):
        self.regularizer = SemanticAnchorRegularizer(num_classes, channels, **options)

    def anchor_loss(self, features, labels, classifier):
        losses = self.regularizer(features, labels, classifier)
        self.log_dict(losses | self.regularizer.logged())
        return sum(losses.values())

    def parameter_groups(self):
        own = {id(parameter) for parameter in self.regularizer.parameters()}
        return [
            {"params": [each for each in self.parameters() if id(each) not in own]},
            {"params": [*self.regularizer.parameters()], "weight_decay": 0.0},
        ]


class Segmentation(SemanticAnchors, lightning.LightningModule):
    def __init__(self):
        super().__init__()
        self.net = toy.SegmentationNet()
        self.set_up_anchors(
            len(toy.CLASSES), self.net.channels, momentum=0.9, ignore_index=toy.VOID
        )

    def training_step(self, batch, _):
        images, labels = batch
        features = self.net.body(images)
        scores = self.net.classify(features, labels.shape[-2:])
        loss = F.cross_entropy(scores, labels, ignore_index=toy.VOID)
        return loss + self.anchor_loss(features, labels, self.net.classifier)

    def configure_optimizers(self):
        return torch.optim.AdamW(self.parameter_groups(), lr=0.01)


def main(steps=80):
    torch.manual_seed(0)
    module = Segmentation()
    loader = DataLoader(TensorDataset(*toy.scenes(64)), batch_size=8, shuffle=True)
    trainer = lightning.Trainer(
        max_steps=steps,
        accelerator="auto",
        logger=False,
        enable_checkpointing=False,
        enable_progress_bar=False,
        enable_model_summary=False,
    )
    trainer.fit(module, loader)

    module.cpu().eval()
    images, labels = toy.scenes(32, seed=1)
    with torch.no_grad():
        accuracy = toy.accuracy(module.net(images), labels)
    print(f"mean accuracy {accuracy:.3f}, anchors set: {bool(module.regularizer.initialized)}")
    return {
        "accuracy": accuracy,
        "regularizer": module.regularizer,
        "state": baseline_state_dict(module),
        "logged": trainer.callback_metrics,
    }


if __name__ == "__main__":
    main()
