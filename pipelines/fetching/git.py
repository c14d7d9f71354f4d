"""A folder of a git repository at one commit, fetched without the rest where the server allows."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path, PurePosixPath

from pipelines.cards import GitPart
from pipelines.errors import PipelineError
from pipelines.fetching.credentials import expanded, redacted, struck
from pipelines.fetching.trees import files_with_id, tree_id

_SETTINGS = {
    # A stalled transfer is an error: less than 1000 bytes a second for a minute.
    "http.lowSpeedLimit": "1000",
    "http.lowSpeedTime": "60",
    # Files are taken as the repository has them.
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


def fetch_folder(part: GitPart, target: Path, where: str, lock: int) -> list[PurePosixPath]:
    """Bring the folder of `part` to `target`, which appears only when its tree id is right.

    Args:
        target: the place of the folder among the downloads.
        where: what an error message calls the part.
        lock: descriptor that git inherits, so that the lock outlives a kill of this process.

    Returns:
        The files that count, by their paths below `target`.

    Raises:
        PipelineError: without git, a connection, the commit or the folder, or with other content.
    """
    if shutil.which("git") is None:
        raise PipelineError(f"{where}: git is not on PATH; install it (https://git-scm.com)")
    target.parent.mkdir(parents=True, exist_ok=True)
    prefix = f".{target.name}."
    for left in target.parent.glob(f"{prefix}*.part"):
        shutil.rmtree(left, ignore_errors=True)
    scratch = Path(tempfile.mkdtemp(prefix=prefix, suffix=".part", dir=target.parent))
    try:
        found = _check_out(part, scratch, where, lock) / part.folder
        if not found.is_dir():
            raise PipelineError(
                f"{where}: {redacted(part.url)} has no folder {part.folder} at commit "
                f"{part.commit}; correct folder or commit in the data card"
            )
        files = files_with_id(found, part.tree)
        if files is None:
            raise PipelineError(
                f"{where}: {part.folder} of {redacted(part.url)} at commit {part.commit} has the "
                f"tree id {tree_id(found)}, expected {part.tree}; correct tree in the data card, "
                "or do not trust this repository"
            )
        if target.exists():
            shutil.rmtree(target)
        found.replace(target)
        return files
    finally:
        shutil.rmtree(scratch, ignore_errors=True)


def _check_out(part: GitPart, scratch: Path, where: str, lock: int) -> Path:
    """A repository below `scratch` with the folder of `part` checked out."""
    url = expanded(part.url, where)
    said = []
    for number, options in enumerate(_WAYS):
        repository = scratch / str(number)
        repository.mkdir()
        commit = [] if "--tags" in options else [part.commit]
        failure = _run(repository, url, lock, "init", "--quiet")
        # Attributes in the repository may ask for other line ends or for filters.
        (repository / ".git/info").mkdir(exist_ok=True)
        (repository / ".git/info/attributes").write_text(_PLAIN_FILES, encoding="utf-8")
        for words in (
            ("sparse-checkout", "set", "--no-cone", f"/{part.folder}/"),
            ("fetch", "--progress", *options, "origin", *commit),
            ("checkout", "--progress", "--detach", part.commit),
        ):
            failure = failure or _run(repository, url, lock, *words)
        if failure is None:
            return repository
        said.append(struck(failure, part.url))
        shutil.rmtree(repository)
    reasons = "\n".join(dict.fromkeys(said))
    raise PipelineError(
        f"{where}: cannot fetch commit {part.commit} of {redacted(part.url)}; check the network "
        f"and proxy settings, or give the folder in a mirror (SAR_MIRROR). git said:\n{reasons}"
    )


def _run(repository: Path, url: str, lock: int, *words: str) -> str | None:
    """Run git; None when it went well, else what it said."""
    shown = sys.stderr if sys.stderr.isatty() and "--progress" in words else None
    done = subprocess.run(
        ["git", *words],
        cwd=repository,
        env=_environment(url),
        stdin=subprocess.DEVNULL,
        stdout=subprocess.DEVNULL,
        stderr=shown or subprocess.PIPE,
        text=True,
        errors="replace",
        pass_fds=[lock],
    )
    if done.returncode == 0:
        return None
    return (done.stderr or "").strip() or f"git {words[0]} ended with {done.returncode}"


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
