"""The rivals against numbers recorded from their own code, and the command that replays them."""

import numpy as np
import pytest
import torch
from sar_cases import GOLDEN

from tests.golden.rivals import TOLERANCE, main, relative_error, replay_file

FOLDER = GOLDEN / "rivals"
PATHS = sorted(FOLDER.glob("*.npz"))
BUILT = ("car_", "ceco_", "center_loss_", "contrastiveseg_", "seesaw_")


@pytest.mark.parametrize("path", PATHS, ids=lambda path: path.stem)
def test_trace(path):
    result = replay_file(path)
    assert (result is not None) == path.name.startswith(BUILT)
    assert result is None or result[0] <= TOLERANCE


def test_the_command_speaks_of_each_file(capsys):
    assert main([str(FOLDER)]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert [line.split(":")[0] for line in lines] == [path.name for path in PATHS]
    assert sum(line.endswith("no implementation here") for line in lines) == 4


@pytest.mark.parametrize("name", ["seesaw_k8", "car_k6_c16", "center_loss_k7_c24"])
def test_a_wrong_number_fails(name, tmp_path, capsys):
    with np.load(FOLDER / f"{name}.npz") as file:
        trace = dict(file)
    changed = next(key for key in trace if key.split("/")[-1].startswith("grad_"))
    flat = trace[changed].reshape(-1)
    flat[np.abs(flat).argmax()] *= 1.001
    np.savez(tmp_path / f"{name}.npz", **trace)
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
