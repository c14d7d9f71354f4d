"""Some files of a git repository, each verified by its blob id; from git, by hand, a mirror."""

from __future__ import annotations

import shutil

import pytest

from pipelines.base.errors import PipelineError
from pipelines.fetch import listing
from pipelines.fetch.missing import missing_data
from pipelines.study import Dataset
from tests.pipelines.fetch import repositories
from tests.pipelines.fetch.conftest import NAME
from tests.pipelines.fetch.repositories import FILES, FOLDER

ODD = {
    "odd/näme [1].txt": b"1",
    "odd/#two !.txt": b"2",
    "odd/back\\slash*.txt": b"3",
    'odd/quo"te\t.txt': b"4",
}
GLOBS = ["data/things/*.txt", "data/things/deep/two.[a-c]in"]
WANTED = {name: FILES[name] for name in ("data/things/one.txt", "data/things/deep/two.bin")}


@pytest.fixture
def repository(tmp_path):
    (tmp_path / "served").mkdir()
    return repositories.create(tmp_path / "served/things.git")


@pytest.fixture
def served(repository):
    with repositories.served(repository.path.parent) as server:
        yield server


def root(repository, url: str, files: list[str] | None = GLOBS, commit: str | None = None) -> dict:
    commit = commit or repository.commit
    tree = repositories.git(repository.path, "rev-parse", f"{commit}^{{tree}}")
    part = {"kind": "git", "url": url, "commit": commit, "tree": tree}
    return part | ({} if files is None else {"files": files})


def test_only_the_files_come(project, repository, served):
    part = root(repository, f"http://{served.address}/things.git")
    project.card(things=part)
    [line] = missing_data(Dataset.load(NAME))
    assert line == f"{NAME}: {GLOBS[0]} and {GLOBS[1]} of {part['url']}"
    assert project.fetch() == WANTED
    assert sum(served.sent) < 100_000
    there = {path.name for path in project.downloads.iterdir()}
    assert there == {"data", listing.NAME}
    asked = len(served.sent)
    receipt = project.receipt.read_bytes()
    assert project.fetch() == WANTED
    assert len(served.sent) == asked and project.receipt.read_bytes() == receipt


def test_files_of_a_folder(project, repository):
    part = repository.part(repository.path.as_uri(), files=["deep/*"])
    project.card(things=part)
    assert project.fetch() == {f"{FOLDER}/deep/two.bin": FILES[f"{FOLDER}/deep/two.bin"]}
    assert (project.downloads / FOLDER / listing.NAME).is_file()


def test_a_whole_repository_with_whatever_names(project, repository):
    work = repository.path.with_name("work_tree")
    for name, content in ODD.items():
        (work / name).parent.mkdir(exist_ok=True)
        (work / name).write_bytes(content)
    repositories.git(work, "add", "--all")
    repositories.git(work, "commit", "--quiet", "--message", "odd")
    commit = repositories.git(work, "rev-parse", "HEAD")
    repositories.git(work, "push", "--quiet", str(repository.path), "main")
    url = repository.path.as_uri()
    changed = FILES | {"data/things/one.txt": b"changed"}
    project.card(things=root(repository, url, None, commit))
    assert project.fetch() == changed | ODD
    for name in ODD:
        glob = name.replace("[", "[[]").replace("*", "[*]")
        project.card(things=root(repository, url, [glob], commit))
        (project.downloads / name).unlink()
        assert project.fetch() == {name: ODD[name]}


def test_only_what_is_missing_or_damaged_is_fetched(project, repository, served):
    project.card(things=root(repository, f"http://{served.address}/things.git", ["*.bin"]))
    project.downloads.mkdir(parents=True)
    (project.downloads / "big.bin").write_bytes(FILES["big.bin"])
    assert project.fetch() == {"big.bin": FILES["big.bin"]}
    assert sum(served.sent) < 100_000
    (project.downloads / "big.bin").write_bytes(b"damaged")
    assert project.fetch() == {"big.bin": FILES["big.bin"]}
    assert sum(served.sent) > 2_000_000


def test_offline_the_listing_vouches_for_the_files(project, repository, tmp_path, monkeypatch):
    project.card(things=root(repository, repository.path.as_uri()))
    assert project.fetch() == WANTED
    mirrored = tmp_path / "mirror" / NAME
    shutil.move(project.downloads, mirrored)
    (mirrored / "not-of-the-commit.txt").write_bytes(b"ignored")
    nowhere = root(repository, "file:///nowhere")
    project.card(things=nowhere)
    monkeypatch.setenv("SAR_MIRROR", str(tmp_path / "mirror"))
    assert missing_data(Dataset.load(NAME)) == []
    assert project.fetch() == WANTED

    (mirrored / "data/things/one.txt").write_bytes(b"One")
    with pytest.raises(PipelineError, match=r"mirror/made_up/data/things/one.txt is not the file"):
        project.fetch()
    (mirrored / "data/things/one.txt").unlink()
    with pytest.raises(PipelineError, match="cannot fetch commit"):
        project.fetch()
    (mirrored / "data/things/one.txt").write_bytes(b"One")
    blob = repositories.git(tmp_path, "hash-object", str(mirrored / "data/things/one.txt"))
    right = repositories.git(
        repository.path, "rev-parse", f"{repository.commit}:data/things/one.txt"
    )
    text = (mirrored / listing.NAME).read_text()
    (mirrored / listing.NAME).write_text(text.replace(right, blob))
    with pytest.raises(PipelineError, match=f"is not git's listing of the tree {nowhere['tree']}"):
        project.fetch()


@pytest.mark.parametrize(
    ("more", "message"),
    [
        ({"tree": "0" * 40}, "no folder . with the tree id 0000000000"),
        ({"commit": "0" * 40}, "cannot fetch commit 0000000000"),
        ({"folder": "data/nothing"}, "no folder data/nothing with the tree id"),
        ({"files": ["*.bin", "*/one.txt"]}, r"things.files.1: '\*/one.txt' matches no file"),
        ({"files": []}, "things.*files: .*at least 1 item"),
        ({"files": ["../x"]}, "things.*files.0: expected a path below a folder"),
    ],
)
def test_what_cannot_be_had_is_named(project, repository, more, message):
    project.card(things=root(repository, repository.path.as_uri()) | more)
    with pytest.raises(PipelineError, match=message):
        project.fetch()
    assert not project.receipt.exists()


def test_a_link_is_refused(project, repository):
    work = repository.path.with_name("work_tree")
    (work / "data/link").symlink_to("/etc/hostname")
    repositories.git(work, "add", "--all")
    repositories.git(work, "commit", "--quiet", "--message", "link")
    commit = repositories.git(work, "rev-parse", "HEAD")
    repositories.git(work, "push", "--quiet", str(repository.path), "main")
    project.card(things=root(repository, repository.path.as_uri(), ["data/*"], commit))
    with pytest.raises(PipelineError, match="data/link is a link or another repository"):
        project.fetch()
    project.card(things=root(repository, repository.path.as_uri(), ["data/other.*"], commit))
    assert project.fetch() == {"data/other.txt": FILES["data/other.txt"]}


@pytest.mark.parametrize(
    "text", [b"", b"100644 blob 00\tx", b'100644 blob %s\t"\xff"' % (b"0" * 40)]
)
def test_what_is_no_listing_is_none(text):
    assert listing.read(text, "0" * 40) is None
