"""Markdown that shows and does nothing: names come from anywhere, file names of a data set too.

Pages show Markdown, and names stand in it. One that holds HTML, an image or a link that runs a
script would be at work in whatever shows the page; text in which a reader of Markdown finds such is
shown as it is written instead.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any
from urllib.parse import urlsplit

from markdown_it import MarkdownIt
from markdown_it.token import Token

_READER = MarkdownIt("commonmark", {"html": True}).enable("table")
_READER.validateLink = lambda url: True  # type: ignore[method-assign]  # All are to be seen.

_HARMLESS = ("", "http", "https", "mailto")
_ESCAPES = (("<", "&lt;"), ("![", r"\!\["), ("](", r"]\("), ("]:", r"]\:"))
"""What HTML, images and links cannot do without."""


def inert(markdown: str) -> str:
    """The text itself, or, where it would do something, with all that could escaped."""
    found: dict[str, Any] = {}
    # A definition of a link, too: it would be for the whole page.
    if not _acts(_READER.parse(markdown, found)) and not found.get("references"):
        return markdown
    for active, shown in _ESCAPES:
        markdown = markdown.replace(active, shown)
    return markdown


def _acts(tokens: Iterable[Token]) -> bool:
    return any(
        token.type in ("html_block", "html_inline", "image")
        or (token.type == "link_open" and _scheme(token) not in _HARMLESS)
        or _acts(token.children or ())
        for token in tokens
    )


def _scheme(link: Token) -> str:
    try:
        return urlsplit(str(link.attrs.get("href", "")).strip()).scheme.lower()
    except ValueError:
        return "unknown"
