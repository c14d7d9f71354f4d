"""The ritual of every stage: measured, whole or not at all, with a receipt."""

from pathlib import Path

import pytest

from pipelines.base.artifacts import Stopwatch, read_json, sha256_file
from pipelines.running.stage import writing


class Subject:
    name = "shapes"

    def __init__(self, home: Path) -> None:
        self.home = home

    def folder(self, stage: str) -> Path:
        return self.home / stage

    def parameters(self, stage: str, *, defaults: bool = True) -> dict:
        return {"of": stage, "all": defaults}

    def parameters_hash(self, stage: str) -> str:
        return f"hash of {stage}"


def test_a_stage_leaves_its_files_a_receipt_and_what_it_took(tmp_path):
    source = tmp_path / "source.txt"
    source.write_text("given")
    with writing("draw", Subject(tmp_path), [source], views=("page.html",)) as outputs:
        (outputs.folder / "a.txt").write_text("made")
        (outputs.folder / "page.html").write_text("shown")
        outputs.digests["images"] = "d1"
        outputs.runtime["logged"] = {"id": "x"}
        assert not (tmp_path / "draw").exists()
    folder = tmp_path / "draw"
    assert read_json(folder / "receipt.json") == {
        "stage": "draw",
        "subject": "shapes",
        "parameters": "hash of draw",
        "inputs": {source.as_posix(): sha256_file(source)},
        "outputs": {"a.txt": sha256_file(folder / "a.txt")},
        "digests": {"images": "d1"},
    }
    runtime = read_json(folder / "runtime.json")
    assert runtime["parameters"] == {"of": "draw", "all": False}
    assert runtime["logged"] == {"id": "x"} and runtime["versions"]["torch"]
    assert sorted(path.name for path in tmp_path.iterdir()) == ["draw", "source.txt"]


def test_without_digests_the_receipt_has_no_such_key_and_may_name_its_subject_otherwise(tmp_path):
    with writing("draw", Subject(tmp_path), [], name="squares") as outputs:
        (outputs.folder / "a.txt").write_text("made")
    receipt = read_json(tmp_path / "draw/receipt.json")
    assert list(receipt) == sorted(["stage", "subject", "parameters", "inputs", "outputs"])
    assert receipt["subject"] == "squares"


def test_a_failure_keeps_what_was_there(tmp_path):
    with writing("draw", Subject(tmp_path), []) as outputs:
        (outputs.folder / "a.txt").write_text("old")
    with pytest.raises(RuntimeError), writing("draw", Subject(tmp_path), []) as outputs:
        (outputs.folder / "a.txt").write_text("half")
        raise RuntimeError
    assert (tmp_path / "draw/a.txt").read_text() == "old"
    assert read_json(tmp_path / "draw/receipt.json")["outputs"]
    assert [path.name for path in tmp_path.iterdir()] == ["draw"]


def test_what_came_before_the_block_is_measured_where_its_watch_is_given(tmp_path, monkeypatch):
    clock = [0.0]
    monkeypatch.setattr("pipelines.base.measuring.time.perf_counter", lambda: clock[0])
    watch = Stopwatch()
    clock[0] = 5.0
    for given, seconds in ((watch, 7.0), (None, 2.0)):
        clock[0] = 5.0
        with writing("draw", Subject(tmp_path), [], watch=given):
            clock[0] += 2
        assert read_json(tmp_path / "draw/runtime.json")["wall_seconds"] == seconds
