"""A figure inside a page: matplotlib's SVG with its own ids, a text for those who do not see it,
and the page's ink and paper instead of black, white and grey.
"""

from __future__ import annotations

import re
from xml.etree import ElementTree

_SVG = "http://www.w3.org/2000/svg"
_XLINK = "http://www.w3.org/1999/xlink"
_GREY = re.compile(r"#([0-9a-f]{2})\1\1\b", re.IGNORECASE)
_REFERENCE = re.compile(r"url\(#([^)]+)\)")


def inline(text: str, name: str, title: str, alternative: str) -> str:
    """An SVG file as an element of an HTML page.

    Args:
        name: what its ids begin with; unique within the page.
        title, alternative: read out in the place of the figure.
    """
    ElementTree.register_namespace("", _SVG)
    ElementTree.register_namespace("xlink", _XLINK)
    root = ElementTree.fromstring(text)
    for parent in root.iter():
        for child in list(parent):
            # Who made it and when; rules of style that would reach the whole page.
            if child.tag in (f"{{{_SVG}}}metadata", f"{{{_SVG}}}style"):
                parent.remove(child)
    for element in root.iter():
        for key, value in element.attrib.items():
            element.set(key, _attribute(key, value, name))
    points = float(root.attrib["width"].removesuffix("pt"))
    for key in ("width", "height", "version"):
        root.attrib.pop(key, None)
    # What is drawn for paper is read on a screen from farther away.
    root.set("style", f"width: {1.6 * points:.0f}px")
    root.set("role", "img")
    root.set("aria-labelledby", f"{name}-title {name}-desc")
    for place, (tag, words) in enumerate((("title", title), ("desc", alternative))):
        element = ElementTree.Element(f"{{{_SVG}}}{tag}", {"id": f"{name}-{tag}"})
        element.text = words
        root.insert(place, element)
    return ElementTree.tostring(root, encoding="unicode")


def _attribute(key: str, value: str, name: str) -> str:
    if key == "id":
        return f"{name}-{value}"
    if key in ("href", f"{{{_XLINK}}}href") and value.startswith("#"):
        return f"#{name}-{value[1:]}"
    value = _REFERENCE.sub(rf"url(#{name}-\1)", value)
    return _GREY.sub(_ink, value) if key in ("style", "fill", "stroke") else value


def _ink(grey: re.Match) -> str:
    share = 100 - round(100 * int(grey[1], 16) / 255)
    return f"color-mix(in srgb, var(--ink) {share}%, var(--paper))"
