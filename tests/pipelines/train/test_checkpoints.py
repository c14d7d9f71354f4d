"""Damaged checkpoints are told from whole ones, and one process at a time trains a run."""

from __future__ import annotations

import os
import pickle
import random
import subprocess
import sys
import zipfile

import pytest
import torch

from pipelines.base.errors import PipelineError
from pipelines.train.checkpoints import (
    CheckpointedRunner,
    discard,
    newest_whole,
    only_one,
    written_whole,
)
from tests.pipelines import mini


@pytest.fixture
def work(tmp_path):
    """A work folder with the checkpoints of iterations 8 and 10, of one content."""
    folder = tmp_path / "work"
    folder.mkdir()
    for iteration in (8, 10):
        state = {"weight": torch.arange(60.0), "name": "x" * 100}
        torch.save({"meta": {}, "state_dict": state}, folder / f"iter_{iteration}.pth")
    (folder / "last_checkpoint").write_text(str(folder / "iter_10.pth"))
    return folder


def newest(folder):
    warnings = []
    path = newest_whole(folder, warnings.append)
    return None if path is None else path.name, warnings


def test_the_newest_is_by_number_and_not_by_name(work):
    assert newest(work) == ("iter_10.pth", [])


@pytest.mark.parametrize("pointer", [None, "", "iter_9", "/nowhere/iter_99.pth"])
def test_the_pointer_file_does_not_matter(work, pointer):
    (work / "last_checkpoint").unlink()
    if pointer is not None:
        (work / "last_checkpoint").write_text(pointer)
    assert newest(work) == ("iter_10.pth", [])


@pytest.mark.parametrize(
    "damage",
    [
        lambda content: content[:-1],
        lambda content: content[: len(content) // 2],
        lambda content: b"",
        lambda content: bytes(len(content)),
        lambda content: random.Random(0).randbytes(len(content)),
        lambda content: content[:900] + b"\xff" * 64 + content[964:],
    ],
    ids=["one byte short", "half", "empty", "zeros", "garbage", "a hole"],
)
def test_a_damaged_checkpoint_is_named_and_the_one_before_taken(work, damage):
    path = work / "iter_10.pth"
    path.write_bytes(damage(path.read_bytes()))
    name, (warning,) = newest(work)
    assert name == "iter_8.pth"
    assert warning.startswith(f"{path}: this checkpoint is damaged (")
    assert warning.endswith("trying iter_8.pth")
    (work / "iter_8.pth").write_bytes(b"")
    name, (_, warning) = newest(work)
    assert name is None
    assert warning.endswith("none is left")


class Planted:
    """What a pickle makes by running a program."""

    def __init__(self, trace):
        self.trace = trace

    def __reduce__(self):
        return os.system, (f"touch {self.trace}",)


def test_a_planted_checkpoint_runs_no_code(work, tmp_path):
    trace = tmp_path / "it_ran"
    torch.save({"meta": Planted(trace), "state_dict": {}}, work / "iter_12.pth")
    name, (warning,) = newest(work)
    assert name == "iter_10.pth"
    assert "iter_12.pth: this checkpoint is damaged (it holds more than tensors and" in warning
    assert not trace.exists()
    with pytest.raises(pickle.UnpicklingError):
        CheckpointedRunner().load_checkpoint(str(work / "iter_12.pth"))
    assert not trace.exists()
    torch.load(work / "iter_12.pth", weights_only=False)
    assert trace.exists()  # It would have.


def test_what_counts_as_whole_loads_as_it_was_saved(work):
    """Whichever byte is wrong; some are padding."""
    path = work / "iter_10.pth"
    content = path.read_bytes()
    found = 0
    for position in random.Random(0).sample(range(len(content)), 150):
        broken = bytearray(content)
        broken[position] ^= 0x55
        path.write_bytes(broken)
        if newest(work)[0] == "iter_10.pth":
            assert torch.equal(torch.load(path)["state_dict"]["weight"], torch.arange(60.0))
        else:
            found += 1
    assert found > 50


def test_another_archive_is_no_checkpoint(work):
    with zipfile.ZipFile(work / "iter_10.pth", "w") as archive:
        archive.writestr("readme.txt", "no checkpoint")
    name, (warning,) = newest(work)
    assert name == "iter_8.pth" and "damaged" in warning


def test_a_file_takes_its_place_whole_or_not_at_all(tmp_path):
    path = tmp_path / "iter_2.pth"
    path.write_text("old")
    with pytest.raises(ZeroDivisionError), written_whole(path) as new:
        new.write_text("ha")
        raise ZeroDivisionError
    assert path.read_text() == "old"
    with written_whole(path) as new:
        new.write_text("new")
    assert path.read_text() == "new"
    assert list(tmp_path.iterdir()) == [path]


HOLDS = """
import sys
import zipfile
from pathlib import Path
from pipelines.train.checkpoints import only_one
with only_one(Path(sys.argv[1])):
    print("held", flush=True)
    sys.stdin.read()
"""


def test_a_run_is_trained_by_one_process_at_a_time(work):
    process = subprocess.Popen(
        [sys.executable, "-c", HOLDS, work],
        cwd=mini.ROOT,
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    )
    try:
        while process.stdout.readline() != "held\n":  # libraries greet
            assert process.poll() is None
        refusal = rf"pid {process.pid} on .* trains this run"
        with pytest.raises(PipelineError, match=refusal), only_one(work):
            pass
    finally:
        process.kill()
        process.wait()
    with only_one(work):
        pass


def test_a_discarded_folder_is_gone_and_so_is_what_an_earlier_kill_left(work):
    left = work.with_name(work.name + ".done")
    left.mkdir()
    (left / "iter_8.pth").touch()
    discard(work)
    assert not work.exists() and not left.exists()
