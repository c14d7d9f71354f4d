"""Git repositories with a past, served over HTTP by git itself."""

from __future__ import annotations

import base64
import contextlib
import os
import random
import subprocess
import threading
from collections.abc import Iterator
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from urllib.parse import urlsplit

FILES = {
    "data/things/one.txt": b"one\nline\n",
    "data/things/deep/two.bin": bytes(range(256)),
    "data/things/run.sh": b"#!/bin/sh\n",
    "data/other.txt": b"other",
    "big.bin": random.Random(0).randbytes(2_000_000),
    # Would change line ends, if git were allowed to.
    ".gitattributes": b"*.txt text eol=crlf\n",
}
FOLDER = "data/things"


@dataclass(frozen=True)
class Repository:
    path: Path
    commit: str
    """Not the newest."""
    tree: str
    """Of FOLDER at that commit."""

    def part(self, url: str, **more) -> dict:
        known = {"kind": "git", "folder": FOLDER, "commit": self.commit, "tree": self.tree}
        return known | {"url": url} | more


def git(folder: Path, *words: str) -> str:
    names = ("GIT_AUTHOR_NAME", "GIT_COMMITTER_NAME", "GIT_AUTHOR_EMAIL", "GIT_COMMITTER_EMAIL")
    environment = os.environ | dict.fromkeys(names, "somebody@example.org")
    done = subprocess.run(
        ["git", *words], cwd=folder, env=environment, capture_output=True, text=True, check=True
    )
    return done.stdout.strip()


def create(folder: Path) -> Repository:
    """A bare repository at `folder`, with a commit after the one that is wanted."""
    work = folder.with_name("work_tree")
    for name, content in FILES.items():
        path = work / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(content)
    (work / "data/things/run.sh").chmod(0o755)
    git(work, "init", "--quiet", "--initial-branch=main")
    git(work, "add", "--all")
    git(work, "commit", "--quiet", "--message", "first")
    commit, tree = git(work, "rev-parse", "HEAD"), git(work, "rev-parse", f"HEAD:{FOLDER}")
    (work / "data/things/one.txt").write_bytes(b"changed")
    git(work, "commit", "--quiet", "--all", "--message", "second")
    git(work.parent, "clone", "--quiet", "--bare", str(work), str(folder))
    git(folder, "config", "uploadpack.allowFilter", "true")
    return Repository(folder, commit, tree)


@dataclass
class GitServer:
    address: str
    user: str | None = None
    """`name:password` that it wants to see."""
    sent: list[int] = field(default_factory=list)
    """Bytes of each answer."""


@contextlib.contextmanager
def served(root: Path) -> Iterator[GitServer]:
    """All repositories below `root` over HTTP, by `git http-backend`."""

    class Backend(BaseHTTPRequestHandler):
        def answer(self) -> None:
            length = int(self.headers.get("Content-Length") or 0)
            body = self.rfile.read(length)
            if running.user is not None:
                right = "Basic " + base64.b64encode(running.user.encode()).decode()
                if self.headers.get("Authorization") != right:
                    self.send_response(401)
                    self.send_header("WWW-Authenticate", 'Basic realm="data"')
                    self.send_header("Content-Length", "0")
                    self.end_headers()
                    return
            url = urlsplit(self.path)
            environment = os.environ | {
                "GIT_PROJECT_ROOT": str(root),
                "GIT_HTTP_EXPORT_ALL": "1",
                "PATH_INFO": url.path,
                "QUERY_STRING": url.query,
                "REQUEST_METHOD": self.command,
                "CONTENT_TYPE": self.headers.get("Content-Type", ""),
                "CONTENT_LENGTH": str(length),
                "HTTP_CONTENT_ENCODING": self.headers.get("Content-Encoding", ""),
                "GIT_PROTOCOL": self.headers.get("Git-Protocol", ""),
            }
            done = subprocess.run(
                ["git", "http-backend"], input=body, env=environment, capture_output=True
            )
            head, _, content = done.stdout.partition(b"\r\n\r\n")
            lines = [line.partition(": ") for line in head.decode().split("\r\n")]
            headers = {name: value for name, _, value in lines}
            self.send_response(int(headers.pop("Status", "200").split()[0]))
            for name, value in headers.items():
                self.send_header(name, value)
            self.send_header("Content-Length", str(len(content)))
            self.end_headers()
            self.wfile.write(content)
            running.sent.append(len(content))

        do_GET = do_POST = answer

        def log_message(self, *words) -> None:
            pass

    server = ThreadingHTTPServer(("127.0.0.1", 0), Backend)
    running = GitServer(f"127.0.0.1:{server.server_port}")
    thread = threading.Thread(target=server.serve_forever, args=(0.01,))
    thread.start()
    try:
        yield running
    finally:
        server.shutdown()
        server.server_close()
        thread.join()
