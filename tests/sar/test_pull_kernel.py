"""The Triton kernels, on a CPU by Triton's interpreter, against float64; on a GPU as they are."""

import importlib.util
import os
import subprocess
import sys

import numpy as np
import pytest
import torch
from sar_cases import load_trace, loss_traces
from torch.utils._python_dispatch import TorchDispatchMode

from sar import SemanticAnchorRegularizer
from sar import pull as pull_module
from sar.checkpoints import import_regularizer_state
from sar.pull import pixel_to_anchor_pull, resize_labels

DEVICE = "cuda" if torch.cuda.is_available() else "cpu"

if importlib.util.find_spec("triton") is None:
    pytest.skip("needs Triton (the dev extra)", allow_module_level=True)

# The interpreted one without a GPU, which `tests/conftest.py` sees to.
if DEVICE == "cpu":
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("TRITON_INTERPRET", "1")
        from sar import pull_kernel
else:
    from sar import pull_kernel

pytestmark = [pytest.mark.gpu] if DEVICE == "cuda" else []  # compiled there, which takes longer
LAYOUTS = [torch.contiguous_format, torch.channels_last]


@pytest.fixture(autouse=True)
def by_the_kernel(monkeypatch):
    monkeypatch.setenv("SAR_PULL", "kernel")
    if DEVICE == "cpu":
        monkeypatch.setenv("TRITON_INTERPRET", "1")


def problem(shape=(2, 13, 7, 9), classes=5, dtype=torch.float32, labels=None, void=0.2):
    n, c, h, w = shape
    generator = torch.Generator().manual_seed(n + c + h + w + classes)
    features = torch.randn(shape, generator=generator).to(dtype)
    anchors = torch.randn(classes, c, generator=generator)
    size = (n, *(labels or (h, w)))
    known = torch.randint(0, classes, size, generator=generator)
    known[torch.rand(size, generator=generator) < void] = 255
    return features.to(DEVICE), known.to(DEVICE), anchors.to(DEVICE)


def both(features, labels, anchors, **options):
    """Value and gradient by the kernel, and by the torch path in float64."""
    x = features.detach().clone(memory_format=torch.preserve_format).requires_grad_()
    y = features.detach().double().requires_grad_()
    value = pixel_to_anchor_pull(x, labels, anchors, **options)
    expected = pixel_to_anchor_pull(y, labels, anchors.double(), path="torch", **options)
    assert value.dtype == torch.float32 and value.grad_fn is not None
    (3 * value).backward()
    (3 * expected).backward()
    return value.detach(), x.grad, expected.detach(), y.grad


def agree(features, labels, anchors, **options):
    value, gradient, expected, exact = both(features, labels, anchors, **options)
    torch.testing.assert_close(value.double(), expected, rtol=2e-6, atol=0)
    assert gradient.dtype == features.dtype and gradient.stride() == features.stride()
    if features.dtype == torch.float32:
        torch.testing.assert_close(gradient.double(), exact, rtol=1e-5, atol=1e-9)
    else:  # of the type's own precision
        rounding = torch.finfo(features.dtype).eps
        torch.testing.assert_close(gradient.double(), exact, rtol=rounding, atol=1e-7)


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16, torch.float16])
@pytest.mark.parametrize("layout", LAYOUTS)
@pytest.mark.parametrize(
    ("shape", "classes"),
    [
        ((1, 1, 1, 1), 2),
        ((2, 13, 7, 9), 5),
        ((1, 40, 3, 50), 500),
        ((3, 130, 2, 3), 19),
        ((2, 33, 16, 17), 150),
    ],
    ids=str,
)
def test_ragged_sizes(shape, classes, layout, dtype):
    features, labels, anchors = problem(shape, classes, dtype)
    agree(features.contiguous(memory_format=layout), labels, anchors)


def test_it_is_the_kernel_that_computes(monkeypatch):
    """Else everything here would compare the torch path with itself."""
    calls = []
    real = pull_kernel.pull
    monkeypatch.setattr(pull_kernel, "pull", lambda *args: calls.append(1) or real(*args))
    features, labels, anchors = problem()
    pull_module.taken.clear()
    pixel_to_anchor_pull(features, labels, anchors)
    assert calls == [1] and pull_module.taken.names() == ["kernel"]
    pixel_to_anchor_pull(features, labels, anchors, path="torch")
    pixel_to_anchor_pull(features.double(), labels, anchors)  # not of 32 bits
    pixel_to_anchor_pull(features[:0], labels[:0], anchors)
    assert calls == [1]


@pytest.mark.parametrize("tile", range(4))
@pytest.mark.parametrize("layout", LAYOUTS)
def test_every_tile(layout, tile, monkeypatch):
    tiles = {name: [found[tile]] for name, found in pull_kernel.TILES.items()}
    monkeypatch.setattr(pull_kernel, "TILES", tiles)
    features, labels, anchors = problem((2, 70, 5, 30), 7)
    agree(features.contiguous(memory_format=layout), labels, anchors)


@pytest.mark.parametrize("programs", [1, 10_000])
def test_channels_shared_by_programs_or_not(programs, monkeypatch):
    monkeypatch.setattr(pull_kernel, "_PROGRAMS", programs)
    features, labels, anchors = problem((1, 200, 3, 4))
    agree(features, labels, anchors)


@pytest.mark.parametrize("size", [(7, 9), (13, 5), (32, 48), (11, 17), (100, 33)])
@pytest.mark.parametrize("dtype", [torch.uint8, torch.int32, torch.int64])
def test_labels_are_resized_like_nearest(size, dtype):
    """Against the resizing of the torch path, which is that of `F.interpolate`."""
    features, _, anchors = problem((2, 6, *size), 200)
    labels = torch.randint(0, 200, (2, 32, 48), generator=torch.Generator().manual_seed(0))
    labels = labels.to(DEVICE, dtype)
    value = both(features, labels, anchors)
    resized = both(features, resize_labels(labels, size), anchors)
    assert torch.equal(value[0], resized[0]) and torch.equal(value[1], resized[1])


def test_labels_that_are_a_view():
    features, labels, anchors = problem((2, 6, 7, 9))
    turned = labels.transpose(1, 2).contiguous().transpose(1, 2)
    agree(features, turned, anchors)
    agree(features, torch.stack([labels, labels], dim=-1)[..., 0], anchors)


@pytest.mark.parametrize("layout", ["sliced", "expanded"])
def test_features_in_no_memory_format(layout):
    features, labels, anchors = problem()
    given = {
        "sliced": torch.nn.functional.pad(features, (1, 2))[..., 1:-2],
        "expanded": features[:, :1].expand_as(features),
    }[layout]
    value, gradient, expected, exact = both(given, labels, anchors)
    torch.testing.assert_close(value.double(), expected, rtol=2e-6, atol=0)
    torch.testing.assert_close(gradient.double(), exact, rtol=1e-5, atol=1e-9)


def test_void_only_is_zero():
    features, labels, anchors = problem(void=1.0)
    value, gradient, _, _ = both(torch.full_like(features, float("nan")), labels, anchors)
    assert value == 0 and not gradient.any()


@pytest.mark.parametrize("broken", [float("nan"), float("inf")])
@pytest.mark.parametrize("layout", LAYOUTS)
def test_what_a_void_pixel_holds_contributes_nothing(layout, broken):
    features, labels, anchors = problem()
    features = features.contiguous(memory_format=layout)
    expected = both(features, labels, anchors)
    features = torch.where((labels == 255)[:, None], broken, features)
    found = both(features.contiguous(memory_format=layout), labels, anchors)
    assert torch.equal(found[0], expected[0]) and torch.equal(found[1], expected[1])


def test_a_valid_pixel_that_is_nan_is_not_hidden():
    features, labels, anchors = problem(void=0.0)
    features[0, 0, 1, 0] = float("nan")
    value, gradient, _, _ = both(features, labels, anchors)
    assert value.isnan() and gradient[0, 0, 1, 0].isnan() and gradient.isnan().sum() == 1


@pytest.mark.parametrize("label", [5, 200, -1])
def test_an_unknown_label_is_nan_and_reads_no_memory_of_others(label):
    features, labels, anchors = problem(void=0.0)
    labels[1, 2, 3] = label
    x = features.requires_grad_()
    value = pixel_to_anchor_pull(x, labels, anchors)
    value.backward()
    assert value.isnan() and x.grad[1, :, 2, 3].isnan().all()
    assert x.grad.isnan().sum() == features.shape[1]


@pytest.mark.parametrize("ignore_index", [None, 0, -1])
def test_ignore_index(ignore_index):
    features, labels, anchors = problem(void=0.0)
    if ignore_index == -1:
        labels[:, 0] = -1
    agree(features, labels, anchors, ignore_index=ignore_index)


def test_minus_one_is_not_255_in_bytes():
    features, labels, anchors = problem(classes=256, void=0.0)
    labels[:, 0] = 255
    agree(features, labels.byte(), anchors, ignore_index=-1)


def test_weights_of_classes_and_a_given_number_of_pixels():
    features, labels, anchors = problem()
    weights = torch.tensor([1.0, 0, 0.5, 3, 2], dtype=torch.float64, device=DEVICE)
    for pixels in (torch.tensor(3, device=DEVICE), torch.tensor(7.0, device=DEVICE).double()):
        agree(features, labels, anchors, pixels=pixels, weights=weights, factor=0.1)
    features[(labels == 1)[:, None].expand_as(features)] = float("nan")  # of weight 0
    value, gradient, _, _ = both(features, labels, anchors, weights=weights)
    assert value.isfinite() and gradient.isfinite().all()


def test_a_closed_gate_is_zero_whatever_the_features_hold():
    features, labels, anchors = problem()
    agree(features, labels, anchors, active=torch.tensor(True, device=DEVICE))
    broken = torch.full_like(features, float("nan"))
    closed = torch.tensor(False, device=DEVICE)
    value, gradient, _, _ = both(broken, labels, anchors, active=closed)
    assert value == 0 and not gradient.any()


def test_a_gradient_of_zero_stays_zero():
    features, labels, anchors = problem()
    x = torch.full_like(features, float("nan")).requires_grad_()
    (0.0 * pixel_to_anchor_pull(x, labels, anchors)).backward()
    assert not x.grad.any()


def test_large_half_precision_values_do_not_overflow():
    features = torch.full((1, 4, 8, 8), 3e4, dtype=torch.float16, device=DEVICE)
    labels = torch.zeros(1, 8, 8, dtype=torch.long, device=DEVICE)
    agree(features, labels, torch.zeros(2, 4, device=DEVICE))


def test_equal_bits_every_time():
    features, labels, anchors = problem((2, 70, 9, 30))
    runs = [both(features, labels, anchors) for _ in range(3)]
    for value, gradient, _, _ in runs[1:]:
        assert torch.equal(value, runs[0][0]) and torch.equal(gradient, runs[0][1])


def test_the_operators_keep_the_rules_of_torch():
    """Schema, fake kernels and autograd, as `torch.library.opcheck` tests them."""
    features, labels, anchors = problem((1, 6, 3, 4))
    for layout in LAYOUTS:
        x = features.contiguous(memory_format=layout).requires_grad_()
        arguments = (x, labels, anchors, 255, None, None, 0.1, None)
        # Not the test that traces with symbolic sizes: the interpreter needs numbers.
        tests = ("test_schema", "test_autograd_registration", "test_faketensor")
        torch.library.opcheck(pull_kernel._pull, arguments, test_utils=tests)


@pytest.mark.parametrize("layout", LAYOUTS)
def test_compiled_without_a_break_in_the_graph(layout):
    features, labels, anchors = problem((2, 6, 7, 9), labels=(14, 18))
    features = features.contiguous(memory_format=layout)

    def loss(x):
        return pixel_to_anchor_pull(x.relu(), labels, anchors, factor=0.1)

    x, y = (features.clone().requires_grad_() for _ in range(2))
    compiled = torch.compile(loss, fullgraph=True, backend="aot_eager")
    value, expected = compiled(x), loss(y)
    value.backward()
    expected.backward()
    assert torch.equal(value, expected) and torch.equal(x.grad, y.grad)


@pytest.mark.parametrize("path", loss_traces(), ids=lambda path: path.stem)
def test_the_released_loss_by_the_kernel(path, monkeypatch):
    trace = load_trace(path)
    state = {k.removeprefix("state0/"): v for k, v in trace.items() if k.startswith("state0/")}
    filter_confidence, update_confidence, pull_weight, aux_weight, *_ = trace["hyper"]
    regularizer = SemanticAnchorRegularizer(
        *state["random_center"].shape,
        pull_weight=pull_weight,
        aux_weight=aux_weight,
        filter_confidence=filter_confidence,
        update_confidence=update_confidence,
    )
    regularizer.load_state_dict(import_regularizer_state(state))
    classifier = torch.nn.Conv2d(*reversed(state["random_center"].shape), 1)
    classifier.load_state_dict(
        {n: torch.as_tensor(state[f"decode_head.conv_seg.{n}"]) for n in ("weight", "bias")}
    )
    regularizer, classifier = regularizer.to(DEVICE), classifier.to(DEVICE)
    features = torch.as_tensor(trace["step0/features"]).to(DEVICE).requires_grad_()
    labels = torch.as_tensor(trace["step0/labels"]).to(DEVICE)
    losses = regularizer(features, labels, classifier)
    losses["loss_p2a"].backward()
    expected = torch.as_tensor(np.nan_to_num(trace["step0/pull"])).float()
    torch.testing.assert_close(losses["loss_p2a"].cpu(), expected, rtol=1e-4, atol=1e-8)
    gradient = torch.as_tensor(trace["step0/grad_features"]).float()
    torch.testing.assert_close(
        features.grad.cpu(), gradient, rtol=0, atol=1e-4 * gradient.abs().max().item() + 1e-8
    )


class Operations(TorchDispatchMode):
    """Names of the operations that compute something; views and allocations do not."""

    FREE = ("view", "detach", "t.default", "transpose", "expand", "squeeze", "select.", "slice.")
    FREE += ("diagonal.", "permute", "as_strided", "split", "unbind", "empty", "promote_types")

    def __init__(self):
        super().__init__()
        self.names = []

    def __torch_dispatch__(self, function, types, args=(), kwargs=None):
        if not any(free in str(function) for free in self.FREE):
            self.names.append(str(function))
        return function(*args, **(kwargs or {}))


def test_the_regularizer_launches_little_beside_the_kernels():
    """The labels are neither resized nor counted, and nothing is as long as the features."""
    features, labels, _ = problem((2, 48, 16, 32), 19, labels=(64, 128))
    regularizer = SemanticAnchorRegularizer(19, 48, gated=False).to(DEVICE)
    classifier = torch.nn.Conv2d(48, 19, 1).to(DEVICE)
    x = features.requires_grad_()
    with Operations() as seen:
        losses = regularizer(x, labels, classifier)
        sum(losses.values()).backward()
    assert {"sar.pull.default", "sar.pull_backward.default"} <= set(seen.names)
    assert not any("upsample" in name or "aten.index" in name for name in seen.names)
    assert len(seen.names) <= 80, len(seen.names)  # 121 by the torch path


def test_an_unknown_path_is_refused(monkeypatch):
    features, labels, anchors = problem()
    with pytest.raises(ValueError, match="'cuda': expected one of torch, kernel"):
        pixel_to_anchor_pull(features, labels, anchors, path="cuda")
    monkeypatch.setenv("SAR_PULL", "fast")
    with pytest.raises(ValueError, match="SAR_PULL.*'fast'"):
        pixel_to_anchor_pull(features, labels, anchors)


def test_without_triton_it_says_so_once_and_computes_all_the_same(monkeypatch, caplog):
    monkeypatch.setattr(pull_module, "_TRITON", False)
    pull_module._say_that_triton_is_missing.cache_clear()
    features, labels, anchors = problem()
    found = [pixel_to_anchor_pull(features, labels, anchors) for _ in range(2)]
    expected = pixel_to_anchor_pull(features, labels, anchors, path="torch")
    assert torch.equal(found[0], expected) and torch.equal(found[1], expected)
    assert [record.message[:24] for record in caplog.records] == ["Triton is not installed,"]


COMPILE = """
import torch, triton
from triton.backends.compiler import GPUTarget
from triton.compiler import ASTSource
from sar import pull_kernel as k

features = torch.empty(2, 64, 16, 32, dtype=torch.bfloat16)
for kernel in (k._sum_squares, k._write_gradient):
    for flag in (True, False):
        plan = k._Plan(features, torch.zeros(2, 64, 128).long(), torch.zeros(5, 64), 255, None,
                       torch.tensor(True) if flag else None)
        first = {"features": "*bf16"}
        if kernel is k._sum_squares:
            first |= {"sums": "*fp32", "counts": "*fp32"}
        else:
            first |= {"gradient": "*bf16", "grad_loss": "*fp32", "scale": "*fp32"}
        kinds = {"labels": "*i64", "anchors": "*fp32", "weights": "*fp32", "active": "*u8",
                 "step_y": "fp32", "step_x": "fp32"}
        signature, constants = dict(first), {}
        for name, value in plan.arguments.items():
            if name == "num_warps":
                continue
            if name.isupper() or value is None or (name == "stride_p" and value == 1):
                signature[name], constants[name] = "constexpr", value
            else:
                signature[name] = kinds.get(name, "i32")
        source = ASTSource(kernel, signature, constants)
        for capability in (80, 90):
            made = triton.compile(source, target=GPUTarget("cuda", capability, 32),
                                  options={"num_warps": plan.arguments["num_warps"]})
            assert ".target sm_" in made.asm["ptx"] and len(made.asm["cubin"])
print("compiled")
"""


@pytest.mark.slow
def test_the_kernels_compile_for_gpus_that_are_not_here(tmp_path):
    environment = os.environ | {"TRITON_CACHE_DIR": str(tmp_path)}
    environment.pop("TRITON_INTERPRET", None)
    command = [sys.executable, "-c", COMPILE]
    done = subprocess.run(command, env=environment, capture_output=True, text=True)
    assert done.stdout == "compiled\n", done.stderr
