"""Semantic anchors in a training loop of plain PyTorch: classification of whole images.

Features are (N, C), labels (N,), and the classifier is an `nn.Linear`.

To run it: `python examples/plain_classification.py`.
"""

import torch
import torch.nn.functional as F
import toy
from torch import nn

from sar import SemanticAnchorRegularizer
from sar.regularizer import scaled_momentum


class Net(nn.Module):
    def __init__(self, channels=16):
        super().__init__()
        self.body = nn.Sequential(
            *(nn.Conv2d(3, channels, 3, stride=2, padding=1), nn.BatchNorm2d(channels), nn.ReLU()),
            *(nn.Conv2d(channels, channels, 3, padding=1), nn.BatchNorm2d(channels), nn.ReLU()),
            *(nn.AdaptiveAvgPool2d(1), nn.Flatten()),
        )
        self.classifier = nn.Linear(channels, len(toy.CLASSES))

    def forward(self, images):
        return self.classifier(self.body(images))


def main(steps=80):
    torch.manual_seed(0)
    images, labels = toy.photos(256)
    net = Net()
    regularizer = SemanticAnchorRegularizer(
        num_classes=len(toy.CLASSES),
        channels=net.classifier.in_features,
        momentum=scaled_momentum(steps),
        ignore_index=None,
    )
    optimizer = torch.optim.Adam([*net.parameters(), *regularizer.parameters()], lr=0.01)
    for step in range(steps):
        batch = torch.randperm(len(images))[:32]
        features = net.body(images[batch])
        loss = F.cross_entropy(net.classifier(features), labels[batch])
        anchored = regularizer(features, labels[batch], net.classifier)
        optimizer.zero_grad()
        (loss + sum(anchored.values())).backward()
        optimizer.step()
        if step % 20 == 19:
            terms = ", ".join(f"{name} {value.item():.3f}" for name, value in anchored.items())
            print(f"step {step + 1}: loss {loss.item():.3f}, {terms}")

    net.eval()
    images, labels = toy.photos(128, seed=1)
    with torch.no_grad():
        accuracy = toy.accuracy(net(images), labels)
    print(f"mean accuracy {accuracy:.3f}, anchors set: {bool(regularizer.initialized)}")
    return {"accuracy": accuracy, "regularizer": regularizer, "state": net.state_dict()}


if __name__ == "__main__":
    main()
