"""Two processes see the loss and the gradients of the whole batch."""

import faulthandler

import pytest
import torch
import torch.distributed as dist
import torch.multiprocessing as mp
from torch.nn.parallel import DistributedDataParallel

from sar import SemanticAnchorRegularizer

K, C, STEPS = 3, 16, 3
VOIDS = ("unequal", "one process has void only")


class Model(torch.nn.Module):
    """A stem, and the regularizer on top: the smallest thing that trains like a segmentor."""

    def __init__(self):
        super().__init__()
        generator = torch.Generator().manual_seed(0)
        self.stem = torch.nn.Conv2d(2, C, 1)
        self.classifier = torch.nn.Conv2d(C, K, 1)
        with torch.no_grad():
            for p in self.parameters():
                p.copy_(0.3 * torch.randn(p.shape, generator=generator))
        self.regularizer = SemanticAnchorRegularizer(
            K, C, update_confidence=0.01, filter_confidence=1.0, generator=generator
        )
        with torch.no_grad():
            # The classifier is right about every anchor from the start, so the gate is open.
            e = self.regularizer.embedding(self.regularizer.anchors).flatten(1)
            self.classifier.weight.copy_(5 * torch.linalg.pinv(e).T[:, :, None, None])

    def forward(self, images, labels):
        losses = self.regularizer(self.stem(images), labels, self.classifier)
        return sum(losses.values()), losses["loss_p2a"], self.regularizer.gate


def data(void):
    generator = torch.Generator().manual_seed(3)
    images = torch.randn(4, 2, 5, 5, generator=generator)
    labels = torch.randint(0, K, (4, 5, 5), generator=generator)
    if void == "unequal":
        labels[0, :4] = 255
        labels[3, 1] = 255
    else:
        labels[2:] = 255  # all that the second process has
    return images, labels


def train(model, images, labels):
    optimizer = torch.optim.SGD(model.parameters(), lr=0.05)
    pulls = []
    for _ in range(STEPS):
        loss, pull, gate = model(images, labels)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        assert gate
        pulls.append(pull.detach())
    return torch.stack(pulls)


def worker(rank, folder):
    faulthandler.dump_traceback_later(300, exit=True)  # a deadlock fails and says where
    torch.set_num_threads(1)
    dist.init_process_group("gloo", init_method=f"file://{folder}/meet", rank=rank, world_size=2)
    part = slice(2 * rank, 2 * rank + 2)
    for void in VOIDS:
        images, labels = data(void)
        model = DistributedDataParallel(Model())
        pulls = train(model, images[part], labels[part])
        torch.save(dict(state=model.module.state_dict(), pulls=pulls), f"{folder}/{void}{rank}.pt")
    # One process alone finds its gate closed: then it is closed for both.
    regularizer = SemanticAnchorRegularizer(K, C)
    sign = 1.0 if rank == 0 else -1.0
    regularizer(images[part][:, :1].repeat(1, C, 1, 1), labels[part], lambda e: sign * scores())
    assert not regularizer.gate and not regularizer.initialized
    dist.destroy_process_group()
    faulthandler.cancel_dump_traceback_later()


def scores():
    return 50 * torch.eye(K)[:, :, None, None]


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    folder = tmp_path_factory.mktemp("distributed")
    mp.spawn(worker, (str(folder),), nprocs=2)
    return folder


@pytest.mark.parametrize("void", VOIDS)
def test_two_processes_equal_the_whole_batch(folder, void):
    first, second = (torch.load(folder / f"{void}{rank}.pt") for rank in range(2))
    whole = Model()
    pulls = train(whole, *data(void))
    torch.testing.assert_close((first["pulls"] + second["pulls"]) / 2, pulls)
    for name, value in whole.state_dict().items():
        assert torch.equal(first["state"][name], second["state"][name]), name
        torch.testing.assert_close(first["state"][name], value, rtol=1e-5, atol=1e-6)
