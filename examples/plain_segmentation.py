"""Semantic anchors in a training loop of plain PyTorch: segmentation.

To run it: `python examples/plain_segmentation.py`.
"""

import torch
import torch.nn.functional as F
import toy

from sar import SemanticAnchorRegularizer
from sar.regularizer import scaled_momentum


def main(steps=80):
    torch.manual_seed(0)
    images, labels = toy.scenes(64)
    net = toy.SegmentationNet()
    regularizer = SemanticAnchorRegularizer(
        num_classes=len(toy.CLASSES),
        channels=net.channels,
        momentum=scaled_momentum(steps),  # 0.999 was meant for 80,000 steps
        ignore_index=toy.VOID,
    )
    # The embedding of the anchors is trained too, and kept out of weight decay.
    optimizer = torch.optim.AdamW(
        [
            {"params": net.parameters()},
            {"params": regularizer.parameters(), "weight_decay": 0.0},
        ],
        lr=0.01,
    )
    for step in range(steps):
        batch = torch.randperm(len(images))[:8]
        x, y = images[batch], labels[batch]
        features = net.body(x)  # as they enter the classifier, before dropout
        loss = F.cross_entropy(net.classify(features, y.shape[-2:]), y, ignore_index=toy.VOID)
        anchored = regularizer(features, y, net.classifier)
        optimizer.zero_grad()
        (loss + anchored["loss_aux_ce"] + anchored["loss_p2a"]).backward()
        optimizer.step()
        if step % 20 == 19:
            terms = ", ".join(f"{name} {value.item():.3f}" for name, value in anchored.items())
            print(f"step {step + 1}: loss {loss.item():.3f}, {terms}")

    net.eval()  # prediction is that of the network alone
    images, labels = toy.scenes(32, seed=1)
    with torch.no_grad():
        accuracy = toy.accuracy(net(images), labels)
    print(f"mean accuracy {accuracy:.3f}, anchors set: {bool(regularizer.initialized)}")
    return {"accuracy": accuracy, "regularizer": regularizer, "state": net.state_dict()}


if __name__ == "__main__":
    main()
