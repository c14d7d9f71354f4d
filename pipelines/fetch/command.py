"""Files that a publisher's own program downloads, usually with an account.

A card may come from anywhere, and its command could be any: it runs only where it stands, word by
word, in `params/datasets/commands.json`, or where the user allows the commands of this fetch. It
runs in a session of its own, so that it can ask nothing on the terminal. It gets the credentials as
lines of its input; they are struck out of what it prints.
"""

from __future__ import annotations

import contextlib
import os
import shlex
import shutil
import signal
import subprocess
import sys
import threading
import time
from pathlib import Path, PurePosixPath
from typing import IO
from urllib.parse import quote_plus

from pipelines.base.artifacts import read_json
from pipelines.base.errors import PipelineError
from pipelines.fetch import Stopped
from pipelines.study.cards import CommandPart, Download
from pipelines.study.places import COMMANDS

STALL_SECONDS = 600
"""A program that neither prints nor writes for so long is stopped."""
TRIES = 5
"""As long as each try brings more bytes."""

_LINES = 6
"""How many of the last lines that it printed an error message shows."""
_LOOK_SECONDS = 0.2


def check_allowed(part: CommandPart, allowed: bool, where: str) -> None:
    """Refuse a program that nobody has looked at.

    Args:
        allowed: whether the user allows the commands of this fetch.

    Raises:
        PipelineError: showing the command and how it is allowed.
    """
    listed = read_json(COMMANDS) if COMMANDS.is_file() else []
    words = isinstance(listed, list) and all(isinstance(each, list) for each in listed)
    if not words:
        raise PipelineError(f"{COMMANDS}: expected a list of commands, each a list of words")
    if not allowed and part.command not in listed:
        raise PipelineError(
            f"{where}.command: would run a program on this machine:\n  {shlex.join(part.command)}\n"
            "If that is what you want, give --allow-commands to python -m pipelines.fetch, or, for "
            f"all who use this project, add the command to {COMMANDS}"
        )


def run(
    part: CommandPart,
    download: Download,
    folder: Path,
    by_hand: str,
    where: str,
    lock: int,
    stop: threading.Event,
) -> None:
    """Let the program leave the file of `download` in `folder`, which exists.

    Args:
        by_hand: what a person can do instead, for error messages.
        where: what an error message calls the part.
        lock: descriptor that the program inherits, so that the lock outlives a kill of this
            process.
        stop: set by another thread to end the program early.

    Raises:
        PipelineError: when the program is not there, fails, stalls, or leaves no such file.
        Stopped: after `stop`.
    """
    name = PurePosixPath(download.file).name
    words = [
        word.replace("{folder}", str(folder.resolve())).replace("{file}", name)
        for word in part.command
    ]
    if shutil.which(words[0]) is None:
        how = f"install it ({part.install})" if part.install else "install it"
        raise PipelineError(f"{where}: {words[0]} is not on PATH; {how}, or {by_hand}")
    print(f"{where}: running {shlex.join(words)}", file=sys.stderr, flush=True)
    for _ in range(TRIES):
        before = _size(folder)
        failure = _once(part, words, folder, lock, stop)
        if failure is None and not (folder / name).is_file():
            failure = f"ended well but left no {name} in {folder}"
        if failure is None:
            return
        if _size(folder) <= before:
            break
    raise PipelineError(f"{where}: {words[0]} {failure}\n{_credentials(part)}Or {by_hand}.")


def _credentials(part: CommandPart) -> str:
    unset = [name for name in part.credentials if not os.environ.get(name)]
    account = f" (an account: {part.account})" if part.account else ""
    if unset:
        return f"It may need credentials: set {' and '.join(unset)}{account}. "
    return f"See that {' and '.join(part.credentials)} are right{account}. " if account else ""


def _once(
    part: CommandPart, words: list[str], folder: Path, lock: int, stop: threading.Event
) -> str | None:
    """Run the program; None when it ended well, else what went wrong."""
    values = [os.environ.get(name, "") for name in part.credentials]
    process = subprocess.Popen(
        words,
        cwd=folder,
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        start_new_session=True,
        pass_fds=[lock],
    )
    assert process.stdin is not None and process.stdout is not None  # Both are pipes.
    output = _Output(process.stdout, values)
    output.start()
    # A program that wants no input may have closed it already.
    with contextlib.suppress(BrokenPipeError), process.stdin as stdin:
        if values and all(values):
            # An empty line more: no to whatever it asks next, such as whether to keep them.
            stdin.write(("\n".join(values) + "\n\n").encode())
    try:
        stalled = _wait(process, output, folder, stop)
    finally:
        _end(process)
        output.join(timeout=5)
    if stop.is_set():
        raise Stopped
    if stalled:
        return f"neither printed nor wrote anything for {STALL_SECONDS} s and was stopped"
    if process.returncode:
        return f"ended with status {process.returncode}. It said:\n{output.tail.strip()}"
    return None


def _wait(process: subprocess.Popen, output: _Output, folder: Path, stop: threading.Event) -> bool:
    """Wait for its end; whether it stalled."""
    seen, since = None, time.monotonic()
    while process.poll() is None and not stop.wait(_LOOK_SECONDS):
        now = (output.count, _size(folder))
        if now != seen:
            seen, since = now, time.monotonic()
        elif time.monotonic() - since > STALL_SECONDS:
            return True
    return False


def _end(process: subprocess.Popen) -> None:
    """End the program and what it started."""
    for number in (signal.SIGTERM, signal.SIGKILL):
        with contextlib.suppress(ProcessLookupError):
            os.killpg(process.pid, number)
        with contextlib.suppress(subprocess.TimeoutExpired):
            process.wait(timeout=5)
            return


class _Output(threading.Thread):
    """Passes on what a program prints, to a terminal only, and keeps the end of it."""

    def __init__(self, stream: IO[bytes], secrets: list[str]) -> None:
        super().__init__(daemon=True)
        self._stream = stream
        spelled = {*secrets, *map(quote_plus, secrets)} - {""}
        self._secrets = sorted(spelled, key=len, reverse=True)
        self.tail, self.count = "", 0

    def run(self) -> None:
        pending = ""
        with self._stream:
            while chunk := os.read(self._stream.fileno(), 4096):
                self.count += len(chunk)
                pending += chunk.decode("utf-8", "replace")
                # Whole lines only: a secret may come in two pieces.
                end = max(pending.rfind("\n"), pending.rfind("\r")) + 1
                self._pass_on(pending[:end])
                pending = pending[end:]
        self._pass_on(pending)

    def _pass_on(self, text: str) -> None:
        for secret in self._secrets:
            text = text.replace(secret, "***")
        self.tail = "\n".join((self.tail + text).splitlines()[-_LINES:])
        self.tail += "\n" if text.endswith("\n") else ""
        if sys.stderr.isatty():
            sys.stderr.write(text)
            sys.stderr.flush()


def _size(folder: Path) -> int:
    return sum(path.stat().st_size for path in folder.rglob("*") if path.is_file())
