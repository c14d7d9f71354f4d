"""What was there before or what was written is there after a crash, and never a part of either."""

from __future__ import annotations

import errno

import pytest

from pipelines.base import durable
from pipelines.base.artifacts import sha256_file, staged, write_receipt, write_whole
from pipelines.base.errors import PipelineError
from pipelines.base.receipts import read_receipt
from tests.pipelines.disks import FailingDisk, ForgettingDisk, lay_out

FILES = ("a.csv", "b.csv", "images/0.png", "receipt.json")


def fill(folder, content):
    with staged(folder) as scratch:
        (scratch / "images").mkdir()
        for name in FILES[:-1]:
            (scratch / name).write_text(content)
        write_receipt(scratch, stage=content, subject="x", parameters="p", inputs=[])


def vouched(folder):
    """The stage by the receipt in `folder`, all of whose files are as it says; None without one."""
    if not (folder / "receipt.json").exists():
        return None
    receipt = read_receipt(folder / "receipt.json")
    assert {name: sha256_file(folder / name) for name in receipt.outputs} == receipt.outputs
    assert (folder / "images/0.png").read_text() == receipt.stage
    return receipt.stage


def crashes(disk, folder):
    """What a crash leaves after each change, laid out in `folder`; the last one is the end."""
    for change, names, synced in disk.states:
        yield f"after {change}, all names", lay_out(names, folder)
        yield f"after {change}, synced names", lay_out(synced, folder)


def test_a_crash_leaves_the_old_results_or_the_new_ones_or_no_receipt(tmp_path):
    (tmp_path / "disk").mkdir()
    fill(tmp_path / "disk/out", "old")
    disk = ForgettingDisk(tmp_path / "disk")
    with disk.mounted():
        fill(tmp_path / "disk/out", "new")
    seen = [(when, vouched(left / "out")) for when, left in crashes(disk, tmp_path / "left")]
    assert {found for _, found in seen} == {"old", None, "new"}
    assert [found for _, found in seen[-2:]] == ["new", "new"], "what is done is on the disk"


@pytest.mark.parametrize("missing", ["sync_tree", "sync"])
def test_without_its_syncs_a_crash_would_damage_results(tmp_path, monkeypatch, missing):
    """The test above can fail."""
    (tmp_path / "disk").mkdir()
    fill(tmp_path / "disk/out", "old")
    monkeypatch.setattr(f"pipelines.base.artifacts.{missing}", lambda path: None)
    disk = ForgettingDisk(tmp_path / "disk")
    with disk.mounted():
        fill(tmp_path / "disk/out", "new")

    def all_is_well():
        found = [vouched(left / "out") for _, left in crashes(disk, tmp_path / "left")]
        assert found[-2:] == ["new", "new"]

    with pytest.raises((AssertionError, PipelineError, OSError)):
        all_is_well()


def test_a_crash_leaves_the_old_text_or_the_new_one(tmp_path):
    disk_folder = tmp_path / "disk"
    disk_folder.mkdir()
    write_whole(disk_folder / "checksums.json", "old")
    disk = ForgettingDisk(disk_folder)
    with disk.mounted():
        write_whole(disk_folder / "checksums.json", "new")
    texts = [(left / "checksums.json").read_text() for _, left in crashes(disk, tmp_path / "left")]
    assert set(texts) == {"old", "new"} and texts[-2:] == ["new", "new"]


@pytest.mark.parametrize("error", [errno.ENOSPC, errno.EIO])
def test_whichever_change_fails_nothing_half_written_is_left(tmp_path, error):
    fill(tmp_path / "out", "old")
    counting = FailingDisk(tmp_path, error)
    with counting.mounted():
        fill(tmp_path / "out", "old")
    for last in range(1, counting.changes + 1):
        disk = FailingDisk(tmp_path, error, last)
        with disk.mounted(), pytest.raises(PipelineError, match="then give the same command again"):
            fill(tmp_path / "out", "new")
        assert vouched(tmp_path / "out") in ("old", None, "new")
        assert {path.name for path in tmp_path.iterdir()} <= {"out"}, last
        fill(tmp_path / "out", "old")
        assert vouched(tmp_path / "out") == "old"


def test_a_text_that_cannot_be_written_leaves_the_one_before(tmp_path):
    path = tmp_path / "page.md"
    write_whole(path, "old")
    for last in (1, 2, 3, 4):
        disk = FailingDisk(tmp_path, errno.ENOSPC, last)
        with disk.mounted(), pytest.raises(PipelineError, match="page.md.*free some space there"):
            write_whole(path, "new")
        assert path.read_text() == "old" and len(list(tmp_path.iterdir())) == 1


def test_a_folder_that_cannot_be_synced_is_no_error(tmp_path, monkeypatch):
    """Some network file systems have no such thing."""

    def refuse(descriptor):
        raise OSError(errno.EINVAL, "Invalid argument")

    monkeypatch.setattr("os.fsync", refuse)
    durable.sync(tmp_path)


def test_what_a_killed_process_left_is_removed_by_the_next(tmp_path):
    for left in (".out.a1b2c3d4", ".out.a1b2c3d4.gone", ".outside.a1b2c3d4"):
        (tmp_path / left / "images").mkdir(parents=True)
    (tmp_path / ".out.lock").write_text("pid 1 on nowhere")
    fill(tmp_path / "out", "new")
    assert {path.name for path in tmp_path.iterdir()} == {"out", ".outside.a1b2c3d4"}
