"""A user's own folder is an input of fetch, for both drivers."""

from __future__ import annotations

import json
import shutil

import pytest

from tests.scenarios import project

pytestmark = [pytest.mark.slow, pytest.mark.xdist_group("drivers")]

RECEIPT = "data/raw/mini/receipt.json"


@pytest.fixture(scope="module", params=["inside", "outside"])
def place(request, tmp_path_factory):
    """A project whose data set is a folder inside the project or elsewhere; and that folder."""
    folder = tmp_path_factory.mktemp("own") / "project"
    project.create(folder)
    own = folder / "data/own" if request.param == "inside" else folder.with_name("own")
    (own / "images").mkdir(parents=True)
    (own / "images/1.png").write_bytes(b"1")
    named = "data/own" if request.param == "inside" else str(own)
    path = folder / "params/datasets/mini.yaml"
    card = json.loads(path.read_text())
    pairs = {"images": "images", "labels": "labels"}
    card["source"] = {
        "kind": "files",
        "parts": {"own": {"kind": "folder", "path": named}},
        "splits": dict.fromkeys(("train", "val", "test"), pairs),
    }
    path.write_text(json.dumps(card))
    project.python(folder, "-m", "pipelines.drivers.dvc_yaml")
    project.commit(folder, "Own data")
    project.snakemake(folder, "--notemp", RECEIPT)
    project.dvc(folder, "commit", "--force", "params/datasets/dvc.yaml:fetch-mini")
    return folder, own


def planned(folder) -> tuple[bool, bool]:
    """Whether Snakemake and DVC would fetch."""
    plan = project.snakemake(folder, "--dry-run", RECEIPT)
    commands = project.dvc_planned(folder)
    return "rule fetch" in plan, ("fetch", "mini") in commands


def test_a_changed_folder_is_fetched_again(place):
    folder, own = place
    assert planned(folder) == (False, False)
    first = (folder / RECEIPT).read_bytes()

    (own / "images/1.png").write_bytes(b"2")
    assert planned(folder) == (True, True)
    project.dvc(folder, "repro", "--single-item", "params/datasets/dvc.yaml:fetch-mini")
    assert (folder / "data/raw/mini/files/images/1.png").read_bytes() == b"2"
    assert (folder / RECEIPT).read_bytes() != first
    project.snakemake(folder, "--notemp", RECEIPT)
    assert planned(folder) == (False, False)

    (own / "images/2.png").write_bytes(b"another")
    assert planned(folder) == (True, True)
    project.snakemake(folder, "--notemp", RECEIPT)
    project.dvc(folder, "commit", "--force", "params/datasets/dvc.yaml:fetch-mini")
    assert (folder / "data/raw/mini/files/images/2.png").read_bytes() == b"another"


def test_a_folder_that_is_gone_leaves_what_was_fetched(place):
    folder, own = place
    shutil.move(own, own.with_name("away"))
    try:
        plan = project.snakemake(folder, "--dry-run", "data/prepared/mini/receipt.json")
        assert "rule prepare" in plan
        assert "rule fetch" not in plan
    finally:
        shutil.move(own.with_name("away"), own)


def test_a_folder_that_was_never_there_is_asked_for(place):
    folder, own = place
    shutil.move(own, own.with_name("away"))
    shutil.move(folder / "data/raw/mini", folder / "data/raw/kept")
    try:
        with pytest.raises(AssertionError, match="no such folder; put your files there"):
            project.snakemake(folder, "--notemp", RECEIPT)
    finally:
        shutil.rmtree(folder / "data/raw/mini", ignore_errors=True)
        shutil.move(folder / "data/raw/kept", folder / "data/raw/mini")
        shutil.move(own.with_name("away"), own)
