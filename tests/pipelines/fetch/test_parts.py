"""Parts of all kinds side by side, and put together below one folder."""

from __future__ import annotations

import json
import random
import shutil
import time

import pytest

from pipelines.base.errors import PipelineError
from pipelines.fetch import parts, space
from pipelines.study import Dataset
from tests.pipelines.fetch import web
from tests.pipelines.fetch.archives import make_tar, make_zip
from tests.pipelines.fetch.conftest import NAME

DATA = random.Random(0).randbytes(50_000)


def published(server, name: str, content: bytes = DATA, **more) -> dict:
    url = server.add(f"/{name}", content)
    return {"kind": "url", "file": name, "urls": [url]} | more


def write(folder, files: dict[str, bytes]):
    for name, content in files.items():
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_bytes(content)
    return folder


def test_parts_come_side_by_side(project, server):
    """Each waits for the other to have begun."""
    cards = {name: published(server, f"{name}.bin") for name in ("one", "two", "three")}

    def together(handler, page):
        end = time.monotonic() + 30
        while len(server.requests) < 3 and time.monotonic() < end:
            time.sleep(0.01)
        web.serve(handler, page)

    for page in server.pages.values():
        page.faults = [together]
    project.card(**cards)
    began = time.monotonic()
    assert project.fetch() == dict.fromkeys(("one.bin", "two.bin", "three.bin"), DATA)
    assert time.monotonic() - began < 30
    # Without being recorded one over the other.
    assert (project.root / "params/datasets/checksums.json").read_text().count("sha256") == 3


def test_a_failure_stops_the_others_and_keeps_what_they_have(project, server):
    long = published(server, "long.bin", DATA * 20)
    server.pages["/long.bin"].pause, server.pages["/long.bin"].etag = 0.02, '"one"'
    missing = {"kind": "url", "file": "gone.bin", "urls": [server.url("/gone.bin")]}
    project.card(long=long, gone=missing)
    with pytest.raises(PipelineError, match="(?s)source.parts.gone: .*404"):
        project.fetch()
    assert not (project.downloads / "long.bin").exists()
    assert not project.receipt.exists()
    assert server.requests[0].sent < len(DATA) * 20
    server.add("/gone.bin", DATA)
    server.pages["/long.bin"].pause = 0
    assert project.fetch() == {"long.bin": DATA * 20, "gone.bin": DATA}


def test_an_archive_is_unpacked_in_its_place(project, server, tmp_path):
    files = {"images/one.png": b"1", "labels/one.png": b"2"}
    content = make_zip(tmp_path / "a.zip", files).read_bytes()
    project.card(all=published(server, "a.zip", content, unpack=True, unpacked_bytes=100))
    assert project.fetch() == files


def test_a_hostile_archive_is_neither_used_nor_recorded(project, server, tmp_path):
    content = make_zip(tmp_path / "a.zip", {"../evil": b"1"}).read_bytes()
    project.card(all=published(server, "a.zip", content, unpack=True, unpacked_bytes=100))
    with pytest.raises(PipelineError, match=r"source.parts.all: .*a.zip: \.\./evil: leads out"):
        project.fetch()
    assert not project.receipt.exists()
    assert not (project.root / "params/datasets/checksums.json").exists()
    assert not list(project.root.rglob("evil"))


def test_two_folders_of_files_with_the_same_names_keep_apart(project, tmp_path):
    photos = write(tmp_path / "photos", {"1.png": b"photo", "day/2.png": b"2"})
    masks = write(tmp_path / "masks", {"1.png": b"mask"})
    project.card(
        photos={"kind": "folder", "path": str(photos), "below": "images"},
        masks={"kind": "folder", "path": str(masks), "below": "labels/all"},
    )
    assert project.fetch() == {
        "images/1.png": b"photo",
        "images/day/2.png": b"2",
        "labels/all/1.png": b"mask",
    }


def test_parts_may_share_equal_files_only(project, tmp_path):
    one = write(tmp_path / "one", {"licence": b"free", "a": b"1"})
    two = write(tmp_path / "two", {"licence": b"free", "b": b"2"})
    project.card(one={"kind": "folder", "path": str(one)}, two={"kind": "folder", "path": str(two)})
    assert project.fetch() == {"licence": b"free", "a": b"1", "b": b"2"}
    (two / "licence").write_bytes(b"paid")
    with pytest.raises(PipelineError, match="part two and one before it both have licence"):
        project.fetch()
    assert project.fetched()["licence"] == b"free"


def test_a_folder_and_an_archive_of_the_user(project, tmp_path):
    write(project.root / "mine/own", {"images/1.png": b"1"})
    archive = make_tar(tmp_path / "labels.tar.gz", {"labels/1.png": b"2"}, "w:gz")
    more = {"file": "labels.tar.gz", "unpack": True, "unpacked_bytes": 10}
    project.card(
        images={"kind": "folder", "path": "mine/own"},
        labels={"kind": "archive", "path": str(archive)} | more,
    )
    assert project.fetch() == {"images/1.png": b"1", "labels/1.png": b"2"}
    # What a user has may change, without a record to be mended.
    make_tar(archive, {"labels/1.png": b"3"}, "w:gz")
    assert project.fetch()["labels/1.png"] == b"3"
    assert not (project.root / "params/datasets/checksums.json").exists()
    assert not project.downloads.exists()


def test_the_archive_of_the_user_may_have_a_checksum(project, tmp_path):
    (tmp_path / "a.bin").write_bytes(DATA)
    known = {"kind": "archive", "file": "a.bin", "path": str(tmp_path / "a.bin")}
    project.card(a=known | {"md5": "0" * 32})
    with pytest.raises(PipelineError, match="a.bin has the md5 .* expected 000"):
        project.fetch()


def test_what_the_user_has_to_bring_is_asked_for(project):
    project.card(a={"kind": "folder", "path": "nowhere"})
    with pytest.raises(PipelineError, match="source.parts.a.path: nowhere: no such folder; put"):
        project.fetch()
    account = {"account": "https://example.org/form"}
    project.card(a={"kind": "archive", "file": "a.bin", "path": "nowhere/a.bin"} | account)
    with pytest.raises(PipelineError, match=r"no such file; put it there \(from https://example"):
        project.fetch()


def test_links_in_a_folder_of_the_user_are_followed_but_not_in_circles(project, tmp_path):
    away = write(tmp_path / "away", {"2.png": b"2"})
    own = write(tmp_path / "own", {"1.png": b"1", ".DS_Store": b"desktop", "._1.png": b"desktop"})
    (own / "more").symlink_to(away)
    (own / "3.png").symlink_to(away / "2.png")
    project.card(own={"kind": "folder", "path": str(own)})
    assert project.fetch() == {"1.png": b"1", "more/2.png": b"2", "3.png": b"2"}
    assert not any(path.is_symlink() for path in project.files.rglob("*"))
    (away / "back").symlink_to(own)
    with pytest.raises(PipelineError, match="own/more/back: a link to a folder above it"):
        project.fetch()
    (away / "back").unlink()
    (away / "up").symlink_to(tmp_path)
    with pytest.raises(PipelineError, match="own/more/up: a link to a folder above it"):
        project.fetch()


def test_of_some_parts_the_first_that_can_be_had_is_taken(project, server, capfd):
    first = {"kind": "url", "file": "first.bin", "urls": [server.url("/first.bin")]}
    second = published(server, "second.bin")
    either = {"kind": "first_of", "parts": {"first": first, "second": second}}
    project.card(either=either)
    assert project.fetch() == {"second.bin": DATA}
    assert "404 Not Found" in capfd.readouterr().err
    # What was had once stays, so that a replay gives the same.
    server.add("/first.bin", DATA)
    assert project.fetch() == {"second.bin": DATA}
    (project.downloads / "second.bin").unlink()
    assert project.fetch() == {"first.bin": DATA}


def test_when_none_of_some_parts_can_be_had_all_reasons_are_given(project, server):
    gone = {
        name: {"kind": "url", "file": f"{name}.bin", "urls": [server.url(f"/{name}.bin")]}
        for name in ("first", "second")
    }
    project.card(either={"kind": "first_of", "parts": gone})
    with pytest.raises(PipelineError) as raised:
        project.fetch()
    for name in gone:
        assert f"source.parts.either.parts.{name}: {name}.bin cannot" in str(raised.value)


def test_parts_with_one_name_are_refused(project, server):
    one = published(server, "same.bin")
    git = {"kind": "git", "url": "x", "commit": "0" * 40, "tree": "0" * 40, "folder": "same.bin/a"}
    for other in (one, git):
        project.card(one=one, other=other)
        with pytest.raises(PipelineError, match="parts one and other both have same.bin"):
            Dataset.load(NAME)
    project.card(one=git | {"folder": "a"}, other=git | {"folder": "b"})
    Dataset.load(NAME)


def test_a_name_that_is_no_text_is_refused(project, tmp_path):
    own = write(tmp_path / "own", {"caf\udce9": b"1"})
    project.card(own={"kind": "folder", "path": str(own)})
    with pytest.raises(PipelineError, match=r"own: 'caf\\udce9': a name that is no UTF-8 text"):
        project.fetch()


def test_a_local_folder_is_no_alternative(project):
    folder = {"kind": "folder", "path": "mine"}
    project.card(either={"kind": "first_of", "parts": {"a": folder, "b": folder}})
    with pytest.raises(PipelineError, match=r"either\.first_of\.parts\.a: .*folder"):
        Dataset.load(NAME)


def test_room_is_asked_for_before_anything_is_fetched(project, server):
    huge = published(server, "huge.bin", bytes=10**15)
    project.card(small=published(server, "small.bin"), huge=huge)
    with pytest.raises(PipelineError, match="data/raw/made_up/files: 1.78PB are needed and"):
        project.fetch()
    assert server.requests == []


def test_the_room_that_is_needed(project, server, tmp_path):
    """Per place: what is declared, less what is there already."""
    archive = {"unpack": True, "unpacked_bytes": 3000, "bytes": 1000}
    own = write(tmp_path / "own", {"a": bytes(70)})
    project.card(
        one=published(server, "one.zip", **archive),
        two=published(server, "two.bin", bytes=500),
        own={"kind": "folder", "path": str(own)},
    )
    write(project.downloads, {"one.zip.part": bytes(400)})
    dataset = Dataset.load(NAME)
    needs = list(parts._needs(dataset))
    placed = sum(count for place, count in needs if place == dataset.raw)
    assert placed == 3000 + 500 + 70
    assert sum(count for _, count in needs) - placed == 600 + 500


def test_places_on_one_file_system_share_its_room(project):
    free = space.shutil.disk_usage(project.root).free
    half = [(project.root / "a", free * 2 // 3), (project.root / "b/c", free * 2 // 3)]
    space.require(half[:1])
    with pytest.raises(PipelineError, match="are needed"):
        space.require(half)


def test_a_place_that_cannot_be_written_is_named(project, server):
    (project.root / "work").mkdir()
    (project.root / "data/downloads").mkdir(parents=True)
    (project.downloads).write_text("a file where the folder should be")
    project.card(one=published(server, "one.bin"))
    with pytest.raises(PipelineError, match=r"data/downloads/made_up.*run the same command again"):
        project.fetch()


@pytest.mark.slow
def test_killed_while_unpacking_nothing_half_is_left(project, server, tmp_path):
    files = {f"{index}.bin": DATA for index in range(20)}
    content = make_zip(tmp_path / "a.zip", files).read_bytes()
    project.card(all=published(server, "a.zip", content, unpack=True, unpacked_bytes=10**7))
    slowly = (
        "import time\nfrom pipelines.fetch import unpack\ncopy = unpack._copy\n"
        "unpack._copy = lambda *words: (time.sleep(0.05), copy(*words))[1]"
    )
    process = project.start(slowly)
    end = time.monotonic() + 60
    while not list((project.root / "data").rglob("9.bin")) and time.monotonic() < end:
        time.sleep(0.01)
    process.kill()
    process.communicate()
    assert project.fetched() == {}
    assert not project.receipt.exists()
    assert project.fetch() == files
    assert len(server.requests) == 1
    assert [path.name for path in (project.root / "data/raw").iterdir()] == ["made_up"]


def test_data_sets_may_share_downloads_and_mirror(project, server, tmp_path, monkeypatch):
    project.card(one=published(server, "one.bin"))
    path = project.root / f"params/datasets/{NAME}.yaml"
    card = json.loads(path.read_text())
    card["source"]["downloads"] = "other"
    path.write_text(json.dumps(card))
    shared = write(project.root / "data/downloads/other", {"one.bin": DATA})
    assert project.fetch() == {"one.bin": DATA} and not server.requests
    receipt = project.receipt.read_bytes()
    checksums = json.loads((project.root / "params/datasets/checksums.json").read_text())
    assert checksums.keys() == {"other"}
    shutil.rmtree(shared)
    write(tmp_path / "mirror/other", {"one.bin": DATA})
    monkeypatch.setenv("SAR_MIRROR", str(tmp_path / "mirror"))
    assert project.fetch() == {"one.bin": DATA} and not server.requests
    assert project.receipt.read_bytes() == receipt
