import math

import pytest
import torch

from sar.anchors import make_anchors


@pytest.mark.parametrize("kind", ["gaussian", "orthonormal", "simplex"])
def test_generator_decides_and_global_state_is_untouched(kind):
    before = torch.get_rng_state()
    first = make_anchors(kind, 5, 12, torch.Generator().manual_seed(3))
    again = make_anchors(kind, 5, 12, torch.Generator().manual_seed(3))
    other = make_anchors(kind, 5, 12, torch.Generator().manual_seed(4))
    assert torch.equal(torch.get_rng_state(), before)
    assert first.shape == (5, 12) and first.dtype == torch.float32
    assert torch.equal(first, again) and not torch.equal(first, other)
    make_anchors(kind, 5, 12)
    assert not torch.equal(torch.get_rng_state(), before)


def test_gaussian_is_not_normalised():
    anchors = make_anchors("gaussian", 200, 300, torch.Generator().manual_seed(0))
    assert anchors.mean().abs() < 0.02 and abs(anchors.std() - 1) < 0.02
    assert anchors.norm(dim=1).std() > 0.3


@pytest.mark.parametrize(("k", "c"), [(5, 5), (7, 24)])
def test_orthonormal(k, c):
    anchors = make_anchors("orthonormal", k, c)
    torch.testing.assert_close(anchors @ anchors.T, c * torch.eye(k), atol=1e-4, rtol=1e-5)


@pytest.mark.parametrize(("k", "c"), [(2, 1), (5, 4), (7, 24)])
def test_simplex(k, c):
    anchors = make_anchors("simplex", k, c)
    cosines = anchors @ anchors.T / c
    expected = torch.full((k, k), -1 / (k - 1)).fill_diagonal_(1.0)
    torch.testing.assert_close(cosines, expected, atol=1e-5, rtol=0)
    assert anchors.sum(0).abs().max() < 1e-4 * math.sqrt(c)


@pytest.mark.parametrize("given", [[[1, 2, 3], [4, 5, 6]], torch.arange(6.0).view(2, 3).double()])
def test_given_numbers_are_copied(given):
    anchors = make_anchors(given, 2, 3)
    assert anchors.dtype == torch.float32 and anchors.shape == (2, 3)
    anchors.zero_()
    assert torch.as_tensor(given).abs().sum() > 0


@pytest.mark.parametrize(
    ("kind", "k", "c", "word"),
    [
        ("uniform", 3, 4, "uniform"),
        ("orthonormal", 5, 4, "channels >= num_classes"),
        ("simplex", 6, 4, "channels >= num_classes - 1"),
        ([[1.0, 2.0]], 2, 2, r"\(1, 2\)"),
        ([[1.0, 2.0], [3.0]], 2, 2, "finite numbers"),
        ([[1.0, float("nan")], [3.0, 4.0]], 2, 2, "NaN"),
        ([[1.0, 2.0], [float("-inf"), 4.0]], 2, 2, "NaN or infinity .that of class 1"),
        (torch.full((2, 2), 1e300, dtype=torch.float64), 2, 2, "infinity"),
        (torch.full((2, 2), float("nan"), dtype=torch.float16), 2, 2, "NaN"),
        (torch.ones(2, 2, dtype=torch.complex64), 2, 2, "finite numbers .*complex64"),
        ([[1j, 2.0], [3.0, 4.0]], 2, 2, "complex64"),
        (torch.eye(2).to_sparse(), 2, 2, "sparse"),
        (torch.ones(2, 2, device="meta"), 2, 2, "finite numbers"),
        (7, 2, 2, "finite numbers"),
        (None, 2, 2, "NoneType"),
    ],
)
def test_refusals(kind, k, c, word):
    with pytest.raises(ValueError, match=word):
        make_anchors(kind, k, c)
