"""Archives like those of published data sets, and a server that has them."""

from __future__ import annotations

import contextlib
import functools
import http.server
import tarfile
import threading
import zipfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any


@contextlib.contextmanager
def served(folder: Path) -> Iterator[str]:
    """The address of an HTTP server of `folder`."""
    handler = functools.partial(http.server.SimpleHTTPRequestHandler, directory=folder)
    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), handler)
    thread = threading.Thread(target=server.serve_forever, args=(0.01,))
    thread.start()
    try:
        yield f"http://127.0.0.1:{server.server_port}"
    finally:
        server.shutdown()
        server.server_close()
        thread.join()


def packed(folder: Path, tops: list[str], archive: Path) -> None:
    """Put what lies below `folder/<top>` into an archive of the kind that its name says."""
    archive.parent.mkdir(exist_ok=True)
    paths = sorted(p for top in tops for p in [folder / top, *(folder / top).rglob("*")])
    if archive.suffix == ".zip":
        with zipfile.ZipFile(archive, "w") as into:
            for path in paths:
                into.write(path, path.relative_to(folder))
        return
    with tarfile.open(archive, "w:gz" if archive.suffix == ".gz" else "w") as into:
        for path in paths:
            into.add(path, path.relative_to(folder), recursive=False)


def with_addresses(part: Any, server: str, archives: Path) -> None:
    """Let the parts of a card lead to `archives`, by way of `server` or of a program."""
    if isinstance(part, list):
        for item in part:
            with_addresses(item, server, archives)
    elif isinstance(part, dict):
        for key in ("sha1", "sha256", "md5", "bytes"):
            part.pop(key, None)
        if "urls" in part:
            part["urls"] = [f"{server}/{part['file']}"]
        if "command" in part:
            part["command"] = ["cp", f"{archives}/{{file}}", "{folder}"]
            part["credentials"] = []
        for value in part.values():
            with_addresses(value, server, archives)
