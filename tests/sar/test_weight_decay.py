import copy

import pytest
import torch
from mmengine.optim import build_optim_wrapper
from sar_cases import fcn_hrnet
from test_mmseg import build

from sar.mmseg import apply_sar
from sar.weight_decay import without_decay


def wrapper(model, **options):
    optimizer = dict(type="AdamW", lr=0.01, weight_decay=0.1, fused=True)
    return build_optim_wrapper(model, dict(type="OptimWrapper", optimizer=optimizer) | options)


def test_two_groups():
    model = build(apply_sar(fcn_hrnet()))
    groups = wrapper(model, **without_decay()).optimizer.param_groups
    assert [group["weight_decay"] for group in groups] == [0.1, 0]
    own = {id(p) for p in model.regularizer.parameters()}
    assert {id(p) for p in groups[1]["params"]} == own
    assert len(groups[0]["params"]) + len(own) == len(list(model.parameters()))


def test_other_settings_stay():
    paramwise = {"custom_keys": {"backbone": {"lr_mult": 0.3}}, "norm_decay_mult": 0.0}
    before = copy.deepcopy(paramwise)
    model = build(apply_sar(fcn_hrnet()))
    merged = wrapper(model, **without_decay(paramwise))
    assert paramwise == before
    paramwise["custom_keys"]["regularizer"] = {"decay_mult": 0.0}
    single = wrapper(model, paramwise_cfg=paramwise)

    def settings(one):
        return {
            id(p): (group["lr"], group["weight_decay"])
            for group in one.optimizer.param_groups
            for p in group["params"]
        }

    assert settings(merged) == settings(single)
    assert len(merged.optimizer.param_groups) < 6 < len(single.optimizer.param_groups)


def test_a_baseline_is_trained_as_in_one_group(batch):
    models = [build(fcn_hrnet(dropout_ratio=0)) for _ in range(2)]
    for model, options in zip(models, ({}, without_decay()), strict=True):
        one = wrapper(model, **options)
        for _ in range(2):
            one.update_params(model.parse_losses(model(*batch, mode="loss"))[0])
    states = [model.state_dict() for model in models]
    assert all(torch.equal(value, states[1][name]) for name, value in states[0].items())


@pytest.mark.parametrize("decayed", [True, False])
def test_anchors_without_a_gradient_keep_their_place(decayed):
    model = build(apply_sar(fcn_hrnet()))
    before = {name: p.clone() for name, p in model.regularizer.named_parameters()}
    one = wrapper(model, **({} if decayed else without_decay()))
    for parameter in model.parameters():
        parameter.grad = torch.zeros_like(parameter)
    one.optimizer.step()
    same = [torch.equal(p, before[name]) for name, p in model.regularizer.named_parameters()]
    assert any(not one for one in same) if decayed else all(same)
