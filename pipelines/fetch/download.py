"""One file over HTTP: resumed after a break, never taken for whole before it is verified.

While it is under way the file is called `<name>.part`; `<name>.part.json` beside it says which
answer of which server its bytes belong to, so that halves of different files are not joined.
Proxies (HTTP_PROXY, HTTPS_PROXY, NO_PROXY) and ~/.netrc are honoured by requests.
"""

from __future__ import annotations

import http.client
import json
import os
import re
import ssl
import threading
import time
from collections.abc import Iterator
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import requests
import urllib3
from tqdm import tqdm

from pipelines.base.artifacts import write_whole
from pipelines.base.errors import PipelineError
from pipelines.base.reading import read_json
from pipelines.fetch import Stopped, checksums, space
from pipelines.fetch.checksums import Expected
from pipelines.fetch.credentials import expanded, redacted, unless_secret

CONNECT_SECONDS = 20
STALL_SECONDS = 60
"""No byte for so long, or less than LEAST_RATE on average, is a stall."""
LEAST_RATE = 1000
"""Bytes a second."""
TRIES = 5
"""In a row without PROGRESS bytes, until the next address is tried."""
PROGRESS = 2**20
LONGEST_PAUSE_SECONDS = 30

_CHUNK = 2**20
_LATER = (408, 425, 429, 500, 502, 503, 504)
"""Statuses that may pass."""


class _Broken(Exception):
    """A transfer that may go on at the next try."""

    pause: float | None = None


class _Refused(Exception):
    """This address does not give the file."""


class _Wrong(_Refused):
    """This address gives another file."""


@dataclass(frozen=True)
class _Answer:
    """To what the bytes of a `.part` belong."""

    url: str
    etag: str | None
    last_modified: str | None
    total: int | None


def download(
    urls: list[str],
    target: Path,
    expected: Expected,
    advice: str,
    where: str,
    stop: threading.Event,
) -> None:
    """Bring the file to `target`, from the first of `urls` that gives the right one.

    Args:
        expected: what the file must be.
        advice: what to do about a file that is not.
        where: what an error message calls it.
        stop: set by another thread to end the transfer early; the part stays.

    Raises:
        PipelineError: when no address gives the file, naming each with its reason.
        Stopped: after `stop`.
    """
    target.parent.mkdir(parents=True, exist_ok=True)
    failures = []
    for url in urls:
        address = expanded(url, where)
        try:
            _from(url, address, target, expected, stop)
            return
        except _Wrong as failure:
            failures.append(f"  {redacted(url)}: {failure}; {advice}")
        except _Refused as failure:
            failures.append(f"  {redacted(url)}: {failure}")
    reasons = "\n".join(failures)
    raise PipelineError(
        f"{where}: {target.name} cannot be downloaded:\n{reasons}\n"
        f"Run the same command again later, which goes on from what is there; or put the file "
        f"at {target} by hand, or into a mirror (SAR_MIRROR)."
    )


def part_of(target: Path) -> Path:
    """Where the bytes are until they are whole."""
    return target.with_name(f"{target.name}.part")


def _from(url: str, address: str, target: Path, expected: Expected, stop: threading.Event) -> None:
    part = part_of(target)
    fruitless, joined = 0, False
    while True:
        before = _size(part)
        try:
            joined |= _transfer(url, address, part, expected, stop)
        except _Broken as failure:
            fruitless = 1 if _size(part) - before >= PROGRESS else fruitless + 1
            if fruitless >= TRIES:
                raise _Refused(f"{failure}; given up after {TRIES} tries") from None
            pause = failure.pause if failure.pause is not None else 2.0 ** (fruitless - 1)
            stop.wait(min(pause, LONGEST_PAUSE_SECONDS))
            continue
        wrong = checksums.mismatch(part, expected)
        if wrong is None:
            os.replace(part, target)
            _sidecar(part).unlink(missing_ok=True)
            return
        part.unlink()
        if not joined:
            raise _Wrong(wrong)
        # The halves may be of two files: once more, in one go.
        joined = False


def _transfer(
    url: str, address: str, part: Path, expected: Expected, stop: threading.Event
) -> bool:
    """Bring what is missing of `part`; whether it was joined to bytes that were there."""
    if stop.is_set():
        raise Stopped
    offset, headers = _resumption(url, part, expected)
    if offset and offset == expected.get("bytes"):
        return True
    headers |= {"Accept-Encoding": "identity", "User-Agent": "semantic-anchors"}
    timeouts = (CONNECT_SECONDS, STALL_SECONDS)
    try:
        with (
            requests.Session() as session,
            session.get(address, headers=headers, stream=True, timeout=timeouts) as response,
        ):
            if response.status_code == 416 and offset:
                if response.headers.get("Content-Range", "").endswith(f"/{offset}"):
                    return True
                part.unlink()
                raise _Broken("the server has less than what is here already")
            _check_status(response)
            offset, total = _check_length(response, offset, part, expected)
            if not offset:
                part.unlink(missing_ok=True)
                _note(url, part, response, total)
            _write(response, part, offset, total, stop)
    except (requests.RequestException, urllib3.exceptions.HTTPError) as error:
        raise _failure(error) from None
    if total is not None and _size(part) != total:
        raise _Broken(f"ended after {_size(part)} of {total} bytes")
    return offset > 0


def _resumption(url: str, part: Path, expected: Expected) -> tuple[int, dict[str, str]]:
    """From which byte to go on, and the headers that ask for it."""
    offset, old = _size(part), _answer(part)
    if not offset:
        return 0, {}
    verified = any(name in expected for name in checksums.ALGORITHMS)
    validator = None
    if old is not None and old.url == redacted(url):
        strong = old.etag is not None and not old.etag.startswith("W/")
        validator = old.etag if strong else old.last_modified
    if offset > int(expected.get("bytes", offset)) or not (validator or verified):
        return 0, {}
    return offset, {"Range": f"bytes={offset}-"} | ({"If-Range": validator} if validator else {})


def _check_status(response: requests.Response) -> None:
    # Its own words for it may hold anything, such as what it was sent.
    words = http.client.responses.get(response.status_code, "")
    status = f"the server answers {response.status_code} {words}".rstrip()
    if response.status_code in _LATER:
        failure = _Broken(status)
        wait = response.headers.get("Retry-After")
        if wait is not None:
            try:
                failure.pause = urllib3.Retry().parse_retry_after(wait)
            except urllib3.exceptions.InvalidHeader:
                failure.pause = None
        raise failure
    if response.status_code in (401, 403):
        raise _Refused(f"{status}; give user and password for its host in ~/.netrc")
    if response.status_code == 407:
        raise _Refused(f"{status}; give user and password in HTTPS_PROXY or HTTP_PROXY")
    if response.status_code not in (200, 206):
        raise _Refused(status)


def _check_length(
    response: requests.Response, offset: int, part: Path, expected: Expected
) -> tuple[int, int | None]:
    """At which byte of the file the answer begins, and how many the file has, where it says so."""
    verified = any(name in expected for name in checksums.ALGORITHMS)
    if response.headers.get("Content-Type", "").startswith("text/html") and not verified:
        raise _Refused("the server sends a web page instead of the file")
    if response.status_code == 206:
        given = re.fullmatch(r"bytes (\d+)-\d+/(\d+|\*)", response.headers.get("Content-Range", ""))
        old = _answer(part)
        total = int(given[2]) if given and given[2] != "*" else None
        known = None if old is None else old.total
        other = total is not None and known is not None and total != known
        if given is None or int(given[1]) != offset or other:
            part.unlink(missing_ok=True)
            raise _Broken("the server has another file than before")
    else:
        offset = 0
        length = response.headers.get("Content-Length", "")
        total = int(length) if length.isdecimal() else None
    if total is not None:
        if total != expected.get("bytes", total):
            raise _Wrong(f"the file there has {total} bytes, expected {expected['bytes']}")
        space.require([(part, total - offset)])
    return offset, total


def _write(
    response: requests.Response, part: Path, offset: int, total: int | None, stop: threading.Event
) -> None:
    with (
        part.open("ab") as file,
        tqdm(
            desc=part.stem,
            total=total,
            initial=offset,
            unit="B",
            unit_scale=True,
            unit_divisor=1024,
            disable=None,
        ) as bar,
    ):
        for chunk in _chunks(response, stop):
            file.write(chunk)
            bar.update(len(chunk))
        file.flush()
        os.fsync(file.fileno())


def _chunks(response: requests.Response, stop: threading.Event) -> Iterator[bytes]:
    began, received = time.monotonic(), 0
    while chunk := response.raw.read1(_CHUNK, decode_content=False):
        yield chunk
        received += len(chunk)
        if stop.is_set():
            raise Stopped
        passed = time.monotonic() - began
        if passed > STALL_SECONDS:
            if received < LEAST_RATE * passed:
                raise _Broken(f"stalled: {received} bytes in {passed:.0f} s")
            began, received = time.monotonic(), 0


def _failure(error: Exception) -> _Broken | _Refused:
    """The innermost reason alone: what is around it may hold the URL with a password."""
    inner: BaseException = error
    seen = {id(inner)}
    while True:
        candidates = [getattr(inner, "reason", None), *inner.args, inner.__cause__]
        candidates.append(inner.__context__)
        deeper = [c for c in candidates if isinstance(c, BaseException) and id(c) not in seen]
        if not deeper:
            break
        inner = deeper[0]
        seen.add(id(inner))
    if isinstance(inner, TimeoutError):
        return _Broken("timed out")
    if isinstance(inner, OSError) and inner.strerror:
        text = inner.strerror
    elif isinstance(inner, http.client.HTTPException) or isinstance(
        error, requests.exceptions.InvalidHeader
    ):
        text = f"the answer is no HTTP ({type(inner).__name__})"  # Its words may hold anything.
    else:
        text = re.sub(r"\S*(://|/\S*\?)\S*", "...", str(inner)) or type(inner).__name__
    final = (
        requests.exceptions.InvalidURL,
        requests.exceptions.InvalidSchema,
        requests.exceptions.TooManyRedirects,
    )
    if isinstance(error, final) or isinstance(inner, ssl.SSLCertVerificationError):
        return _Refused(text)
    return _Broken(text)


def _note(url: str, part: Path, response: requests.Response, total: int | None) -> None:
    answer = _Answer(
        url=redacted(url),
        etag=unless_secret(response.headers.get("ETag"), response, url),
        last_modified=unless_secret(response.headers.get("Last-Modified"), response, url),
        total=total,
    )
    write_whole(_sidecar(part), json.dumps(asdict(answer), indent=2))


def _answer(part: Path) -> _Answer | None:
    try:
        return _Answer(**read_json(_sidecar(part), dict[str, Any]))
    except (PipelineError, TypeError):
        return None


def _sidecar(part: Path) -> Path:
    return part.with_name(f"{part.name}.json")


def _size(path: Path) -> int:
    return path.stat().st_size if path.exists() else 0
