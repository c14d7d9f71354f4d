"""A real HTTP server on a free port of 127.0.0.1 with faults by appointment, and a proxy."""

from __future__ import annotations

import base64
import contextlib
import http.client
import re
import threading
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from urllib.parse import urlsplit

_CHUNK = 2**14


@dataclass
class Page:
    """What the server has at a path."""

    content: bytes
    etag: str | None = None
    last_modified: str | None = None
    ranges: bool = True
    length: bool = True
    """Whether it says how long the content is."""
    user: str | None = None
    """`name:password` that it wants to see."""
    media_type: str = "application/octet-stream"
    pause: float = 0.0
    """Seconds between pieces of 16 KiB."""
    faults: list[Callable] = field(default_factory=list)
    """One is used up by each request; then the page is served as it should be."""


@dataclass
class Request:
    path: str
    headers: dict[str, str]
    status: int | None = None
    sent: int = 0
    """Bytes of the body."""


class Server:
    """Serves `pages` by path; `requests` tells what it was asked for."""

    def __init__(self) -> None:
        self.pages: dict[str, Page] = {}
        self.requests: list[Request] = []
        self.go_on = threading.Event()
        """Ends the waiting of `stalled_after`."""
        self._server = ThreadingHTTPServer(("127.0.0.1", 0), _Handler)
        self._server.daemon_threads = True
        self._server.owner = self
        self._thread = threading.Thread(target=self._server.serve_forever, args=(0.01,))
        self._thread.start()

    @property
    def host(self) -> str:
        return f"127.0.0.1:{self._server.server_port}"

    def url(self, path: str) -> str:
        return f"http://{self.host}{path}"

    def add(self, path: str, content: bytes, **options) -> str:
        """Its URL."""
        self.pages[path] = Page(content, **options)
        return self.url(path)

    def stop(self) -> None:
        self.go_on.set()
        self._server.shutdown()
        self._server.server_close()
        self._thread.join()


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"

    def do_GET(self) -> None:
        owner: Server = self.server.owner
        path = urlsplit(self.path).path
        self.close_connection = True
        self.seen = Request(path, dict(self.headers.items()))
        owner.requests.append(self.seen)
        page = owner.pages.get(path)
        if page is None:
            self.answer(404)
            return
        # A client may go away at any time, some tests kill it.
        with contextlib.suppress(ConnectionError):
            (page.faults.pop(0) if page.faults else serve)(self, page)

    def answer(self, status: int, body: bytes = b"", **headers: str) -> None:
        self.begin(status, {"Content-Length": str(len(body))} | headers)
        self.wfile.write(body)

    def begin(self, status: int, headers: dict[str, str | None]) -> None:
        self.seen.status = status
        self.send_response(status)
        for name, value in headers.items():
            if value is not None:
                self.send_header(name.replace("_", "-"), value)
        self.send_header("Connection", "close")
        self.end_headers()

    def send(self, body: bytes, pause: float = 0.0) -> None:
        for start in range(0, len(body), _CHUNK):
            piece = body[start : start + _CHUNK]
            self.wfile.write(piece)
            self.seen.sent += len(piece)
            time.sleep(pause)

    def log_message(self, *words) -> None:
        pass


def serve(handler: _Handler, page: Page, until: int | None = None) -> None:
    """The page, or the range of it that is asked for; only the first `until` bytes of that."""
    if page.user is not None:
        right = "Basic " + base64.b64encode(page.user.encode()).decode()
        if handler.headers.get("Authorization") != right:
            handler.answer(401, WWW_Authenticate='Basic realm="data"')
            return
    whole = len(page.content)
    start, status, content_range = 0, 200, None
    asked = re.fullmatch(r"bytes=(\d+)-", handler.headers.get("Range", ""))
    condition = handler.headers.get("If-Range")
    if page.ranges and asked and condition in (None, page.etag, page.last_modified):
        start, status = int(asked[1]), 206
        if start >= whole:
            handler.answer(416, Content_Range=f"bytes */{whole}")
            return
        content_range = f"bytes {start}-{whole - 1}/{whole}"
    handler.begin(
        status,
        {
            "Content-Type": page.media_type,
            "Content-Length": str(whole - start) if page.length else None,
            "Content-Range": content_range,
            "ETag": page.etag,
            "Last-Modified": page.last_modified,
        },
    )
    handler.send(page.content[start:][:until], page.pause)


def cut_after(count: int) -> Callable:
    """The connection ends after `count` bytes of more."""
    return lambda handler, page: serve(handler, page, until=count)


def status(code: int, **headers: str) -> Callable:
    return lambda handler, page: handler.answer(code, b"no", **headers)


def status_line(line: bytes) -> Callable:
    """An answer that begins with this line and has no content."""
    return lambda handler, page: handler.wfile.write(line + b"\r\nContent-Length: 0\r\n\r\n")


def redirect(url: str) -> Callable:
    return status(302, Location=url)


def truncated_to(count: int) -> Callable:
    """The first `count` bytes, as if they were all."""
    return lambda handler, page: handler.answer(200, page.content[:count])


def stalled_after(count: int) -> Callable:
    """Nothing comes after `count` bytes, until the test says so."""

    def stalled(handler: _Handler, page: Page) -> None:
        handler.begin(200, {"Content-Length": str(len(page.content)), "ETag": page.etag})
        handler.send(page.content[:count])
        handler.server.owner.go_on.wait(60)
        handler.send(page.content[count:])

    return stalled


def trickling(every: float) -> Callable:
    """A byte every so many seconds."""

    def trickle(handler: _Handler, page: Page) -> None:
        handler.begin(200, {"Content-Length": str(len(page.content)), "ETag": page.etag})
        for index in range(len(page.content)):
            handler.send(page.content[index : index + 1], every)

    return trickle


@contextlib.contextmanager
def proxy(target: str) -> Iterator[tuple[str, list[str]]]:
    """A proxy that finds all hosts at `target`; its address, and the URLs that it was asked for."""
    asked: list[str] = []

    class Forward(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            asked.append(self.path)
            connection = http.client.HTTPConnection(target, timeout=10)
            connection.request("GET", urlsplit(self.path).path)
            with contextlib.closing(connection), connection.getresponse() as response:
                body = response.read()
                self.send_response(response.status)
                self.send_header("Content-Length", str(len(body)))
                self.end_headers()
                self.wfile.write(body)

        def log_message(self, *words) -> None:
            pass

    server = ThreadingHTTPServer(("127.0.0.1", 0), Forward)
    thread = threading.Thread(target=server.serve_forever, args=(0.01,))
    thread.start()
    try:
        yield f"127.0.0.1:{server.server_port}", asked
    finally:
        server.shutdown()
        server.server_close()
        thread.join()
