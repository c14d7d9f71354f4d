"""The benchmarks of a CPU run and write their tables; how long anything takes is not asked."""

from __future__ import annotations

import csv
import os

import pytest

from benchmarks import pull, scale


def test_the_pull_has_a_row_a_contender_and_its_goal(tmp_path):
    table = tmp_path / "pull.csv"
    pull.main(["--case", "3", "8", "1", "8", "8", "--repeats", "1", "--output", str(table)])
    with table.open() as stream:
        rows = list(csv.DictReader(stream))
    assert len(rows) == 2 * 6 and {row["memory_format"] for row in rows} == set(pull.LAYOUTS)
    for row in rows:
        assert float(row["ms"]) > 0
        assert (float(row["ratio"]) == 1) or row["contender"] != "floor"
        assert row["goal"] == ("1.3" if row["contender"] == "pull" else "")


def test_the_contenders_of_the_pull_agree():
    import torch

    features = torch.randn(2, 4, 3, 5, generator=torch.Generator().manual_seed(0))
    labels = torch.randint(0, 3, (2, 3, 5), generator=torch.Generator().manual_seed(1))
    labels[0, 0] = pull.VOID
    anchors = torch.randn(3, 4, generator=torch.Generator().manual_seed(2))
    expected = pull.gather_and_mse(features, labels, anchors)
    torch.testing.assert_close(pull.pull(features, labels, anchors), 0.1 * expected)


def test_a_study_is_made_up_and_compared(tmp_path, monkeypatch):
    monkeypatch.chdir(os.getcwd())
    assert scale.fabricate(tmp_path, models=1, seeds=1) == 2
    assert scale.cpu_seconds(scale.COMMANDS["compare"]) > 0
    with pytest.raises(RuntimeError, match="pipelines.compare"):
        scale.cpu_seconds(["pipelines.compare", "--study", "unknown"])
