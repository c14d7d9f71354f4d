"""The door by which methods enter a model, and the method that the docs write."""

import importlib
import re
import sys
from pathlib import Path

import pytest
import torch
from mmengine.config import ConfigDict
from mmseg.models import FCNHead
from sar_cases import fcn_hrnet, head, ocr_cascade, segmentor
from test_mmseg import SINGLE, build, same_state

from sar.checkpoints import baseline_state_dict
from sar.door import attach, attached, detach
from sar.mmseg import apply_sar, remove_sar
from sar.support import UnsupportedModelError, cross_entropies

PAGE = Path(__file__).parents[2] / "docs" / "methods.md"


class Spy(torch.nn.Module):
    """Says what it was given."""

    def __init__(self, num_classes, channels, ignore_index, generator, scale=1.0):
        super().__init__()
        self.given = num_classes, channels, ignore_index
        self.drawn = torch.nn.Parameter(torch.randn(2)), torch.randn(2, generator=generator)
        self.scale = scale

    def forward(self, classifier, labels, logits, features):
        self.seen = {"logits": logits, "labels": labels, "features": features}
        self.scores = classifier(features)
        return {"loss_spy": self.scale * features.mean(), "spied": labels.float().mean()}

    def logged(self):
        return {"constant": torch.tensor(3.0)}


@pytest.fixture
def documented(tmp_path, monkeypatch):
    """The module that docs/methods.md writes."""
    code = re.search(
        r"run by tests/sar/test_door.py -->\n```python\n(.*?)```", PAGE.read_text(), re.S
    )
    (tmp_path / "my_methods.py").write_text(code[1])
    monkeypatch.syspath_prepend(tmp_path)
    yield importlib.import_module("my_methods"), code[1]
    del sys.modules["my_methods"]


def test_the_documented_method_trains(documented, batch):
    module, code = documented
    body = code[code.index("class") :]
    assert sum(bool(line.strip()) for line in body.splitlines()) <= 20
    model = build(module.apply_norm_penalty(fcn_hrnet(), weight=0.5))
    losses = model(*batch, mode="loss")
    assert losses["regularizer.loss_norm"] > 0 and losses["regularizer.norm"] > 0
    total, _ = model.parse_losses(losses)
    expected = losses["decode.loss_ce"] + losses["regularizer.loss_norm"]
    torch.testing.assert_close(total, expected)
    total.backward()
    with pytest.raises(ValueError, match="'wait' is not known.*known are weight, seed"):
        attach(fcn_hrnet(), module.NormPenalty, wait=1)


def test_the_page_names_every_plug_in():
    folder = PAGE.parents[1] / "sar" / "rivals"
    for path in folder.glob("*.py"):
        for name in re.findall(r"^def (apply_\w+)", path.read_text(), re.M):
            assert f"sar.rivals.{path.stem}:{name}" in PAGE.read_text(), name


def test_what_a_method_is_given(batch):
    model = build(attach(fcn_hrnet(dropout_ratio=0.9), Spy, scale=2.0, seed=3))
    spy = model.regularizer
    assert spy.given == (5, 120, 255)
    losses = model(*batch, mode="loss")
    features, logits = spy.seen["features"], spy.seen["logits"]
    assert features.shape == (2, 120, 12, 16) and logits.shape == (2, 5, 12, 16)
    assert torch.equal(spy.seen["labels"], torch.cat([one.gt_sem_seg.data for one in batch[1]]))
    assert torch.equal(spy.scores, model.decode_head.conv_seg(features)), "without dropout"
    assert not torch.allclose(spy.scores, logits), "the logits are those of the loss, with dropout"
    assert losses["regularizer.loss_spy"] == 2 * features.mean()
    assert losses["regularizer.constant"] == 3 and losses["regularizer.spied"] > 0


def test_draws_come_from_the_seed():
    first, again, other = (build(attach(fcn_hrnet(), Spy, seed=s), s) for s in (1, 1, 2))
    for a, b, c in zip(*(m.regularizer.drawn for m in (first, again, other)), strict=True):
        assert torch.equal(a, b) and not torch.equal(a, c)
    baseline = build(fcn_hrnet(), 1)
    same_state(baseline.state_dict(), baseline_state_dict(first))


def test_detach():
    for config in (fcn_hrnet(), ConfigDict(ocr_cascade())):
        for applied in (attach(config, Spy), apply_sar(config)):
            assert attached(applied) and not attached(config) and type(applied) is type(config)
            assert detach(applied) == remove_sar(applied) == config == detach(config)


def test_one_door_for_all():
    for first in (attach(fcn_hrnet(), Spy), apply_sar(fcn_hrnet())):
        for again in (lambda cfg: attach(cfg, Spy), apply_sar):
            with pytest.raises(UnsupportedModelError, match="already has.*works once"):
                again(first)


@pytest.mark.parametrize(
    ("losses", "word"),
    [
        (dict(type="DiceLoss"), "FCNHead: its losses are DiceLoss"),
        (dict(type="CrossEntropyLoss", use_sigmoid=True), "CrossEntropyLoss"),
        ([dict(type="CrossEntropyLoss"), dict(type="OhemCrossEntropy")], "OhemCrossEntropy"),
    ],
)
def test_refused_losses(losses, word):
    model = build(segmentor(head("FCNHead", **SINGLE, loss_decode=losses)))
    with pytest.raises(UnsupportedModelError, match=word):
        cross_entropies(model.decode_head)


def test_nothing_stays_behind_an_error(batch):
    class Broken(FCNHead):
        def loss_by_feat(self, *args):
            raise KeyError

    from sar.rivals.seesaw import apply_seesaw

    model = build(apply_seesaw(segmentor(dict(head("FCNHead", **SINGLE), type=Broken))))
    with pytest.raises(KeyError):
        model(*batch, mode="loss")
    decode = model.decode_head
    assert "cls_seg" not in vars(decode) and "forward" not in vars(decode.loss_decode)
