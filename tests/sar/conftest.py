"""Fixtures of the tests of ``sar``."""

import logging

import pytest
import torch
from sar_cases import sample


@pytest.fixture(autouse=True)
def _seeded():
    torch.manual_seed(0)
    logging.disable(logging.INFO)  # init_weights writes a line per parameter


@pytest.fixture
def batch():
    """Two images 48 x 64 and their labels among 5 classes, some void."""
    generator = torch.Generator().manual_seed(7)
    images = torch.randn(2, 3, 48, 64, generator=generator)
    labels = torch.randint(0, 5, (2, 48, 64), generator=generator)
    labels[:, :6] = 255
    return images, [sample(x) for x in labels]
