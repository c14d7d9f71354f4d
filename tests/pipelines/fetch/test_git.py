"""A folder of a git repository, from a real one: file://, git's own HTTP server, a mirror."""

from __future__ import annotations

import json
import shutil

import pytest

from pipelines.base.errors import PipelineError
from pipelines.fetch.trees import files_with_id, tree_id
from tests.pipelines.fetch import repositories
from tests.pipelines.fetch.repositories import FILES, FOLDER

WANTED = {name: content for name, content in FILES.items() if name.startswith(FOLDER)}


@pytest.fixture
def repository(tmp_path):
    (tmp_path / "served").mkdir()
    return repositories.create(tmp_path / "served/things.git")


@pytest.fixture
def served(repository):
    with repositories.served(repository.path.parent) as server:
        yield server


def url_of(repository) -> str:
    return repository.path.as_uri()


def test_only_the_folder_comes(project, repository, served):
    project.card(things=repository.part(f"http://{served.address}/things.git"))
    assert project.fetch() == WANTED
    assert sum(served.sent) < 100_000
    assert {path.name for path in project.downloads.iterdir()} == {"data"}
    asked = len(served.sent)
    assert project.fetch() == WANTED
    assert len(served.sent) == asked


def test_a_server_that_sends_only_what_it_advertises(project, repository, served, monkeypatch):
    """Before version 2 of the protocol, a server refuses a commit that no branch points at."""
    monkeypatch.setenv("GIT_CONFIG_COUNT", "1")
    monkeypatch.setenv("GIT_CONFIG_KEY_0", "protocol.version")
    monkeypatch.setenv("GIT_CONFIG_VALUE_0", "0")
    project.card(things=repository.part(f"http://{served.address}/things.git"))
    assert project.fetch() == WANTED


def test_a_server_that_filters_nothing(project, repository, served):
    repositories.git(repository.path, "config", "uploadpack.allowFilter", "false")
    project.card(things=repository.part(f"http://{served.address}/things.git"))
    assert project.fetch() == WANTED


def test_mirror_and_network_give_one_receipt(project, repository, tmp_path, monkeypatch, capfd):
    project.card(things=repository.part(url_of(repository)))
    assert project.fetch() == WANTED
    receipt = project.receipt.read_bytes()
    mirrored = tmp_path / "mirror/made_up" / FOLDER
    shutil.copytree(project.downloads / FOLDER, mirrored)
    shutil.rmtree(project.downloads)
    project.card(things=repository.part("file:///nowhere"))
    monkeypatch.setenv("SAR_MIRROR", str(tmp_path / "mirror"))
    # What copying does to a folder: other modes, files of a desktop.
    (mirrored / "run.sh").chmod(0o644)
    for name in (".DS_Store", "deep/._two.bin", "Thumbs.db"):
        (mirrored / name).write_bytes(b"desktop")
    with pytest.raises(PipelineError, match="has git's tree id"):
        project.fetch()
    (mirrored / "run.sh").chmod(0o755)
    assert project.fetch() == WANTED
    assert digests_of(project.receipt.read_bytes()) == digests_of(receipt)
    assert "network" not in capfd.readouterr().err

    (mirrored / "one.txt").write_bytes(b"One")
    with pytest.raises(PipelineError, match=f"mirror/made_up/{FOLDER} has git's tree id"):
        project.fetch()


def digests_of(receipt: bytes) -> str:
    """Without the hash of the card, which a test may change."""
    return json.loads(receipt)["digests"]


def test_a_folder_of_plain_files_is_known_whatever_its_modes(project, repository, tmp_path):
    """As on file systems where every file is executable, or none."""
    plain = tmp_path / "plain"
    (plain / "deep").mkdir(parents=True)
    (plain / "deep/a").write_bytes(b"a")
    (plain / "b").write_bytes(b"b")
    expected = tree_id(plain)
    for path in (plain / "deep/a", plain / "b"):
        path.chmod(0o777)
    assert tree_id(plain) != expected
    assert set(map(str, files_with_id(plain, expected))) == {"deep/a", "b"}
    (plain / "b").write_bytes(b"c")
    assert files_with_id(plain, expected) is None


def test_a_mirror_without_the_folder_is_said(project, repository, tmp_path, monkeypatch, capfd):
    (tmp_path / "mirror").mkdir()
    monkeypatch.setenv("SAR_MIRROR", str(tmp_path / "mirror"))
    project.card(things=repository.part(url_of(repository)))
    assert project.fetch() == WANTED
    assert f"no {tmp_path}/mirror/made_up/{FOLDER}; going on to the" in capfd.readouterr().err


@pytest.mark.parametrize(
    ("more", "reason"),
    [
        ({"tree": "0" * 40}, "expected 0000000000"),
        ({"folder": "data/nothing"}, "has no folder data/nothing at commit"),
        ({"commit": "0" * 40}, "cannot fetch commit 0000000000"),
        ({"url": "file:///nowhere/things.git"}, "cannot fetch commit"),
    ],
)
def test_what_cannot_be_had_leaves_nothing(project, repository, more, reason):
    project.card(things=repository.part(url_of(repository)) | more)
    with pytest.raises(PipelineError, match=f"source.parts.things.*{reason}"):
        project.fetch()
    assert [path for path in project.downloads.rglob("*") if path.is_file()] == []
    assert not project.receipt.exists()


def test_a_damaged_folder_and_leftovers_of_a_kill_are_replaced(project, repository):
    project.card(things=repository.part(url_of(repository)))
    project.fetch()
    (project.downloads / FOLDER / "one.txt").write_bytes(b"damaged")
    left = project.downloads / "data/.things.killed.part"
    left.mkdir()
    assert project.fetch() == WANTED
    assert not left.exists()


def test_a_symbolic_link_in_the_folder_is_not_followed(project, repository, tmp_path):
    work = tmp_path / "served/work_tree"
    (work / FOLDER / "link").symlink_to("/etc/hostname")
    repositories.git(work, "add", "--all")
    repositories.git(work, "commit", "--quiet", "--message", "link")
    commit = repositories.git(work, "rev-parse", "HEAD")
    tree = repositories.git(work, "rev-parse", f"HEAD:{FOLDER}")
    project.card(things=repository.part(work.as_uri(), commit=commit, tree=tree))
    with pytest.raises(PipelineError, match=f"expected {tree}"):
        project.fetch()


def test_git_never_asks_for_a_password(project, repository, served, monkeypatch, tmp_path):
    monkeypatch.setenv("HOME", str(tmp_path))
    served.user = "somebody:hidden-word"
    project.card(things=repository.part(f"http://{served.address}/things.git"))
    with pytest.raises(PipelineError, match="terminal prompts disabled"):
        project.fetch()


def test_credentials_are_used_and_written_nowhere(
    project, repository, served, monkeypatch, tmp_path, capfd
):
    monkeypatch.setenv("HOME", str(tmp_path))
    served.user = "somebody:hidden-word"
    project.card(things=repository.part(f"http://{served.address}/things.git"))
    netrc = tmp_path / ".netrc"
    netrc.write_text("machine 127.0.0.1 login somebody password hidden-word\n")
    assert project.fetch() == WANTED
    netrc.unlink()
    shutil.rmtree(project.downloads)

    monkeypatch.setenv("SOME_PASSWORD", "hidden-word")
    url = f"http://somebody:${{SOME_PASSWORD}}@{served.address}/things.git"
    project.card(things=repository.part(url))
    assert project.fetch() == WANTED
    paths = [path for root in ("work", "data") for path in (project.root / root).rglob("*")]
    written = b"".join(path.read_bytes() for path in paths if path.is_file()).decode("latin-1")

    served.user = "somebody:else"
    shutil.rmtree(project.downloads)
    with pytest.raises(PipelineError) as raised:
        project.fetch()
    assert "hidden-word" not in written + str(raised.value) + "".join(capfd.readouterr())
    assert f"http://***@{served.address}/things.git" in str(raised.value)


def test_a_secret_anywhere_in_the_address_is_not_shown(project, repository, served, monkeypatch):
    monkeypatch.setenv("SOME_TOKEN", "hidden word")
    project.card(things=repository.part(f"http://{served.address}/${{SOME_TOKEN}}/things.git"))
    with pytest.raises(PipelineError, match="not found") as raised:
        project.fetch()
    assert "hidden" not in str(raised.value)


def test_a_surrounding_repository_is_left_alone(project, repository, monkeypatch):
    """As in a git hook, where git's own variables point at the repository of the hook."""
    repositories.git(project.root, "init", "--quiet")
    monkeypatch.setenv("GIT_DIR", str(project.root / ".git"))
    monkeypatch.setenv("GIT_INDEX_FILE", str(project.root / ".git/index"))
    project.card(things=repository.part(url_of(repository)))
    assert project.fetch() == WANTED
    assert not (project.root / ".git/shallow").exists()


def test_without_git_it_is_said(project, repository, monkeypatch, tmp_path):
    monkeypatch.setenv("PATH", str(tmp_path))
    project.card(things=repository.part(url_of(repository)))
    with pytest.raises(PipelineError, match="git is not on PATH; install it"):
        project.fetch()
