import pytest
import torch
from sar_cases import (
    GOLDEN,
    fcn_hrnet,
    golden_model_config,
    load_trace,
    loss_traces,
    model_traces,
    segformer,
)

from sar import SemanticAnchorRegularizer
from sar.checkpoints import (
    baseline_state_dict,
    import_model_state,
    import_regularizer_state,
    load_released,
)


@pytest.fixture
def released():
    trace = load_trace(loss_traces()[0])
    return {k.removeprefix("state0/"): v for k, v in trace.items() if k.startswith("state0/")}


def test_regularizer_state_loads(released):
    k, c = released["random_center"].shape
    module = SemanticAnchorRegularizer(k, c)
    module.load_state_dict(import_regularizer_state(released), strict=True)
    assert bool(module.initialized) == bool(released["update_flag"])
    assert torch.equal(module.anchors, torch.as_tensor(released["random_center"]))


def test_missing_and_unknown_names_are_listed(released):
    del released["projecter.bn.weight"]
    released["projecter.extra"] = released["random_center"]
    with pytest.raises(ValueError, match=r"missing \['projecter.bn.weight'\].*projecter.extra"):
        import_regularizer_state(released)


@pytest.mark.parametrize("path", model_traces(), ids=lambda path: path.stem)
@pytest.mark.parametrize("form", ["checkpoint", "state", "parallel"])
def test_model_state_loads_strictly(path, form):
    from mmseg.registry import MODELS

    from sar.mmseg import apply_sar

    released = load_released(path.with_suffix(".pth"))
    if form == "state":
        released = released["state_dict"]
    elif form == "parallel":
        released = {f"module.{k}": v for k, v in released["state_dict"].items()}
    model = MODELS.build(apply_sar(golden_model_config(path.stem)))
    model.load_state_dict(import_model_state(released), strict=True)
    baseline = MODELS.build(golden_model_config(path.stem))
    baseline.load_state_dict(baseline_state_dict(model), strict=True)


def test_model_state_without_a_regularizer_is_refused():
    released = load_released(next(GOLDEN.glob("*.pth")))["state_dict"]
    plain = {k: v for k, v in released.items() if k.startswith(("backbone.", "decode_head."))}
    with pytest.raises(ValueError, match="random_center"):
        import_model_state(plain)
    with pytest.raises(ValueError, match=r"projecter\.more"):
        import_model_state({**released, "projecter.more": torch.ones(1)})


@pytest.mark.parametrize("config", [fcn_hrnet, segformer])
def test_baseline_export_loads_strictly(config):
    from mmseg.registry import MODELS

    from sar.mmseg import apply_sar

    model = MODELS.build(apply_sar(config()))
    baseline = MODELS.build(config())
    for source in (model, model.state_dict(), {"state_dict": model.state_dict()}):
        state = baseline_state_dict(source)
        assert not any(name.startswith("regularizer") for name in state)
        baseline.load_state_dict(state, strict=True)


def test_load_released_refuses_code(tmp_path):
    class Surprise:
        def __reduce__(self):
            return print, ("code ran",)

    path = tmp_path / "bad.pth"
    torch.save({"state_dict": Surprise()}, path)
    with pytest.raises(ValueError, match=r"bad\.pth"):
        load_released(path)
    path.write_bytes(b"no checkpoint")
    with pytest.raises(ValueError, match=r"bad\.pth"):
        load_released(path)
    torch.save(torch.ones(3), path)
    with pytest.raises(ValueError, match="expected a dict"):
        load_released(path)
    with pytest.raises(FileNotFoundError):
        load_released(tmp_path / "none.pth")
