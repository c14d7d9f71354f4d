"""A small package with weights in it, and an index that pip takes it from."""

from __future__ import annotations

import hashlib
import io
import zipfile

from tests.pipelines.fetch.web import Server

NAME, VERSION, MEMBER = "tiny-weights", "1.0", "tiny_weights/data/net.pt"
FILE = "tiny_weights-1.0-py3-none-any.whl"


def wheel(weights: bytes, **metadata: str) -> bytes:
    """Importing the package would leave the file `executed`."""
    buffer = io.BytesIO()
    headers = {"Metadata-Version": "2.1", "Name": NAME, "Version": VERSION} | metadata
    with zipfile.ZipFile(buffer, "w") as archive:
        archive.writestr("tiny_weights/__init__.py", "open('executed', 'w')")
        archive.writestr(MEMBER, weights)
        about = "tiny_weights-1.0.dist-info"
        lines = "".join(f"{key}: {value}\n" for key, value in headers.items())
        archive.writestr(f"{about}/METADATA", lines)
        archive.writestr(f"{about}/WHEEL", "Wheel-Version: 1.0\nRoot-Is-Purelib: true\n")
        archive.writestr(f"{about}/RECORD", "")
    return buffer.getvalue()


def index(server: Server, content: bytes) -> str:
    """The address of an index that has this wheel; for pip's PIP_INDEX_URL."""
    server.add(f"/files/{FILE}", content)
    page = f'<a href="/files/{FILE}">{FILE}</a>'.encode()
    server.add(f"/simple/{NAME}/", page, media_type="text/html")
    return server.url("/simple")


def sha256(data: bytes) -> str:
    return hashlib.sha256(data).hexdigest()
