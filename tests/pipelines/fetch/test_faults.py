"""What may go wrong while a file is on its way: the fault table, against a real server."""

from __future__ import annotations

import base64
import contextlib
import hashlib
import json
import os
import random
import re
import subprocess
import termios
import time

import pytest

from pipelines.base.errors import PipelineError
from pipelines.fetch import download
from tests.pipelines.fetch import web

DATA = random.Random(0).randbytes(300_000)
OTHER = random.Random(1).randbytes(300_000)
SHA256 = hashlib.sha256(DATA).hexdigest()


def part(*urls: str, **more) -> dict:
    return {"kind": "url", "file": "data.bin", "urls": list(urls), "sha256": SHA256} | more


def left_in(project) -> set[str]:
    return {path.name for path in project.downloads.iterdir()}


def wait_until(condition, seconds=60) -> None:
    end = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < end, f"not within {seconds} s"
        time.sleep(0.01)


def test_a_file_comes_with_a_receipt_that_no_replay_changes(project, server):
    project.card(data=part(server.add("/data.bin", DATA)))
    assert project.fetch() == {"data.bin": DATA}
    first = project.receipt.read_bytes()
    assert project.fetch() == {"data.bin": DATA}
    assert project.receipt.read_bytes() == first
    assert len(server.requests) == 1
    assert left_in(project) == {"data.bin"}


@pytest.mark.parametrize(
    ("options", "condition"),
    [
        ({"etag": '"one"', "last_modified": "Mon, 02 Feb 2015 10:00:00 GMT"}, '"one"'),
        (
            {"etag": 'W/"weak"', "last_modified": "Mon, 02 Feb 2015 10:00:00 GMT"},
            "Mon, 02 Feb 2015 10:00:00 GMT",
        ),
        ({}, None),
    ],
)
def test_a_cut_transfer_is_resumed(project, server, options, condition):
    url = server.add("/data.bin", DATA, faults=[web.cut_after(100_000)], **options)
    project.card(data=part(url))
    assert project.fetch() == {"data.bin": DATA}
    first, second = server.requests
    assert "Range" not in first.headers
    assert second.headers["Range"] == "bytes=100000-"
    assert second.headers.get("If-Range") == condition
    assert (second.status, second.sent) == (206, 200_000)


def test_a_later_command_goes_on_from_what_an_earlier_one_left(project, server):
    url = server.add("/data.bin", DATA, faults=[web.cut_after(30_000)] * download.TRIES)
    server.pages["/data.bin"].ranges = False
    project.card(data=part(url))
    with pytest.raises(PipelineError, match="given up after 5 tries") as raised:
        project.fetch()
    assert "Run the same command again" in str(raised.value)
    assert left_in(project) == {"data.bin.part", "data.bin.part.json"}
    assert not project.receipt.exists()
    server.pages["/data.bin"].ranges = True
    assert project.fetch() == {"data.bin": DATA}
    assert server.requests[-1].headers["Range"] == "bytes=30000-"


def test_tries_count_from_the_last_progress_on(project, server, monkeypatch):
    monkeypatch.setattr(download, "PROGRESS", 10_000)
    url = server.add("/data.bin", DATA, faults=[web.cut_after(20_000)] * 12)
    project.card(data=part(url))
    assert project.fetch() == {"data.bin": DATA}
    assert len(server.requests) == 13


def test_bytes_that_nothing_vouches_for_are_not_joined(project, server):
    """Without a checksum and without an ETag or a date, the file may have changed."""
    url = server.add("/data.bin", DATA, faults=[web.cut_after(100_000)])
    project.card(data={"kind": "url", "file": "data.bin", "urls": [url]})
    assert project.fetch() == {"data.bin": DATA}
    assert "Range" not in server.requests[1].headers


def test_a_server_without_ranges_starts_again(project, server):
    url = server.add("/data.bin", DATA, etag='"one"', faults=[web.cut_after(100_000)])
    server.pages["/data.bin"].ranges = False
    project.card(data=part(url))
    assert project.fetch() == {"data.bin": DATA}
    assert (server.requests[1].status, server.requests[1].sent) == (200, len(DATA))


def test_a_file_that_changes_between_the_halves_is_fetched_whole(project, server):
    def cut_and_change(handler, page):
        web.serve(handler, page, until=100_000)
        page.content, page.etag = DATA, '"new"'

    url = server.add("/data.bin", OTHER, etag='"old"', faults=[cut_and_change])
    project.card(data=part(url))
    assert project.fetch() == {"data.bin": DATA}
    assert server.requests[1].headers["If-Range"] == '"old"'
    assert server.requests[1].status == 200


def test_halves_that_do_not_match_are_thrown_away_once(project, server):
    """The same change on a server that names no validators: the checksum finds it."""

    def cut_and_change(handler, page):
        web.serve(handler, page, until=100_000)
        page.content = DATA

    url = server.add("/data.bin", OTHER, faults=[cut_and_change])
    project.card(data=part(url))
    assert project.fetch() == {"data.bin": DATA}
    assert [request.status for request in server.requests] == [200, 206, 200]


def test_a_range_of_a_file_of_another_length_is_not_joined(project, server):
    """A server whose date does not change with the file."""

    def cut_and_change(handler, page):
        web.serve(handler, page, until=100_000)
        page.content = DATA

    date = "Mon, 02 Feb 2015 10:00:00 GMT"
    longer = OTHER + b"longer"
    url = server.add("/data.bin", longer, last_modified=date, faults=[cut_and_change])
    project.card(data={"kind": "url", "file": "data.bin", "urls": [url]})
    assert project.fetch() == {"data.bin": DATA}
    assert [request.status for request in server.requests] == [200, 206, 200]


@pytest.mark.parametrize(
    ("more", "reason"),
    [
        ({}, f"has the sha256 {hashlib.sha256(OTHER).hexdigest()}, expected {SHA256}"),
        ({"sha256": None, "md5": "0" * 32}, f"md5 {hashlib.md5(OTHER).hexdigest()}, expected 000"),
        ({"sha256": None, "sha1": "0" * 40}, f"sha1 {hashlib.sha1(OTHER).hexdigest()}, expected 0"),
        ({"bytes": 299_999}, "has 300000 bytes, expected 299999"),
    ],
)
def test_a_wrong_file_is_refused_and_not_kept(project, server, more, reason):
    project.card(data=part(server.add("/data.bin", OTHER), **more))
    with pytest.raises(PipelineError, match="source.parts.data: data.bin") as raised:
        project.fetch()
    assert reason in str(raised.value)
    assert "the expected values stand in the data card" in str(raised.value)
    assert left_in(project) <= {"data.bin.part.json"}


def test_a_truncated_file_with_status_200_is_refused(project, server):
    project.card(data=part(server.add("/data.bin", DATA, faults=[web.truncated_to(1000)] * 9)))
    with pytest.raises(PipelineError, match="has the sha256"):
        project.fetch()
    project.card(data=part(server.url("/data.bin"), sha256=None, bytes=len(DATA)))
    with pytest.raises(PipelineError, match="has 1000 bytes, expected 300000"):
        project.fetch()
    assert project.fetched() == {}


def test_a_missing_page_is_not_asked_for_again(project, server):
    project.card(data=part(server.url("/data.bin")))
    with pytest.raises(PipelineError, match="404 Not Found"):
        project.fetch()
    assert len(server.requests) == 1


@pytest.mark.parametrize("code", [500, 502, 503, 429])
def test_an_error_that_may_pass_is_tried_again(project, server, code):
    fault = web.status(code, Retry_After="0")
    project.card(data=part(server.add("/data.bin", DATA, faults=[fault])))
    assert project.fetch() == {"data.bin": DATA}


def test_an_error_that_does_not_pass_ends_after_some_tries(project, server):
    project.card(data=part(server.add("/data.bin", DATA, faults=[web.status(500)] * 99)))
    with pytest.raises(PipelineError, match="500 Internal Server Error; given up after 5 tries"):
        project.fetch()
    assert len(server.requests) == download.TRIES


def test_a_redirect_is_followed(project, server):
    there = server.add("/there", DATA)
    project.card(data=part(server.add("/here", b"", faults=[web.redirect(there)])))
    assert project.fetch() == {"data.bin": DATA}


def test_a_circle_of_redirects_ends(project, server):
    here = server.url("/here")
    server.add("/here", b"", faults=[web.redirect(here)] * 99)
    project.card(data=part(here))
    with pytest.raises(PipelineError, match="Exceeded 30 redirects"):
        project.fetch()


def test_a_web_page_in_place_of_an_unknown_file_is_refused(project, server):
    url = server.add("/data.bin", b"<html>Log in</html>", media_type="text/html; charset=utf-8")
    project.card(data={"kind": "url", "file": "data.bin", "urls": [url]})
    with pytest.raises(PipelineError, match="a web page instead of the file"):
        project.fetch()


@pytest.mark.parametrize("fault", [web.stalled_after(50_000), web.trickling(every=0.02)])
def test_a_transfer_that_stands_still_is_resumed(project, server, monkeypatch, fault):
    monkeypatch.setattr(download, "STALL_SECONDS", 0.2)
    project.card(data=part(server.add("/data.bin", DATA, etag='"one"', faults=[fault])))
    assert project.fetch() == {"data.bin": DATA}
    assert int(server.requests[1].headers["Range"].removeprefix("bytes=").rstrip("-")) > 0


def test_a_transfer_that_always_stands_still_is_an_error(project, server, monkeypatch):
    monkeypatch.setattr(download, "STALL_SECONDS", 0.1)
    faults = [web.stalled_after(0)] * 9
    project.card(data=part(server.add("/data.bin", DATA, faults=faults)))
    with pytest.raises(PipelineError, match="timed out; given up after 5 tries"):
        project.fetch()


def test_the_second_address_serves_when_the_first_is_dead(project, server):
    alive = server.add("/data.bin", DATA)
    with web.proxy(server.host) as (gone, _):
        pass
    project.card(data=part(f"http://{gone}/data.bin", server.url("/nothing"), alive))
    assert project.fetch() == {"data.bin": DATA}


def test_the_second_address_goes_on_with_the_bytes_of_the_first(project, server):
    first = server.add("/first", DATA, etag='"a"')
    server.pages["/first"].faults = [web.cut_after(70_000), *[web.status(503)] * 9]
    project.card(data=part(first, server.add("/second", DATA, etag='"b"')))
    assert project.fetch() == {"data.bin": DATA}
    last = server.requests[-1]
    assert (last.path, last.headers["Range"]) == ("/second", "bytes=70000-")
    assert "If-Range" not in last.headers


def test_all_addresses_are_named_when_none_serves(project, server):
    project.card(data=part(server.url("/one"), server.add("/two", OTHER)))
    with pytest.raises(PipelineError) as raised:
        project.fetch()
    assert f"{server.url('/one')}: the server answers 404" in str(raised.value)
    assert f"{server.url('/two')}: has the sha256" in str(raised.value)


def test_a_full_file_that_was_not_yet_named_is_taken(project, server):
    """Killed between the last byte and the new name."""
    project.card(data=part(server.add("/data.bin", DATA)))
    project.downloads.mkdir(parents=True)
    (project.downloads / "data.bin.part").write_bytes(DATA)
    assert project.fetch() == {"data.bin": DATA}
    assert server.requests[0].status == 416


def test_a_part_that_is_longer_than_the_file_is_thrown_away(project, server):
    project.card(data=part(server.add("/data.bin", DATA)))
    project.downloads.mkdir(parents=True)
    (project.downloads / "data.bin.part").write_bytes(DATA + b"more")
    assert project.fetch() == {"data.bin": DATA}
    project.card(data=part(server.url("/data.bin"), bytes=len(DATA)))


def test_a_damaged_download_is_fetched_again(project, server, capsys):
    project.card(data=part(server.add("/data.bin", DATA)))
    project.fetch()
    (project.downloads / "data.bin").write_bytes(OTHER)
    assert project.fetch() == {"data.bin": DATA}
    assert "downloading it again" in capsys.readouterr().err


def test_nothing_is_shown_when_nobody_looks(project, server, capfd):
    project.card(data=part(server.add("/data.bin", DATA)))
    project.fetch()
    assert capfd.readouterr() == ("", "")


def test_a_terminal_sees_how_fast_it_goes(project, server):
    project.card(data=part(server.add("/data.bin", DATA, pause=0.02)))
    master, slave = os.openpty()
    termios.tcsetwinsize(slave, (24, 100))
    process = project.start(stderr=slave)
    os.close(slave)
    shown = b""
    # Linux ends a terminal that nobody writes to any more with an error.
    with contextlib.suppress(OSError):
        while piece := os.read(master, 4096):
            shown += piece
    os.close(master)
    process.communicate()
    assert re.search(rb"data.bin: .*/293k \[\d\d:\d\d<\d\d:\d\d, .*B/s\]", shown)


def test_a_full_disk_is_said_and_left_behind(project, server):
    """A limit on the size of files stands for the disk."""
    url = server.add("/data.bin", DATA, length=False)
    project.card(data=part(url))
    limit = "import resource; resource.setrlimit(resource.RLIMIT_FSIZE, (100_000, 100_000))"
    process = project.start(limit)
    _, errors = process.communicate()
    assert process.returncode == 2
    assert "File too large; free some room and run the same command again" in errors
    assert (project.downloads / "data.bin.part").stat().st_size == 100_000
    assert not (project.downloads / "data.bin").exists()
    assert project.fetch() == {"data.bin": DATA}
    assert server.requests[-1].headers["Range"] == "bytes=100000-"


def test_a_really_full_disk(project, server):
    project.downloads.mkdir(parents=True)
    mount = ["mount", "-t", "tmpfs", "-o", "size=128k", "tmpfs", str(project.downloads)]
    done = subprocess.run(mount, capture_output=True, text=True)
    if done.returncode:
        pytest.skip(f"no file system of its own can be mounted: {done.stderr.strip()}")
    try:
        project.card(data=part(server.add("/data.bin", DATA, length=False)))
        with pytest.raises(PipelineError, match="No space left on device; free some room"):
            project.fetch()
        assert left_in(project) == {"data.bin.part", "data.bin.part.json"}
        server.pages["/data.bin"].length = True
        with pytest.raises(PipelineError, match="169kB are needed and .* are free"):
            project.fetch()
    finally:
        subprocess.run(["umount", str(project.downloads)], check=True)
    assert project.fetch() == {"data.bin": DATA}


def test_of_two_processes_one_downloads_and_the_other_waits(project, server):
    url = server.add("/data.bin", DATA, faults=[web.stalled_after(1000)])
    project.card(data=part(url))
    first = project.start()
    wait_until(lambda: server.requests)
    second = project.start()
    assert "waiting for another process" in second.stderr.readline()
    server.go_on.set()
    for process in (first, second):
        _, errors = process.communicate(timeout=60)
        assert process.returncode == 0, errors
    assert len(server.requests) == 1
    assert project.fetched() == {"data.bin": DATA}


def killed_after(project, server, count: int) -> None:
    """Fetch in a process that is killed when the server has sent so many bytes more."""
    before, process = len(server.requests), project.start()

    def enough() -> bool:
        return len(server.requests) > before and server.requests[-1].sent >= count

    wait_until(lambda: enough() or process.poll() is not None)
    process.kill()
    process.communicate()


@pytest.mark.slow
def test_killed_at_any_point_nothing_half_is_taken_for_whole(project, server):
    url = server.add("/data.bin", DATA, etag='"one"', pause=0.02)
    project.card(data=part(url))
    chance = random.Random(2)
    half, whole = project.downloads / "data.bin.part", project.downloads / "data.bin"
    for _ in range(5):
        there = half.stat().st_size if half.exists() else 0
        asked = len(server.requests)
        killed_after(project, server, chance.randrange(1, len(DATA) // 3))
        # What an earlier process had is not asked for again.
        for request in server.requests[asked:]:
            assert request.headers.get("Range") == (f"bytes={there}-" if there else None)
        assert not whole.exists() or whole.read_bytes() == DATA
        assert project.fetched() in ({}, {"data.bin": DATA})
        assert project.receipt.exists() <= (project.fetched() != {})
    assert project.fetch() == {"data.bin": DATA}


def test_a_proxy_is_used(project, server, monkeypatch):
    server.add("/data.bin", DATA)
    project.card(data=part("http://data.invalid/data.bin"))
    with web.proxy(server.host) as (address, asked):
        monkeypatch.setenv("HTTP_PROXY", f"http://somebody:hidden-word@{address}")
        assert project.fetch() == {"data.bin": DATA}
    assert asked == ["http://data.invalid/data.bin"]
    (project.downloads / "data.bin").unlink()
    with pytest.raises(PipelineError, match="Connection refused") as raised:
        project.fetch()
    assert "hidden-word" not in str(raised.value)


def test_a_host_may_be_kept_from_the_proxy(project, server, monkeypatch):
    monkeypatch.setenv("HTTP_PROXY", "http://127.0.0.1:1")
    monkeypatch.setenv("NO_PROXY", "127.0.0.1")
    project.card(data=part(server.add("/data.bin", DATA)))
    assert project.fetch() == {"data.bin": DATA}


def test_credentials_of_netrc_are_used_and_written_nowhere(
    project, server, tmp_path, monkeypatch, capfd
):
    netrc = tmp_path / "netrc"
    netrc.write_text("machine 127.0.0.1 login somebody password hidden-word\n")
    netrc.chmod(0o600)
    monkeypatch.setenv("NETRC", str(netrc))
    url = server.add("/data.bin", DATA, user="somebody:hidden-word")
    server.pages["/data.bin"].faults = [web.cut_after(1000)]
    project.card(data=part(url))
    assert project.fetch() == {"data.bin": DATA}
    server.pages["/data.bin"].user = "somebody:else"
    (project.downloads / "data.bin").unlink()
    with pytest.raises(PipelineError, match="401 Unauthorized; give user and password") as raised:
        project.fetch()
    written = "".join(capfd.readouterr()) + str(raised.value) + everything(project)
    assert "hidden-word" not in written


def test_credentials_of_the_environment_are_used_and_written_nowhere(
    project, server, monkeypatch, capfd
):
    server.add("/data.bin", DATA, user="somebody:hidden/word", faults=[web.cut_after(1000)])
    template = f"http://${{SOME_USER}}:${{SOME_PASSWORD}}@{server.host}/data.bin"
    project.card(data=part(template))
    with pytest.raises(PipelineError, match="environment variable SOME_USER is not set"):
        project.fetch()
    monkeypatch.setenv("SOME_USER", "somebody")
    monkeypatch.setenv("SOME_PASSWORD", "hidden/word")
    # Half a file, so that there is a note of where it comes from.
    server.pages["/data.bin"].faults = [web.cut_after(1000), *[web.status(500)] * 4]
    with pytest.raises(PipelineError, match=rf"http://\*\*\*@{server.host}/data.bin") as raised:
        project.fetch()
    written = "".join(capfd.readouterr()) + str(raised.value) + everything(project)
    assert "part.json" in "".join(left_in(project))
    assert "hidden" not in written
    assert project.fetch() == {"data.bin": DATA}
    assert server.requests[-1].headers["Range"] == "bytes=1000-"
    assert "hidden" not in everything(project)


def test_a_password_in_the_card_is_not_shown(project, server):
    project.card(data=part(f"http://somebody:hidden-word@{server.host}/nothing"))
    with pytest.raises(PipelineError, match="404") as raised:
        project.fetch()
    assert "hidden-word" not in str(raised.value)


def test_the_address_of_a_redirect_is_not_shown(project, server):
    """It often holds a signature that opens the file for everybody."""
    away = "http://127.0.0.1:1/data.bin?signature=hidden-word"
    project.card(data=part(server.add("/data.bin", b"", faults=[web.redirect(away)] * 9)))
    with pytest.raises(PipelineError, match="Connection refused") as raised:
        project.fetch()
    assert "hidden-word" not in str(raised.value)


@pytest.mark.parametrize("echo", ["reason", "etag", "last_modified", "line"])
def test_what_a_server_repeats_of_the_credentials_is_written_nowhere(
    project, server, monkeypatch, capfd, echo
):
    monkeypatch.setenv("SOME_TOKEN", "hidden-word")
    template = f"http://somebody:hidden-too@{server.host}/data.bin?key=${{SOME_TOKEN}}"
    in_base64 = base64.b64encode(b"somebody:hidden-too").decode()
    secret = in_base64 if echo == "last_modified" else "hidden-word"
    server.add("/data.bin", DATA)
    page = server.pages["/data.bin"]
    if echo == "reason":
        page.faults = [web.status_line(b"HTTP/1.1 404 " + secret.encode())] * 9
    elif echo == "line":
        page.faults = [web.status_line(secret.encode())] * 9
    else:
        setattr(page, echo, f'"{secret}"')
        page.faults = [web.cut_after(1000), *[web.status(404)] * 9]
    project.card(data=part(template))
    with pytest.raises(PipelineError, match="404 Not Found|no HTTP") as raised:
        project.fetch()
    written = "".join(capfd.readouterr()) + str(raised.value) + everything(project)
    assert "hidden" not in written and secret not in written
    if echo in ("etag", "last_modified"):
        assert "part.json" in "".join(left_in(project))


def everything(project) -> str:
    """All that fetch wrote."""
    paths = [path for root in ("work", "data") for path in (project.root / root).rglob("*")]
    return "".join(path.read_bytes().decode("latin-1") for path in paths if path.is_file())


def test_the_first_checksum_seen_is_recorded_and_then_expected(project, server, capfd):
    url = server.add("/data.bin", DATA)
    project.card(data={"kind": "url", "file": "data.bin", "urls": [url]})
    assert project.fetch() == {"data.bin": DATA}
    lock = project.root / "params/datasets/checksums.json"
    recorded = {"made_up": {"data.bin": {"bytes": len(DATA), "sha256": SHA256}}}
    assert json.loads(lock.read_text()) == recorded
    assert "checksums.json, which is to be committed" in capfd.readouterr().err
    server.pages["/data.bin"].content = OTHER
    (project.downloads / "data.bin").unlink()
    with pytest.raises(PipelineError, match="has the sha256") as raised:
        project.fetch()
    assert "params/datasets/checksums.json: where the new file is right, delete" in str(
        raised.value
    )
    assert json.loads(lock.read_text()) == recorded


def test_what_the_card_vouches_for_is_not_recorded(project, server):
    project.card(data=part(server.add("/data.bin", DATA)))
    project.fetch()
    assert not (project.root / "params/datasets/checksums.json").exists()


def test_a_broken_record_is_an_error(project, server):
    url = server.add("/data.bin", DATA)
    project.card(data={"kind": "url", "file": "data.bin", "urls": [url]})
    lock = project.root / "params/datasets/checksums.json"
    for text in ("{", "[1]"):
        lock.write_text(text)
        with pytest.raises(PipelineError, match="params/datasets/checksums.json"):
            project.fetch()


def test_a_mirror_comes_first(project, server, tmp_path, monkeypatch, capfd):
    project.card(data=part(server.add("/data.bin", DATA)))
    project.fetch()
    by_network = project.receipt.read_bytes()
    mirror = tmp_path / "mirror"
    (mirror / "made_up").mkdir(parents=True)
    (mirror / "made_up/data.bin").write_bytes(DATA)
    monkeypatch.setenv("SAR_MIRROR", str(mirror))
    (project.downloads / "data.bin").unlink()
    assert project.fetch() == {"data.bin": DATA}
    assert len(server.requests) == 1
    assert project.receipt.read_bytes() == by_network

    (mirror / "made_up/data.bin").write_bytes(OTHER)
    with pytest.raises(PipelineError, match="mirror/made_up/data.bin has the sha256"):
        project.fetch()
    assert project.receipt.read_bytes() == by_network

    (mirror / "made_up/data.bin").unlink()
    assert capfd.readouterr() == ("", "")
    assert project.fetch() == {"data.bin": DATA}
    assert "mirror/made_up/data.bin; going on to the network" in capfd.readouterr().err

    monkeypatch.setenv("SAR_MIRROR", str(tmp_path / "nowhere"))
    with pytest.raises(PipelineError, match="SAR_MIRROR=.*nowhere: no such folder"):
        project.fetch()
