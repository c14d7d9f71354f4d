"""Large files are hashed once, and again as soon as anything about them is other than it was."""

import os
from pathlib import Path

import pytest

from pipelines.base.artifacts import sha256_file
from pipelines.running import digests


@pytest.fixture(autouse=True)
def _project(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(digests, "_TICK", 0)


@pytest.fixture
def hashed(monkeypatch):
    """The files that were hashed."""
    calls = []
    monkeypatch.setattr(
        digests, "sha256_file", lambda path: calls.append(path) or sha256_file(path)
    )
    return calls


def large(name: str = "large.bin", byte: bytes = b"a") -> Path:
    path = Path(name)
    path.write_bytes(byte * digests.SMALL)
    return path


def test_a_large_file_is_hashed_once_and_a_small_one_each_time(hashed):
    small = Path("small.txt")
    small.write_text("a")
    for path in (large(), small):
        for _ in range(3):
            assert digests.digest_of_file(path) == sha256_file(path)
    assert hashed == [Path("large.bin"), small, small, small]


def test_a_change_that_keeps_size_and_time_is_seen(hashed):
    path = large()
    before = digests.digest_of_file(path), path.stat()
    with path.open("r+b") as file:
        file.write(b"b")
    os.utime(path, ns=(before[1].st_atime_ns, before[1].st_mtime_ns))
    assert path.stat().st_mtime_ns == before[1].st_mtime_ns
    assert digests.digest_of_file(path) == sha256_file(path) != before[0]


def test_a_swap_of_two_files_of_one_size_is_seen():
    one, two = large("one.bin"), large("two.bin", b"b")
    first = [digests.digest_of_file(path) for path in (one, two)]
    one.rename("kept")
    two.rename(one)
    Path("kept").rename(two)
    assert [digests.digest_of_file(path) for path in (one, two)] == first[::-1]


def test_what_a_stage_wrote_is_known_without_hashing(hashed):
    path = large()
    digests.remember_file(path, "digest")
    assert digests.digest_of_file(path) == "digest" and hashed == []


def test_all_bytes_are_hashed_where_memory_is_not_trusted(hashed, monkeypatch):
    path = large()
    digests.remember_file(path, "wrong")
    monkeypatch.setattr(digests, "_trusted", True)
    digests.trust(False)
    assert digests.digest_of_file(path) == sha256_file(path)


def test_what_changed_just_now_is_not_remembered(monkeypatch):
    monkeypatch.setattr(digests, "_TICK", 3600)
    digests.digest_of_file(large())
    assert not digests.MEMORY.exists()


def test_a_file_added_to_a_folder_or_taken_from_it_is_seen():
    files = [large("one"), large("two")]
    assert digests.remembered("all", files, lambda: "both") == "both"
    assert digests.remembered("all", files, lambda: "again") == "both"
    assert digests.remembered("all", files[:1], lambda: "one") == "one"
    with pytest.raises(FileNotFoundError):
        digests.remembered("all", [*files, Path("gone")], lambda: "three")


@pytest.mark.parametrize("damage", [b'["torn', b"\xff\xfe\n", b"5\n", b"[1, 2]\n", b"{}\n", b"\n"])
def test_a_damaged_memory_is_passed_over(damage, hashed):
    path = large()
    digests.digest_of_file(path)
    digests.MEMORY.write_bytes(damage)
    assert digests.digest_of_file(path) == sha256_file(path)
    assert len(hashed) == 2
