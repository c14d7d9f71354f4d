"""The rivals against numbers recorded from their own code, and the command that replays them."""

import numpy as np
import pytest
import torch
from sar_cases import GOLDEN

from tests.golden.rivals import TOLERANCE, main, relative_error, replay_file

FOLDER = GOLDEN / "rivals"
PATHS = sorted(FOLDER.glob("*.npz"))
WRONG = {
    "etf_dr_k7_c24": "step1/grad_ce",
    "protoseg_k5_m3_c16": "step2/prototypes_after",
    "region_rebalance_k6_c16": "step1/loss_seg_seg",
}
"""What is falsified of a trace, where it is not the first gradient."""


@pytest.mark.parametrize("path", PATHS, ids=lambda path: path.stem)
def test_trace(path):
    assert replay_file(path)[0] <= TOLERANCE


def test_the_command_speaks_of_each_file(capsys):
    assert main([str(FOLDER)]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert [line.split(":")[0] for line in lines] == [path.name for path in PATHS]
    in_part = {line.split(":")[0] for line in lines if ": in part " in line}
    assert in_part == {"etf_dr_k7_c24.npz", "region_rebalance_k6_c16.npz"}
    assert in_part == {line.split(":")[0] for line in lines if "; not replayed: " in line}


@pytest.mark.parametrize("path", PATHS, ids=lambda path: path.stem)
def test_a_wrong_number_fails(path, tmp_path, capsys):
    with np.load(path) as file:
        trace = dict(file)
    first = next((key for key in trace if key.split("/")[-1].startswith("grad_")), None)
    changed = WRONG.get(path.stem, first)
    flat = trace[changed].reshape(-1)
    flat[np.abs(flat).argmax()] *= 1.001
    np.savez(tmp_path / path.name, **trace)
    assert main([str(tmp_path)]) == 1
    assert "FAILED" in capsys.readouterr().out


def test_what_cannot_be_replayed_fails(tmp_path, capsys):
    np.savez(tmp_path / "seesaw_k2.npz", step0=np.zeros(2))
    np.savez(tmp_path / "other_k2.npz", step0=np.zeros(2))
    assert main([str(tmp_path)]) == 1
    said = capsys.readouterr().out
    assert said.count("cannot be replayed") == 2 and "begins with one of car_" in said
    assert main([str(tmp_path / "none")]) == 2


def test_relative_error():
    one = torch.ones(3)
    assert relative_error(one * 1.5, one) == 0.5
    assert relative_error(one[:2], one) == relative_error(one / 0, one) == float("inf")
