"""Two processes keep the state, and see the loss, of the whole batch."""

import pytest
import torch
import torch.distributed as dist
import torch.multiprocessing as mp

from sar.rivals.center_loss import CenterLoss
from sar.rivals.protoseg import PrototypeClassifier
from sar.rivals.prototypes import FeaturePrototypes
from sar.rivals.seesaw import SeesawLoss

K, C, STEPS = 3, 5, 3
MAKE = {
    "center loss": lambda: CenterLoss(K, C, generator=torch.Generator().manual_seed(0)),
    "prototypes": lambda: FeaturePrototypes(K, C, momentum=0.5),
    "seesaw": lambda: SeesawLoss(K),
    # Of one prototype nothing is drawn; of several that do not move neither: what is drawn depends
    # on the process.
    "ProtoSeg": lambda: protoseg(num_prototypes=1, momentum=0.5),
    "ProtoSeg, shared out": lambda: protoseg(num_prototypes=3, momentum=1.0),
}


def protoseg(**options):
    torch.manual_seed(0)
    return PrototypeClassifier(K, C, generator=torch.Generator().manual_seed(0), **options)


def train(module, part):
    generator = torch.Generator().manual_seed(3)
    losses = []
    for _ in range(STEPS):
        features = torch.randn(4, C, 5, 6, generator=generator)[part]
        labels = torch.randint(0, K, (4, 5, 6), generator=generator)
        labels[0, :4] = 255  # the first process has fewer pixels
        if isinstance(module, SeesawLoss):
            module(features[:, :K], labels[part])
        elif isinstance(module, PrototypeClassifier):
            losses += module.losses(module.scores(features), labels[part]).values()
        else:
            losses += module(features, labels[part]).values()
    return losses


def worker(rank, folder):
    torch.set_num_threads(1)
    dist.init_process_group("gloo", init_method=f"file://{folder}/meet", rank=rank, world_size=2)
    for name, make in MAKE.items():
        module = make()
        losses = train(module, slice(2 * rank, 2 * rank + 2))
        torch.save((module.state_dict(), losses), f"{folder}/{name}{rank}.pt")
    dist.destroy_process_group()


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    folder = tmp_path_factory.mktemp("distributed")
    mp.spawn(worker, (str(folder),), nprocs=2)
    return folder


@pytest.mark.parametrize("name", MAKE)
def test_two_processes_equal_the_whole_batch(folder, name):
    (state, first), (other, second) = (torch.load(folder / f"{name}{rank}.pt") for rank in range(2))
    whole = MAKE[name]()
    losses = train(whole, slice(None))
    for key, value in whole.state_dict().items():
        assert torch.equal(state[key], other[key]), key
        torch.testing.assert_close(state[key], value)
    for a, b, expected in zip(first, second, losses, strict=True):
        torch.testing.assert_close((a + b) / 2, expected)
