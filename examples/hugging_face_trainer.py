"""Semantic anchors with Hugging Face's Trainer: SegFormer, tiny and with random weights.

To begin with published weights, make the model of their config and load them into it by
`model.load_state_dict(published.state_dict(), strict=False)`: `from_pretrained` knows nothing of
the regularizer, and would leave its anchors without values.

To run it: `pip install transformers accelerate`, then `python examples/hugging_face_trainer.py`.
"""

import tempfile

import torch
import toy
from torch.utils.data import Dataset
from transformers import (
    SegformerConfig,
    SegformerForSemanticSegmentation,
    Trainer,
    TrainingArguments,
)

from sar import SemanticAnchorRegularizer
from sar.checkpoints import baseline_state_dict


class AnchoredSegformer(SegformerForSemanticSegmentation):
    """SegFormer whose loss has the terms of semantic anchors; its predictions are SegFormer's."""

    def __init__(self, config, **options):
        super().__init__(config)
        self.regularizer = SemanticAnchorRegularizer(
            config.num_labels,
            config.decoder_hidden_size,
            ignore_index=config.semantic_loss_ignore_index,
            **options,
        )
        # What enters the dropout before the classifier is the feature.
        self.decode_head.dropout.register_forward_pre_hook(self._keep)

    def _keep(self, _, inputs):
        self._features = inputs[0]

    def forward(self, pixel_values, labels=None, **kwargs):
        outputs = super().forward(pixel_values, labels=labels, **kwargs)
        if self.training and labels is not None:
            head = self.decode_head
            losses = self.regularizer(self._features, labels, head.classifier)
            outputs.loss = outputs.loss + sum(losses.values())
        self._features = None
        return outputs


class Scenes(Dataset):
    def __init__(self, count, seed=0):
        self.images, self.labels = toy.scenes(count, seed=seed)

    def __len__(self):
        return len(self.images)

    def __getitem__(self, index):
        return {"pixel_values": self.images[index], "labels": self.labels[index]}


def main(steps=160):
    torch.manual_seed(0)
    config = SegformerConfig(
        hidden_sizes=[8, 16, 16, 16],
        depths=[1, 1, 1, 1],
        num_attention_heads=[1, 1, 1, 1],
        decoder_hidden_size=16,
        num_labels=len(toy.CLASSES),
        drop_path_rate=0.0,
        semantic_loss_ignore_index=toy.VOID,
    )
    model = AnchoredSegformer(config, momentum=0.9)
    with tempfile.TemporaryDirectory() as folder:
        arguments = TrainingArguments(
            output_dir=folder,
            max_steps=steps,
            per_device_train_batch_size=8,
            learning_rate=2e-3,
            lr_scheduler_type="constant",
            save_strategy="no",
            logging_strategy="no",
            report_to=[],
            disable_tqdm=True,
        )
        Trainer(model=model, args=arguments, train_dataset=Scenes(64)).train()

    # For use: a SegFormer as it ever was, without the regularizer.
    bare = SegformerForSemanticSegmentation(config).eval()
    bare.load_state_dict(baseline_state_dict(model.cpu()))
    test = Scenes(32, seed=1)
    with torch.no_grad():
        scores = bare(test.images).logits
    scores = torch.nn.functional.interpolate(scores, test.labels.shape[-2:], mode="bilinear")
    accuracy = toy.accuracy(scores, test.labels)
    print(f"mean accuracy {accuracy:.3f}, anchors set: {bool(model.regularizer.initialized)}")
    return {"accuracy": accuracy, "regularizer": model.regularizer, "state": bare.state_dict()}


if __name__ == "__main__":
    main()
