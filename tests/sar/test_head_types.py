"""The survey of the packaged configs (benchmarks/survey.py): one config of each head type, again.

Of each type the smallest model that trained, and one that was refused. Transformers of over 100
million parameters get a layer for each map that the head reads, which makes them fast enough.
"""

import importlib.util
import os
import re
from pathlib import Path

import pytest

BENCHMARKS = Path(__file__).parents[2] / "benchmarks"


def load_survey():
    spec = importlib.util.spec_from_file_location("survey", BENCHMARKS / "survey.py")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


survey = load_survey()
ROWS = list(survey.read_rows(survey.OUTPUT).values())
# mmengine refuses their data_preprocessor (six channels, bgr_to_rgb=None), with SAR or without.
UNBUILDABLE = {
    "swin/swin-tiny-patch4-window7_upernet_1xb8-20k_levir-256x256.py",
    "unet/unet-s5-d16_fcn_4xb4-160k_hsidrive-192x384.py",
}
STATUSES = r"trained|refused|too large|error|needs (compiled ops|mmdet|mmpretrain)"


def by_head(status):
    """The smallest config of each head type with a status, as parameters of a test."""
    rows = [row for row in ROWS if row["status"] == status]
    rows.sort(key=lambda row: (float(row["params_m"] or 0), row["config"]))
    smallest = {row["head"]: row for row in reversed(rows)}
    return [pytest.param(smallest[head], id=head) for head in sorted(smallest)]


def shallow(model):
    """A transformer with as many layers as its head reads maps."""
    backbone = model.backbone
    if "num_layers" in backbone and "out_indices" in backbone:
        maps = len(backbone.out_indices)
        backbone.update(num_layers=maps, out_indices=list(range(maps)))


@pytest.mark.parametrize("row", by_head("trained"))
def test_trains(row):
    model = survey.read_config(row["config"]).model
    if float(row["params_m"]) > 100:
        shallow(model)
    crop = re.search(r"crop of (\d+)", row["reason"])
    survey.train_one_step(model, int(crop[1]) if crop else survey.CROPS[0])


@pytest.mark.parametrize("row", by_head("refused"))
def test_is_refused(row):
    result = survey.attempt(row["config"])
    assert result == dict(status="refused", reason=row["reason"])


def test_every_config_has_its_line():
    assert [row["config"] for row in ROWS] == survey.packaged_configs()
    assert tuple(ROWS[0]) == survey.FIELDS


def test_lines_are_consistent():
    lines = {row["config"]: row for row in ROWS}
    for name, row in lines.items():
        assert re.fullmatch(STATUSES, row["status"]), name
        assert row["head"] or row["segmentor"] == "MultimodalEncoderDecoder", name
        assert bool(row["params_m"]) == (row["status"] == "trained"), name
        assert row["reason"] or row["status"] == "trained", name
        assert not re.search(r"/(home|root|tmp|work|usr|opt)\b|site-packages", row["reason"]), name
        if row["same_as"]:
            first = lines[row["same_as"]]
            assert first["config"] < name and not first["same_as"], name
            same = ("status", "reason", "head", "segmentor", "params_m")
            assert all(first[key] == row[key] for key in same), name


def test_well_over_half_trains():
    unique = [row for row in ROWS if not row["same_as"]]
    for rows in (ROWS, unique):
        assert sum(row["status"] == "trained" for row in rows) > 0.7 * len(rows)
    assert {row["config"] for row in ROWS if row["status"] in ("error", "too large")} == UNBUILDABLE


def test_an_error_says_nothing_of_the_machine():
    error = RuntimeError("cannot read /tmp/a/b.pth,\n  nor /home/me/c.pth")
    assert survey.judge(error) == dict(
        status="error", reason="RuntimeError: cannot read ..., nor ..."
    )


def test_a_dead_process_is_a_line(monkeypatch):
    monkeypatch.setattr(survey, "attempt", lambda name: os._exit(3))
    result = survey.isolated("any", memory_gib=64, timeout=60)
    assert result == dict(status="error", reason="the process died, exit 3")
