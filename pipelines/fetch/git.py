"""A folder or some files of a git repository at one commit.

They are fetched without the rest of the repository, where the server allows that.
"""

from __future__ import annotations

import contextlib
import os
import re
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path, PurePosixPath

from pipelines.base.artifacts import write_whole
from pipelines.base.errors import PipelineError
from pipelines.fetch import listing
from pipelines.fetch.credentials import expanded, redacted, struck
from pipelines.fetch.trees import files_with_id, tree_id
from pipelines.study.cards import GitPart

_SETTINGS = {
    # A stalled transfer is an error: less than 1000 bytes a second for a minute.
    "http.lowSpeedLimit": "1000",
    "http.lowSpeedTime": "60",
    # Listings are ASCII, and files are taken as the repository has them.
    "core.quotePath": "true",
    "core.autocrlf": "false",
    "core.fileMode": "true",
    # No process of git's outlives the command.
    "gc.auto": "0",
    "maintenance.auto": "false",
    "advice.detachedHead": "false",
    "remote.origin.fetch": "+refs/heads/*:refs/remotes/origin/*",
}

_PLAIN_FILES = "* -text -filter -ident -working-tree-encoding\n"

_WAYS = (
    ("--depth=1", "--filter=blob:none"),
    ("--depth=1",),
    ("--filter=blob:none", "--tags"),
    ("--tags",),
)
"""From the least to the whole repository; the last two ask for branches and tags, not a commit."""


def fetch_folder(part: GitPart, target: Path, where: str, lock: int) -> None:
    """Bring the folder of `part` to `target`, which appears only when its tree id is right.

    Args:
        target: the place of the folder among the downloads.
        where: what an error message calls the part.
        lock: descriptor that git inherits, so that the lock outlives a kill of this process.

    Raises:
        PipelineError: without git, a connection, the commit or the folder, or with other content.
    """
    with _scratch(target, where) as scratch:
        found = _check_out(part, scratch, where, lock, lambda _: [f"{part.place}/"]) / part.place
        if not found.is_dir():
            raise PipelineError(
                f"{where}: {redacted(part.url)} has no folder {part.place} at commit "
                f"{part.commit}; correct folder or commit in the data card"
            )
        files = files_with_id(found, part.tree)
        if files is None:
            raise PipelineError(
                f"{where}: {part.place} of {redacted(part.url)} at commit {part.commit} has the "
                f"tree id {tree_id(found)}, expected {part.tree}; correct tree in the data card, "
                "or do not trust this repository"
            )
        if target.exists():
            shutil.rmtree(target)
        found.replace(target)


def fetch_files(part: GitPart, target: Path, where: str, lock: int) -> None:
    """Bring those files of `part` below `target` that are not there, and git's listing of all.

    Args:
        target, where, lock: as of `fetch_folder`.

    Raises:
        PipelineError: without git, a connection, the commit or the folder, or with other content.
    """
    url, folder = expanded(part.url, where), PurePosixPath(part.place)
    tree: list[bytes] = []
    wanted: list[PurePosixPath] = []

    def select(repository: Path) -> list[str]:
        subject = f"{part.commit}:{part.folder or ''}"
        listed = _git(repository, url, lock, "ls-tree", "-r", "-t", subject)
        entries = None if listed.returncode else listing.read(listed.stdout, part.tree)
        if entries is None:
            raise PipelineError(
                f"{where}: {redacted(part.url)} at commit {part.commit} has no folder "
                f"{part.place} with the tree id {part.tree}; correct folder, commit or tree in the "
                "data card, or do not trust this repository"
            )
        tree[:] = [listed.stdout]
        wanted[:] = listing.lacking(target, listing.choose(entries, part.files, where))
        return [str(folder / path) for path in wanted]

    with _scratch(target, where) as scratch:
        found = _check_out(part, scratch, where, lock, select) / part.place
        for path in wanted:
            (target / path).parent.mkdir(parents=True, exist_ok=True)
            os.replace(found / path, target / path)
        target.mkdir(parents=True, exist_ok=True)
        write_whole(target / listing.NAME, tree[0].decode("ascii"))


@contextlib.contextmanager
def _scratch(target: Path, where: str) -> Iterator[Path]:
    """A folder beside `target`, on the same disk; those that a kill left are removed."""
    if shutil.which("git") is None:
        raise PipelineError(f"{where}: git is not on PATH; install it (https://git-scm.com)")
    target.parent.mkdir(parents=True, exist_ok=True)
    prefix = f".{target.name}."
    for left in target.parent.glob(f"{prefix}*.part"):
        shutil.rmtree(left, ignore_errors=True)
    scratch = Path(tempfile.mkdtemp(prefix=prefix, suffix=".part", dir=target.parent))
    try:
        yield scratch
    finally:
        shutil.rmtree(scratch, ignore_errors=True)


def _check_out(
    part: GitPart, scratch: Path, where: str, lock: int, select: Callable[[Path], list[str]]
) -> Path:
    """A repository below `scratch` with what `select` names checked out.

    Args:
        select: gives paths, of folders with a slash at the end, when the commit is in the
            repository that it gets.
    """
    url = expanded(part.url, where)
    failures: list[str] = []
    for number, options in enumerate(_WAYS):
        repository = scratch / str(number)
        repository.mkdir()
        commit = [] if "--tags" in options else [part.commit]
        failure = _run(repository, url, lock, "init", "--quiet")
        # Attributes in the repository may ask for other line ends or for filters.
        (repository / ".git/info").mkdir(exist_ok=True)
        (repository / ".git/info/attributes").write_text(_PLAIN_FILES, encoding="utf-8")
        failure = failure or _run(
            repository, url, lock, "fetch", "--progress", *options, "origin", *commit
        )
        # Without branches that hold it, the commit may still not be there.
        failure = failure or _run(repository, url, lock, "cat-file", "-e", part.commit)
        if failure is None:
            lines = "".join(f"/{_escaped(path)}\n" for path in select(repository))
            sparse = ("sparse-checkout", "set", "--no-cone", "--stdin")
            failure = _run(repository, url, lock, *sparse, given=lines) or _run(
                repository, url, lock, "checkout", "--progress", "--detach", part.commit
            )
        if failure is None:
            return repository
        failures.append(struck(failure, part.url))
        shutil.rmtree(repository)
    reasons = "\n".join(dict.fromkeys(failures))
    raise PipelineError(
        f"{where}: cannot fetch commit {part.commit} of {redacted(part.url)}; check the network "
        f"and proxy settings, or give the folder in a mirror (SAR_MIRROR). git said:\n{reasons}"
    )


def _escaped(path: str) -> str:
    """A path as a pattern that matches it alone."""
    return re.sub(r"([\\*?\[\] #!])", r"\\\1", path)


def _run(repository: Path, url: str, lock: int, *words: str, given: str = "") -> str | None:
    """Run git; None when it went well, else what it said."""
    done = _git(repository, url, lock, *words, given=given)
    if done.returncode == 0:
        return None
    output = (done.stderr or b"").decode("utf-8", "replace").strip()
    return output or f"git {words[0]} ended with {done.returncode}"


def _git(
    repository: Path, url: str, lock: int, *words: str, given: str = ""
) -> subprocess.CompletedProcess[bytes]:
    """Run git, which reads `given`."""
    shown = sys.stderr if sys.stderr.isatty() and "--progress" in words else None
    return subprocess.run(
        ["git", *words],
        cwd=repository,
        env=_environment(url),
        input=os.fsencode(given),
        stdout=subprocess.PIPE,
        stderr=shown or subprocess.PIPE,
        pass_fds=[lock],
    )


def _environment(url: str) -> dict[str, str]:
    # Within a git hook these would point git at the repository of the hook.
    foreign = ("GIT_DIR", "GIT_WORK_TREE", "GIT_INDEX_FILE", "GIT_OBJECT_DIRECTORY", "GIT_PREFIX")
    own = {key: value for key, value in os.environ.items() if key not in foreign}
    # The URL may hold a password: so it stands in no file and in no list of processes.
    settings = _SETTINGS | {"remote.origin.url": url}
    first = int(own.get("GIT_CONFIG_COUNT") or 0)
    for number, (key, value) in enumerate(settings.items(), first):
        own |= {f"GIT_CONFIG_KEY_{number}": key, f"GIT_CONFIG_VALUE_{number}": value}
    never_ask = {"GIT_TERMINAL_PROMPT": "0", "GIT_ASKPASS": "", "SSH_ASKPASS": "", "LC_ALL": "C"}
    count = {"GIT_CONFIG_COUNT": str(first + len(settings))}
    return {"GIT_SSH_COMMAND": "ssh -o BatchMode=yes"} | own | never_ask | count
