import pytest
import torch
import torch.nn.functional as F

from sar import pull as pull_module
from sar.pull import pixel_to_anchor_pull, resize_labels

K, N, C, H, W = 5, 2, 6, 7, 9
BROKEN = [float("nan"), float("inf"), -float("inf")]


def plain(features, labels, anchors, ignore_index=255):
    """The definition, written out."""
    valid = labels != ignore_index if ignore_index is not None else torch.ones_like(labels).bool()
    rows = features.permute(0, 2, 3, 1)[valid]
    return (rows - anchors[labels[valid].long()]).square().mean()


def problem(dtype=torch.float32):
    generator = torch.Generator().manual_seed(1)
    features = torch.randn(N, C, H, W, generator=generator, dtype=torch.float64).to(dtype)
    anchors = torch.randn(K, C, generator=generator)
    labels = torch.randint(0, K, (N, H, W), generator=generator)
    labels[:, 0] = 255
    return features, labels, anchors


def layouts(features):
    wide = F.pad(features, (1, 2))
    return {
        "contiguous": features,
        "channels_last": features.contiguous(memory_format=torch.channels_last),
        "sliced": wide[..., 1:-2],
        "permuted": features.permute(3, 0, 1, 2).contiguous().permute(1, 2, 3, 0),
        "expanded": features[:, :1].expand(-1, C, -1, -1),
    }


@pytest.mark.parametrize("block", [None, 4, 11, 20])
@pytest.mark.parametrize(
    "layout", ["contiguous", "channels_last", "sliced", "permuted", "expanded"]
)
def test_value_and_gradient(layout, block, monkeypatch):
    if block is not None:
        monkeypatch.setattr(pull_module, "_BLOCK_CPU", block)
    features, labels, anchors = problem()
    x = layouts(features)[layout].detach().requires_grad_()
    y = x.detach().clone().requires_grad_()
    value, expected = pixel_to_anchor_pull(x, labels, anchors), plain(y, labels, anchors)
    torch.testing.assert_close(value, expected)
    (3 * value).backward()
    (3 * expected).backward()
    torch.testing.assert_close(x.grad, y.grad)
    assert x.grad[:, :, 0].abs().max() == 0, "void pixels get no gradient"


@pytest.mark.parametrize("memory_format", [torch.contiguous_format, torch.channels_last])
def test_gradcheck(memory_format):
    features, labels, anchors = problem(torch.float64)
    x = features.contiguous(memory_format=memory_format).requires_grad_()
    assert torch.autograd.gradcheck(lambda f: pixel_to_anchor_pull(f, labels, anchors.double()), x)


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16, torch.float64])
def test_other_types(dtype):
    features, labels, anchors = problem(dtype)
    x = features.requires_grad_()
    value = pixel_to_anchor_pull(x, labels, anchors)
    value.backward()
    assert value.dtype == (torch.float64 if dtype == torch.float64 else torch.float32)
    assert x.grad.dtype == dtype
    wide = features.detach().double().requires_grad_()
    expected = plain(wide, labels, anchors.double())
    expected.backward()
    torch.testing.assert_close(value.double(), expected, rtol=1e-6, atol=0)
    torch.testing.assert_close(x.grad, wide.grad.to(dtype))


def test_large_half_precision_values_do_not_overflow():
    x = torch.full((1, 4, 8, 8), 3e4, dtype=torch.float16, requires_grad=True)
    value = pixel_to_anchor_pull(x, torch.zeros(1, 8, 8).long(), torch.zeros(2, 4))
    value.backward()
    torch.testing.assert_close(value.item(), float(x.detach()[0, 0, 0, 0]) ** 2)
    assert torch.isfinite(x.grad).all() and (x.grad > 0).all()


def test_all_ignored_is_zero():
    features, labels, anchors = problem()
    x = features.requires_grad_()
    value = pixel_to_anchor_pull(x, torch.full_like(labels, 255), anchors)
    value.backward()
    assert value == 0 and x.grad.abs().max() == 0


@pytest.mark.parametrize("value", BROKEN)
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64, torch.float16, torch.bfloat16])
@pytest.mark.parametrize("layout", ["contiguous", "channels_last", "sliced"])
def test_what_a_void_pixel_holds_contributes_nothing(layout, dtype, value):
    features, labels, anchors = problem(dtype)
    expected, gradient = value_and_gradient(layouts(features)[layout], labels, anchors)
    features[:, :, 0] = value
    found = value_and_gradient(layouts(features)[layout], labels, anchors)
    assert torch.equal(found[0], expected) and torch.equal(found[1], gradient)


def value_and_gradient(features, labels, anchors, times=1.0, **options):
    x = features.detach().requires_grad_()
    value = pixel_to_anchor_pull(x, labels, anchors, **options)
    (times * value).backward()
    return value.detach(), x.grad


def test_a_valid_pixel_that_is_nan_is_not_hidden():
    features, labels, anchors = problem()
    features[0, 0, 1, 0] = float("nan")
    value, gradient = value_and_gradient(features, labels, anchors)
    assert value.isnan() and gradient[0, 0, 1, 0].isnan()
    assert gradient.isnan().sum() == 1


@pytest.mark.parametrize("memory_format", [torch.contiguous_format, torch.channels_last])
def test_a_gradient_of_zero_stays_zero(memory_format):
    features, labels, anchors = problem()
    features = torch.full_like(features, float("nan")).contiguous(memory_format=memory_format)
    _, gradient = value_and_gradient(features, labels, anchors, times=0.0)
    assert not gradient.any()


def test_a_class_of_weight_zero_is_as_void():
    features, labels, anchors = problem()
    weights = torch.tensor([1.0, 0, 1, 1, 1])
    expected, gradient = value_and_gradient(features, labels, anchors, weights=weights)
    features[(labels == 1)[:, None].expand_as(features)] = float("nan")
    found = value_and_gradient(features, labels, anchors, weights=weights)
    assert torch.equal(found[0], expected) and torch.equal(found[1], gradient)


@pytest.mark.parametrize("shape", [(0, C, H, W), (2, C, 0, W), (2, C, 0, 0)])
@pytest.mark.parametrize("memory_format", [torch.contiguous_format, torch.channels_last])
def test_no_pixel_is_zero(shape, memory_format):
    features = torch.zeros(shape).contiguous(memory_format=memory_format)
    labels = torch.zeros(shape[0], *shape[2:], dtype=torch.long)
    value, gradient = value_and_gradient(features, labels, torch.ones(K, C))
    assert value == 0 and gradient.shape == shape
    assert resize_labels(torch.zeros(shape[0], 9, 9).long(), shape[2:]).shape == labels.shape


def test_nothing_ignored():
    features, labels, anchors = problem()
    labels = labels % K
    value = pixel_to_anchor_pull(features, labels, anchors, ignore_index=None)
    torch.testing.assert_close(value, plain(features, labels, anchors, None))


def test_ignored_class_among_the_known():
    features, labels, anchors = problem()
    labels = labels % K
    value = pixel_to_anchor_pull(features, labels, anchors, ignore_index=0)
    torch.testing.assert_close(value, plain(features, labels, anchors, 0))


def test_given_number_of_pixels():
    features, labels, anchors = problem()
    valid = (labels != 255).sum()
    value = pixel_to_anchor_pull(features, labels, anchors, pixels=2 * valid)
    torch.testing.assert_close(value, plain(features, labels, anchors) / 2)


def test_sum_is_precise():
    # Far from 0 a running float32 sum over these 4 million squares would lose three digits.
    x = torch.full((1, 16, 512, 512), 1.1)
    value = pixel_to_anchor_pull(x, torch.zeros(1, 512, 512).long(), torch.zeros(1, 16))
    expected = float(x[0, 0, 0, 0].double() ** 2)
    assert abs(value.item() / expected - 1) < 1e-6


def test_no_gradient_to_the_anchors():
    features, labels, anchors = problem()
    anchors.requires_grad_()
    assert not pixel_to_anchor_pull(features, labels, anchors).requires_grad
    pixel_to_anchor_pull(features.requires_grad_(), labels, anchors).backward()
    assert anchors.grad is None


def test_autograd_keeps_only_the_features():
    features = torch.randn(2, 64, 16, 16)
    x = features.requires_grad_()
    labels, anchors = torch.randint(0, 3, (2, 16, 16)), torch.randn(3, 64)
    kept = []
    with torch.autograd.graph.saved_tensors_hooks(lambda t: kept.append(t) or t, lambda t: t):
        pixel_to_anchor_pull(x, labels, anchors)
    large = [t for t in kept if t.numel() >= labels.numel() and t.dtype.is_floating_point]
    assert [t.data_ptr() for t in large] == [x.data_ptr()]
    assert sum(t.numel() for t in kept) <= x.numel() + labels.numel() + anchors.numel() + 8


@pytest.mark.parametrize("memory_format", [torch.contiguous_format, torch.channels_last])
def test_scratch_is_bounded(memory_format):
    """No operation allocates more than a block; backward allocates the gradient besides."""
    from torch.utils._python_dispatch import TorchDispatchMode

    class Largest(TorchDispatchMode):
        def __init__(self):
            super().__init__()
            self.sizes = []

        def __torch_dispatch__(self, function, types, args=(), kwargs=None):
            result = function(*args, **(kwargs or {}))
            if isinstance(result, torch.Tensor) and not any(
                isinstance(a, torch.Tensor)
                and a.untyped_storage().data_ptr() == result.untyped_storage().data_ptr()
                for a in (*args, *(kwargs or {}).values())
            ):
                self.sizes.append(result.numel())
            return result

    features = torch.randn(2, 96, 64, 64).contiguous(memory_format=memory_format)
    labels, anchors = torch.randint(0, 150, (2, 64, 64)), torch.randn(150, 96)
    x = features.requires_grad_()
    with Largest() as seen:
        value = pixel_to_anchor_pull(x, labels, anchors)
    assert max(seen.sizes) <= pull_module._BLOCK_CPU < x.numel()
    with Largest() as seen:
        value.backward()
    assert sum(size > pull_module._BLOCK_CPU for size in seen.sizes) <= 1


def broken_backward(*_):
    raise AssertionError("computed again")


@pytest.mark.parametrize("layout", ["contiguous", "channels_last", "sliced"])
@pytest.mark.parametrize("active", [None, True])
def test_the_gradient_is_written_in_forward_with_the_same_bits(layout, active, monkeypatch):
    """As without `factor`, and backward reads no feature."""
    features, labels, anchors = problem()
    active = None if active is None else torch.tensor(active)
    late = layouts(features)[layout].detach().requires_grad_()
    expected = 0.1 * pixel_to_anchor_pull(late, labels, anchors)
    (1.5 + expected).backward()
    early = layouts(features)[layout].detach().requires_grad_()
    value = pixel_to_anchor_pull(early, labels, anchors, factor=0.1, active=active)
    with monkeypatch.context() as patched:
        patched.setattr(pull_module, "_residuals", broken_backward)
        (1.5 + value).backward(retain_graph=True)
    assert torch.equal(value, expected) and torch.equal(early.grad, late.grad)
    value.backward()  # a second time it is computed anew, and not added to itself
    torch.testing.assert_close(early.grad, 2 * late.grad, rtol=0, atol=0)


@pytest.mark.parametrize("times", [0.0, 0.5, 4.0])
def test_another_gradient_than_the_expected_is_computed(times):
    features, labels, anchors = problem()
    _, expected = value_and_gradient(features, labels, anchors, times=times * 0.25)
    _, gradient = value_and_gradient(features, labels, anchors, times=times, factor=0.25)
    assert torch.equal(gradient, expected)


@pytest.mark.parametrize(
    ("factor", "active"), [(None, False), (0.1, False), (0.0, True), (0, None)]
)
def test_a_closed_gate_or_a_weight_of_0_reads_no_feature(factor, active, monkeypatch):
    features, labels, anchors = problem()
    x = torch.full_like(features, float("nan")).requires_grad_()
    monkeypatch.setattr(pull_module, "_residuals", broken_backward)
    active = None if active is None else torch.tensor(active)
    value = pixel_to_anchor_pull(x, labels, anchors, factor=factor, active=active)
    value.backward()
    assert value == 0 and value.dtype == torch.float32 and not x.grad.any()
    x.grad += 1  # of its own memory
    assert (x.grad == 1).all()
    x.grad = None
    # Beside another loss of the same features it adds nothing.
    (2 * x[..., 1:].sum() + pixel_to_anchor_pull(x, labels, anchors, factor=0)).backward()
    assert (x.grad[..., 1:] == 2).all() and not x.grad[..., 0].any()


def test_nan_at_void_pixels_leaves_the_early_gradient_alone():
    features, labels, anchors = problem()
    expected, gradient = value_and_gradient(features, labels, anchors, factor=0.1)
    features[:, :, 0] = float("nan")
    found = value_and_gradient(features, labels, anchors, factor=0.1)
    assert torch.equal(found[0], expected) and torch.equal(found[1], gradient)


@pytest.mark.parametrize("layout", ["contiguous", "channels_last", "sliced"])
def test_in_one_piece_as_small_features_on_a_gpu(layout, monkeypatch):
    """The piece itself, on a CPU."""
    features, labels, anchors = problem()
    given = layouts(features)[layout]
    expected = value_and_gradient(given, labels, anchors)
    pieces = []
    one = pull_module._one_block
    for name in ("_blocks_of_channels", "_blocks_of_pixels"):
        monkeypatch.setattr(pull_module, name, lambda *args: pieces.append(1) or one(*args))
    value, gradient = value_and_gradient(given, labels, anchors)
    assert len(pieces) == 2  # forward and backward
    torch.testing.assert_close(value, expected[0])
    torch.testing.assert_close(gradient, expected[1])


def test_what_was_taken_is_known(monkeypatch):
    features, labels, anchors = problem()
    pull_module.taken.clear()
    pixel_to_anchor_pull(features[:0], labels[:0], anchors)
    assert pull_module.taken.names() == []
    pixel_to_anchor_pull(features, labels, anchors)
    assert pull_module.taken.names() == ["blocks"]
    monkeypatch.setattr(pull_module, "_in_one_piece", lambda features: True)  # as on a GPU
    pixel_to_anchor_pull(features, labels, anchors)
    assert pull_module.taken.names() == ["one piece", "blocks"]
    pull_module.taken.clear()
    assert pull_module.taken.names() == []


def test_labels_of_another_size_are_resized():
    features, labels, anchors = problem()
    large = labels.repeat_interleave(3, dim=1).repeat_interleave(2, dim=2)
    expected = value_and_gradient(features, labels, anchors)
    found = value_and_gradient(features, large, anchors)
    assert torch.equal(found[0], expected[0]) and torch.equal(found[1], expected[1])


@pytest.mark.parametrize(
    "size", [(7, 9), (13, 5), (32, 48), (11, 17), (100, 33), (8, 24), (1, 1), (16, 5), (64, 96)]
)
@pytest.mark.parametrize("dtype", [torch.uint8, torch.int64])
def test_labels_resize_like_nearest(size, dtype):
    labels = torch.randint(0, 200, (2, 32, 48), generator=torch.Generator().manual_seed(0))
    expected = F.interpolate(labels[:, None].float(), size=size, mode="nearest")[:, 0]
    resized = resize_labels(labels.to(dtype), size)
    assert resized.dtype == dtype and torch.equal(resized.float(), expected)


@pytest.mark.gpu
@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA device")
@pytest.mark.parametrize("memory_format", [torch.contiguous_format, torch.channels_last])
def test_cuda_agrees(memory_format):
    features, labels, anchors = problem()
    x = features.contiguous(memory_format=memory_format).requires_grad_()
    y = x.detach().cuda().requires_grad_()
    value = pixel_to_anchor_pull(x, labels, anchors)
    other = pixel_to_anchor_pull(y, labels.cuda(), anchors.cuda())
    torch.testing.assert_close(other.cpu(), value)
    value.backward()
    other.backward()
    torch.testing.assert_close(y.grad.cpu(), x.grad)
