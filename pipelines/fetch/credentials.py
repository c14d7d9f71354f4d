"""Credentials: from environment variables or ~/.netrc, and written nowhere.

A URL of a data card may hold `${NAME}`, which stands for an environment variable. Messages show the
card's text, and any user:password@ as ***@. What ~/.netrc (or the file that NETRC names) has for a
host is used by git and requests themselves. What a server answers may repeat them: only what does
not goes into a file, and its words into no message.
"""

from __future__ import annotations

import base64
import binascii
import os
import re
from urllib.parse import parse_qsl, quote, unquote, urlsplit

import requests

from pipelines.base.errors import PipelineError

_VARIABLE = re.compile(r"\$\{([A-Za-z_][A-Za-z0-9_]*)\}")
_USER_INFO = re.compile(r"(\b[a-z][a-z0-9+.-]*://)[^/\s@]+@", re.IGNORECASE)


def expanded(url: str, where: str) -> str:
    """`url` with the values of its variables, quoted for a URL.

    Raises:
        PipelineError: naming a variable that is not set.
    """

    def value(match: re.Match[str]) -> str:
        name = match[1]
        if name not in os.environ:
            raise PipelineError(
                f"{where}: {redacted(url)}: the environment variable {name} is not set; set it to "
                "your credential"
            )
        return quote(os.environ[name], safe="")

    return _VARIABLE.sub(value, url)


def redacted(text: str) -> str:
    """`text` without the user and password of any URL in it."""
    return _USER_INFO.sub(r"\1***@", text)


def struck(text: str, url: str) -> str:
    """`text` of another program without the values of the variables in `url`, nor any password."""
    for name in _VARIABLE.findall(url):
        value = os.environ.get(name)
        for spelling in {value, quote(value, safe="")} if value else ():
            text = text.replace(spelling, f"${{{name}}}")
    return redacted(text)


def unless_secret(header: str | None, response: requests.Response, url: str) -> str | None:
    """A header of `response`, or None where it repeats what only the server should know.

    Args:
        url: the card's, whose variables are secrets.
    """
    if header is None or struck(header, url) != header:
        return None
    plain = unquote(header)
    return None if any(secret in plain for secret in _sent(response)) else header


def _sent(response: requests.Response) -> set[str]:
    """Passwords, tokens and signatures that the requests up to this answer had."""
    secrets: set[str] = set()
    for each in (*response.history, response):
        address = urlsplit(each.request.url or "")
        secrets |= {value for _, value in parse_qsl(str(address.query))}
        _, _, token = str(each.request.headers.get("Authorization", "")).partition(" ")
        secrets.add(token)
        try:
            secrets.add(base64.b64decode(token, validate=True).decode().partition(":")[2])
        except (binascii.Error, UnicodeDecodeError):
            continue  # Another kind of token than a user with a password.
    return secrets - {""}
