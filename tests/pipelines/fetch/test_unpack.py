"""Archives are unpacked as they are, or refused with the name of the member."""

from __future__ import annotations

import gzip
import lzma
import random
import stat
import subprocess
import tarfile
import threading
import tracemalloc
import zipfile
from pathlib import Path

import pytest

from pipelines.base.errors import PipelineError
from pipelines.fetch import Stopped
from pipelines.fetch import unpack as unpack_module
from pipelines.fetch.unpack import unpack
from tests.pipelines.fetch.archives import (
    add,
    make_tar,
    make_zip,
    mark_encrypted,
    zip_of_kind,
)

FILES = {"a/one.txt": b"one", "a/b/two.bin": bytes(range(256)) * 999, "three": b""}
TARS = {"data.tar": "w", "data.tar.gz": "w:gz", "data.tar.bz2": "w:bz2", "data.tar.xz": "w:xz"}
MAKERS = {
    "data.zip": make_zip,
    **{
        name: lambda path, files, mode=mode: make_tar(path, files, mode)
        for name, mode in TARS.items()
    },
}


@pytest.fixture
def unpacked(tmp_path):
    """A function that unpacks an archive; what is there then, by name."""
    target = tmp_path / "outer/target"

    def run(archive, bound=10**6):
        unpack(archive, target, bound, "card: part", threading.Event())
        paths = [path for path in target.rglob("*") if path.is_file()]
        assert not any(path.is_symlink() for path in target.rglob("*"))
        return {path.relative_to(target).as_posix(): path.read_bytes() for path in paths}

    yield run
    # Whatever happened: nothing outside.
    assert {path.name for path in target.parent.iterdir()} <= {"target"}


@pytest.mark.parametrize("name", MAKERS)
def test_all_files_are_unpacked(tmp_path, unpacked, name):
    assert unpacked(MAKERS[name](tmp_path / name, FILES)) == FILES


def test_the_content_tells_what_an_archive_is(tmp_path, unpacked):
    """A tar whose last member is a zip ends like a zip."""
    inner = make_zip(tmp_path / "inner.zip", FILES).read_bytes()
    archive = make_tar(tmp_path / "data.bin", {"inner.zip": inner})
    assert unpacked(archive) == {"inner.zip": inner}


def test_folders_and_the_root_are_members_too(tmp_path, unpacked):
    with tarfile.open(tmp_path / "data.tar", "w") as archive:
        add(archive, "./", type=tarfile.DIRTYPE)
        add(archive, "./a/", type=tarfile.DIRTYPE)
        add(archive, "./a/one", b"1")
    assert unpacked(tmp_path / "data.tar") == {"a/one": b"1"}


@pytest.mark.parametrize("name", ["../evil", "a/../../evil", "/evil", "C:/evil", "..\\evil", ".."])
@pytest.mark.parametrize("make", [make_zip, make_tar])
def test_a_path_out_of_the_folder_is_refused(tmp_path, unpacked, make, name):
    archive = make(tmp_path / "data", {"good": b"", name: b"evil"})
    with pytest.raises(PipelineError, match="leads out of the folder") as raised:
        unpacked(archive)
    assert name in str(raised.value)
    assert str(archive) in str(raised.value)


@pytest.mark.parametrize("to", ["../outside", "/etc/passwd", "a/../../outside"])
def test_a_symbolic_link_out_of_the_archive_is_refused(tmp_path, unpacked, to):
    with tarfile.open(tmp_path / "data.tar", "w") as archive:
        add(archive, "link", type=tarfile.SYMTYPE, linkname=to)
        add(archive, "link/evil", b"evil")
    with pytest.raises(PipelineError, match=f"link: links to {to}, out of the archive"):
        unpacked(tmp_path / "data.tar")
    zipped = zip_of_kind(tmp_path / "data.zip", "link", stat.S_IFLNK, to.encode())
    with pytest.raises(PipelineError, match=f"link: links to {to}, out of the archive"):
        unpacked(zipped)


def test_a_hard_link_out_of_the_archive_is_refused(tmp_path, unpacked):
    for to in ("/etc/passwd", "../outside"):
        with tarfile.open(tmp_path / "data.tar", "w") as archive:
            add(archive, "link", type=tarfile.LNKTYPE, linkname=to)
        with pytest.raises(PipelineError, match=f"{to}: leads out"):
            unpacked(tmp_path / "data.tar")


def test_links_within_the_archive_become_copies(tmp_path, unpacked):
    with tarfile.open(tmp_path / "data.tar", "w") as archive:
        add(archive, "a/soft", type=tarfile.SYMTYPE, linkname="../b/chain")
        add(archive, "b/one", b"1")
        add(archive, "b/chain", type=tarfile.SYMTYPE, linkname="one")
        add(archive, "hard", type=tarfile.LNKTYPE, linkname="b/one")
    expected = {"a/soft": b"1", "b/one": b"1", "b/chain": b"1", "hard": b"1"}
    assert unpacked(tmp_path / "data.tar") == expected


@pytest.mark.parametrize(
    ("links", "reason"),
    [
        ({"a": "b", "b": "a"}, "links that lead in a circle"),
        ({"a": "a"}, "links that lead in a circle"),
        ({"a": "nothing"}, "a: a link to nothing, which is no file of the archive"),
        ({"a": "."}, "a: a link to ., which is no file of the archive"),
    ],
)
def test_links_to_no_file_are_refused(tmp_path, unpacked, links, reason):
    with tarfile.open(tmp_path / "data.tar", "w") as archive:
        for name, to in links.items():
            add(archive, name, type=tarfile.SYMTYPE, linkname=to)
    with pytest.raises(PipelineError, match=reason):
        unpacked(tmp_path / "data.tar")


def test_copies_of_links_count(tmp_path, unpacked):
    with tarfile.open(tmp_path / "data.tar", "w") as archive:
        add(archive, "one", bytes(1000))
        for index in range(9):
            add(archive, f"link{index}", type=tarfile.LNKTYPE, linkname="one")
    with pytest.raises(PipelineError, match="holds more than the 5000 bytes"):
        unpacked(tmp_path / "data.tar", bound=5000)


def test_devices_are_refused(tmp_path, unpacked):
    for kind in (tarfile.CHRTYPE, tarfile.BLKTYPE, tarfile.FIFOTYPE):
        with tarfile.open(tmp_path / "data.tar", "w") as archive:
            add(archive, "dev", type=kind)
        with pytest.raises(PipelineError, match="dev: is a device"):
            unpacked(tmp_path / "data.tar")
    with pytest.raises(PipelineError, match="dev: is a device"):
        unpacked(zip_of_kind(tmp_path / "data.zip", "dev", stat.S_IFCHR))


@pytest.mark.parametrize("name", MAKERS)
def test_a_bomb_is_stopped_while_it_is_written(tmp_path, unpacked, name):
    archive = MAKERS[name](tmp_path / name, {"small": b"1", "bomb": bytes(10**7)})
    with pytest.raises(PipelineError, match="bomb: with it the archive holds more") as raised:
        unpacked(archive, bound=10**5)
    assert "unpacked_bytes" in str(raised.value)
    written = sum(path.stat().st_size for path in (tmp_path / "outer").rglob("*"))
    assert written < 10**6


def test_a_bomb_that_lies_about_its_size_is_refused(tmp_path, unpacked):
    archive = make_zip(tmp_path / "data.zip", {"bomb": bytes(10**7)})
    data = archive.read_bytes().replace((10**7).to_bytes(4, "little"), (10).to_bytes(4, "little"))
    archive.write_bytes(data)
    with pytest.raises(PipelineError, match="bomb: "):
        unpacked(archive, bound=10**5)


def test_the_bound_itself_is_allowed(tmp_path, unpacked):
    archive = make_zip(tmp_path / "data.zip", {"a": bytes(600), "b": bytes(400)})
    assert len(unpacked(archive, bound=1000)) == 2
    with pytest.raises(PipelineError, match="more than the 999 bytes"):
        unpacked(archive, bound=999)


def test_an_encrypted_zip_is_refused(tmp_path, unpacked):
    archive = mark_encrypted(make_zip(tmp_path / "data.zip", {"secret": b"1"}))
    with pytest.raises(PipelineError, match="secret: is encrypted"):
        unpacked(archive)


@pytest.mark.parametrize("name", MAKERS)
def test_an_archive_cut_anywhere_is_refused(tmp_path, unpacked, name):
    noise = random.Random(0)
    files = {f"file{index}": noise.randbytes(3000) for index in range(4)}
    whole = MAKERS[name](tmp_path / "whole", files).read_bytes()
    # Between two members of a tar as well: there it ends as if it were whole.
    cuts = {noise.randrange(1, len(whole)) for _ in range(30)} | {3584, 7168}
    if name == "data.tar":
        cuts = {cut for cut in cuts if cut < 4 * 3584}
    archive = tmp_path / name
    for cut in cuts:
        archive.write_bytes(whole[:cut])
        with pytest.raises(PipelineError, match="damaged|cut short"):
            unpacked(archive)


def test_damage_names_the_member(tmp_path, unpacked):
    noise = random.Random(0).randbytes(5000)
    for name in ("data.zip", "data.tar.gz"):
        archive = MAKERS[name](tmp_path / name, {"good": b"1", "bad": noise})
        data = bytearray(archive.read_bytes())
        data[2000:2004] = b"\0\0\0\0"
        archive.write_bytes(data)
        with pytest.raises(PipelineError, match="bad: damaged|after bad"):
            unpacked(archive)


def test_what_is_no_archive_is_refused(tmp_path, unpacked):
    for content in (b"", b"<html>", gzip.compress(b"text"), b"PK\x03\x04 and then nothing"):
        (tmp_path / "data.zip").write_bytes(content)
        with pytest.raises(PipelineError, match="is no zip or tar archive, or is damaged"):
            unpacked(tmp_path / "data.zip")


def test_one_name_for_a_file_and_a_folder_is_refused(tmp_path, unpacked):
    for names in (["a", "a/b"], ["a/b", "a"]):
        archive = make_tar(tmp_path / "data.tar", dict.fromkeys(names, b"1"))
        with pytest.raises(PipelineError, match="is a file and a folder"):
            unpacked(archive)
        subprocess.run(["rm", "-r", tmp_path / "outer/target"], check=True)


def test_a_name_that_is_no_text_is_refused(tmp_path, unpacked):
    archive = make_tar(tmp_path / "data.tar", {"caf\udce9": b"1"})
    with pytest.raises(PipelineError, match=r"caf\\udce9': a name that is no UTF-8 text"):
        unpacked(archive)


def test_modes_and_owners_are_not_taken_over(tmp_path, unpacked):
    with tarfile.open(tmp_path / "data.tar", "w") as archive:
        add(archive, "a", b"1", mode=0o6777, uid=12345)
    unpacked(tmp_path / "data.tar")
    state = (tmp_path / "outer/target/a").stat()
    assert not state.st_mode & 0o6111
    assert state.st_uid != 12345


def test_it_stops_when_told(tmp_path):
    stop = threading.Event()
    stop.set()
    with pytest.raises(Stopped):
        unpack(make_zip(tmp_path / "a.zip", FILES), tmp_path / "target", 10**6, "card", stop)


def test_a_compression_that_python_lacks_is_said(tmp_path, unpacked):
    archive = make_zip(tmp_path / "data.zip", {"odd": b"1" * 100})
    data = bytearray(archive.read_bytes())
    for mark, offset in ((b"PK\x03\x04", 8), (b"PK\x01\x02", 10)):
        data[data.index(mark) + offset] = 9  # Deflate64
    archive.write_bytes(data)
    assert zipfile.is_zipfile(archive)
    with pytest.raises(PipelineError, match="at odd"):
        unpacked(archive)


def compressed(path: Path, mode: str, *members: tarfile.TarInfo, **options) -> Path:
    """A tar of members without content."""
    with tarfile.open(path, mode, **options) as archive:
        for info in members:
            archive.addfile(info)
    return path


def test_a_header_of_any_size_costs_little_memory(tmp_path, unpacked):
    """A few kilobytes of archive that would become 64 MiB of names in memory."""
    for kind in (tarfile.GNUTYPE_LONGNAME, tarfile.XHDTYPE, tarfile.XGLTYPE):
        info = tarfile.TarInfo("long")
        info.type, info.size = kind, 2**26
        path = tmp_path / "data.tar.gz"
        with gzip.open(path, "wb", compresslevel=1) as file:
            file.write(info.tobuf(tarfile.USTAR_FORMAT))
            for _ in range(2**6):
                file.write(b"a" * 2**20)
        tracemalloc.start()
        with pytest.raises(PipelineError, match="a header of 67108864 bytes; 65536 is the most"):
            unpacked(path, bound=10**9)
        assert tracemalloc.get_traced_memory()[1] < 2**24
        tracemalloc.stop()


@pytest.mark.parametrize("header", ["GNU.sparse.map", "GNU.sparse.size", None])
def test_a_sparse_file_is_refused(tmp_path, unpacked, header):
    info = tarfile.TarInfo("holes")
    if header is None:
        info.type = tarfile.GNUTYPE_SPARSE
    else:
        info.pax_headers = {header: "0,1"}
    archive = compressed(tmp_path / "data.tar", "w", info, format=tarfile.PAX_FORMAT)
    with pytest.raises(PipelineError, match="is a sparse file"):
        unpacked(archive)


@pytest.mark.parametrize("mode", ["w:gz", "w:bz2", "w:xz"])
def test_more_members_than_the_size_allows_are_refused(tmp_path, unpacked, mode, monkeypatch):
    monkeypatch.setattr(unpack_module, "_MEMBERS", 100)
    members = [tarfile.TarInfo("same") for _ in range(2000)]
    archive = compressed(tmp_path / "data.tar", mode, *members)
    with pytest.raises(PipelineError, match="more than .* members, which is too many for its size"):
        unpacked(archive, bound=10**9)


def test_what_comes_after_the_end_is_bounded(tmp_path, unpacked):
    archive = make_tar(tmp_path / "data.tar.gz", {"a": b"1"}, "w:gz")
    with gzip.open(archive, "ab", compresslevel=1) as file:
        for _ in range(24):
            file.write(bytes(2**20))
    with pytest.raises(PipelineError, match="goes on for more than 16777216 bytes after its end"):
        unpacked(archive)


@pytest.mark.parametrize("name", ["d/" * 70 + "f", "n" * 300, "/".join(["n" * 200] * 6)])
def test_a_path_that_no_disk_takes_is_refused(tmp_path, unpacked, name):
    for suffix, make in MAKERS.items():
        with pytest.raises(PipelineError, match="a path that is too long or too deep"):
            unpacked(make(tmp_path / suffix, {name: b"1"}))


def test_a_long_chain_of_links_is_refused(tmp_path, unpacked):
    chain = []
    for number in range(2000):
        info = tarfile.TarInfo(f"link{number}")
        info.type, info.linkname = tarfile.SYMTYPE, f"link{number + 1}"
        chain.append(info)
    archive = compressed(tmp_path / "data.tar", "w", *chain)
    with pytest.raises(PipelineError, match="link0: more than 40 links"):
        unpacked(archive)


def test_a_tar_much_longer_than_its_content_is_refused(tmp_path, unpacked):
    """Headers between members count too, of which the archive's size would allow few."""
    info = tarfile.TarInfo("note")
    info.type, info.size = tarfile.XGLTYPE, 2**15
    record = b"32768 comment=".ljust(2**15 - 1, b"a") + b"\n"
    archive = tmp_path / "data.tar.xz"
    with lzma.open(archive, "wb", preset=0) as file:
        for number in range(2000):
            file.write(info.tobuf(tarfile.USTAR_FORMAT) + record)
            file.write(tarfile.TarInfo(f"empty{number}").tobuf(tarfile.USTAR_FORMAT))
    with pytest.raises(PipelineError, match="is longer than .* bytes"):
        unpacked(archive, bound=1000)
