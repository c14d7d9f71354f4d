"""The pull on a CUDA device: kernel and torch path, under torch.compile, and in a CUDA graph.

What the kernels compute is tested in `tests/sar/test_pull_kernel.py`, which runs on either device.
"""

from __future__ import annotations

import importlib.util

import pytest
import torch

from sar import SemanticAnchorRegularizer
from sar import pull as pull_module
from sar.pull import pixel_to_anchor_pull
from tests.gpu.test_training import knows_the_anchors

pytestmark = [
    pytest.mark.gpu,
    pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA device"),
]
PATHS = ["torch", "kernel"] if importlib.util.find_spec("triton") else ["torch"]
LAYOUTS = [torch.contiguous_format, torch.channels_last]
K, C = 19, 96


def problem(dtype=torch.float32, layout=torch.contiguous_format, size=(3, C, 30, 41)):
    generator = torch.Generator().manual_seed(1)
    features = torch.randn(size, generator=generator).cuda().to(dtype)
    labels = torch.randint(0, K, (size[0], 120, 164), generator=generator).cuda()
    labels[:, :30] = 255
    anchors = torch.randn(K, C, generator=generator).cuda()
    return features.contiguous(memory_format=layout).requires_grad_(), labels, anchors


def exact(features, labels, anchors):
    """In float64 on the CPU."""
    x = features.detach().cpu().double().requires_grad_()
    value = pixel_to_anchor_pull(x, labels.cpu(), anchors.cpu().double())
    value.backward()
    return value.detach(), x.grad


@pytest.mark.parametrize("path", PATHS)
@pytest.mark.parametrize("layout", LAYOUTS)
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16, torch.float16])
@pytest.mark.parametrize("block", [None, 5000], ids=["one piece", "blocks"])
def test_it_is_that_of_a_cpu(path, layout, dtype, block, monkeypatch):
    if block is not None:
        monkeypatch.setattr(pull_module, "_BLOCK_GPU", block)
    features, labels, anchors = problem(dtype, layout)
    value = pixel_to_anchor_pull(features, labels, anchors, path=path)
    value.backward()
    expected, gradient = exact(features, labels, anchors)
    torch.testing.assert_close(value.cpu().double(), expected, rtol=2e-6, atol=0)
    rounding = max(torch.finfo(dtype).eps, 1e-5)
    torch.testing.assert_close(features.grad.cpu().double(), gradient, rtol=rounding, atol=1e-7)


@pytest.mark.parametrize("path", PATHS)
def test_equal_bits_every_time(path):
    found = []
    for _ in range(3):
        features, labels, anchors = problem()
        value = pixel_to_anchor_pull(features, labels, anchors, path=path)
        value.backward()
        found.append((value.detach(), features.grad))
    for value, gradient in found[1:]:
        assert torch.equal(value, found[0][0]) and torch.equal(gradient, found[0][1])


@pytest.mark.skipif("kernel" not in PATHS, reason="needs Triton")
def test_the_kernel_holds_nothing_beside_the_gradient():
    """At most 5 % of the features."""
    features, labels, anchors = problem(size=(8, C, 128, 128))
    pixel_to_anchor_pull(features, labels, anchors, path="kernel").backward()  # warms up
    features.grad = None
    torch.cuda.synchronize()
    torch.cuda.reset_peak_memory_stats()
    before = torch.cuda.memory_allocated()
    pixel_to_anchor_pull(features, labels, anchors, path="kernel").backward()
    assert torch.cuda.max_memory_allocated() - before <= 1.05 * features.nbytes


@pytest.mark.skipif("kernel" not in PATHS, reason="needs Triton")
@pytest.mark.parametrize("layout", LAYOUTS)
def test_compiled_without_a_break_in_the_graph(layout):
    features, labels, anchors = problem(layout=layout)

    def loss(x):
        return pixel_to_anchor_pull(x.relu(), labels, anchors, factor=0.1, path="kernel")

    x = features.detach().clone().requires_grad_()
    value = torch.compile(loss, fullgraph=True)(x)
    value.backward()
    expected = loss(features)
    expected.backward()
    torch.testing.assert_close(value, expected)
    torch.testing.assert_close(x.grad, features.grad)


@pytest.mark.parametrize("path", PATHS)
def test_the_regularizer_in_a_cuda_graph(path, monkeypatch):
    """Replayed on other features, it gives the losses and gradients of a call."""
    monkeypatch.setenv("SAR_PULL", path)
    torch.manual_seed(0)
    regularizer = SemanticAnchorRegularizer(K, C, update_confidence=0.2, momentum=1.0)
    classifier = torch.nn.Conv2d(C, K, 1)
    knows_the_anchors(regularizer, classifier)
    regularizer, classifier = regularizer.cuda(), classifier.cuda()
    features, labels, _ = problem()

    def run(x):
        loss = sum(regularizer(x, labels, classifier).values())
        return loss, *torch.autograd.grad(loss, x)

    side = torch.cuda.Stream()
    side.wait_stream(torch.cuda.current_stream())
    with torch.cuda.stream(side):
        for _ in range(3):
            run(features)
    torch.cuda.current_stream().wait_stream(side)
    graph = torch.cuda.CUDAGraph()
    with torch.cuda.graph(graph):
        value, gradient = run(features)
    other = torch.randn_like(features)
    with torch.no_grad():
        features.copy_(other)
    graph.replay()
    expected = run(other.requires_grad_())
    assert regularizer.gate
    torch.testing.assert_close(value, expected[0])
    torch.testing.assert_close(gradient, expected[1])
