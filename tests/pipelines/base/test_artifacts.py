"""Files appear whole or not at all, and receipts hold reproducible facts only."""

import json
import os
from pathlib import Path

import pytest

from pipelines.base import artifacts
from pipelines.base.artifacts import Stopwatch, read_json, sha256_file, staged, write_receipt
from pipelines.base.errors import PipelineError


def write(folder: Path, content: str) -> None:
    with staged(folder) as scratch:
        (scratch / "a.txt").write_text(content)
        (scratch / "images").mkdir()
        (scratch / "images" / "0.png").write_text(content)
        write_receipt(scratch, stage="s", subject="x", parameters="p", inputs=[])
        Stopwatch().write(scratch, device="cpu")


def test_a_failure_leaves_nothing_new_and_no_scratch(tmp_path):
    write(tmp_path / "out", "old")
    with pytest.raises(RuntimeError), staged(tmp_path / "out") as scratch:
        (scratch / "a.txt").write_text("half")
        raise RuntimeError
    assert (tmp_path / "out" / "a.txt").read_text() == "old"
    assert [path.name for path in tmp_path.iterdir()] == ["out"]


def test_success_replaces_files_and_folders(tmp_path):
    write(tmp_path / "out", "old")
    (tmp_path / "out" / "images" / "stale.png").touch()
    write(tmp_path / "out", "new")
    assert (tmp_path / "out" / "a.txt").read_text() == "new"
    assert [path.name for path in (tmp_path / "out" / "images").iterdir()] == ["0.png"]


def test_a_receipt_is_the_same_on_every_replay_and_runtime_is_outside(tmp_path):
    write(tmp_path / "one", "content")
    write(tmp_path / "two", "content")
    receipts = [(tmp_path / name / "receipt.json").read_bytes() for name in ("one", "two")]
    assert receipts[0] == receipts[1]
    receipt = json.loads(receipts[0])
    assert receipt["outputs"] == {"a.txt": sha256_file(tmp_path / "one" / "a.txt")}
    runtime = read_json(tmp_path / "one" / "runtime.json")
    assert runtime["device"] == "cpu" and runtime["versions"]["torch"]


def test_a_view_shows_run_time_facts_and_is_outside_the_receipt(tmp_path):
    for name in ("a.txt", "index.html"):
        (tmp_path / name).write_text(name)
    write_receipt(
        tmp_path, stage="s", subject="x", parameters="p", inputs=[], views=("index.html",)
    )
    assert list(read_json(tmp_path / "receipt.json")["outputs"]) == ["a.txt"]


def test_missing_and_broken_json_name_the_file(tmp_path):
    with pytest.raises(PipelineError, match="metrics.json: not found"):
        read_json(tmp_path / "metrics.json")
    (tmp_path / "metrics.json").write_text("{")
    with pytest.raises(PipelineError, match="metrics.json: not valid JSON"):
        read_json(tmp_path / "metrics.json")


@pytest.mark.parametrize(("mask", "folder", "file"), [(0o022, 0o755, 0o644), (0o007, 0o770, 0o660)])
def test_modes_follow_the_umask(tmp_path, mask, folder, file):
    before = os.umask(mask)
    try:
        with artifacts.staged(tmp_path / "out") as scratch:
            (scratch / "images").mkdir()
            (scratch / "images/a.png").write_bytes(b"1")
            (scratch / "metrics.json").write_text("{}")
            (scratch / "receipt.json").write_text("{}")
        artifacts.write_whole(tmp_path / "out/page.md", "text")
    finally:
        os.umask(before)
    for path in (tmp_path / "out", *(tmp_path / "out").rglob("*")):
        assert path.stat().st_mode & 0o777 == (folder if path.is_dir() else file), path
