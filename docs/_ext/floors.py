"""The picture of the rooms: a Mermaid flowchart in the page, drawn as SVG when the site is built.

GitHub draws a `mermaid` block itself. A browser would need Mermaid's three megabytes of JavaScript
for it, from somebody's server; the site draws the one form that this project uses (floors as
subgraphs, with their rooms) and loads nothing.
"""

from __future__ import annotations

import re
from html import escape

from docutils import nodes
from sphinx.util.docutils import SphinxDirective

_FLOOR = re.compile(r'^\s*subgraph \w+\["(?P<name>[^"]*)"\]$')
_ROOM = re.compile(r'^\s*(?P<room>\w+)\["\w+: (?P<what>[^"]*)"\]$')
_OTHER = re.compile(r"^\s*(end|flowchart BT|\w+( --> \w+)+)?$")

_LETTERS, _LINE, _GAP, _WIDTH = 7.2, 17, 12, 760


def floors(chart: str) -> dict[str, dict[str, str]]:
    """What is in each room by floor and room, in the order of the chart, which is from below.

    Raises:
        ValueError: for a line that is none of a floor, a room, an end and an arrow.
    """
    found: dict[str, dict[str, str]] = {}
    for line in chart.splitlines():
        if match := _FLOOR.match(line):
            floor = found.setdefault(match["name"], {})
        elif match := _ROOM.match(line):
            floor[match["room"]] = match["what"]
        elif not _OTHER.match(line):
            raise ValueError(f"mermaid: cannot draw {line.strip()!r}; expected a floor or a room")
    return found


def svg(found: dict[str, dict[str, str]]) -> str:
    """The floors, the first one lowest; in the page's own ink and paper."""
    drawn, top = [], _GAP
    for name, rooms in reversed(found.items()):
        width = (_WIDTH - 40 - _GAP * (len(rooms) - 1)) / len(rooms)
        texts = [_wrapped(what, int((width - 16) / _LETTERS)) for what in rooms.values()]
        height = _LINE * (1 + max(map(len, texts))) + 14
        drawn.append(f'<text x="8" y="{top + height / 2 + 5:.0f}">{escape(name)}</text>')
        for index, (room, lines) in enumerate(zip(rooms, texts, strict=True)):
            left = 36 + index * (width + _GAP)
            drawn.append(
                f'<rect x="{left:.0f}" y="{top:.0f}" width="{width:.0f}" height="{height}" rx="6"/>'
                f'<text x="{left + 8:.0f}" y="{top + 20:.0f}" class="room">{room}/</text>'
            )
            drawn += [
                f'<text x="{left + 8:.0f}" y="{top + 20 + _LINE * row:.0f}">{escape(line)}</text>'
                for row, line in enumerate(lines, 1)
            ]
        top += height + _GAP
    label = "; ".join(f"floor {name}: {', '.join(rooms)}" for name, rooms in found.items())
    return (
        f'<svg class="floors" viewBox="0 0 {_WIDTH} {top}" role="img" aria-label="{escape(label)}">'
        + "".join(drawn)
        + "</svg>"
    )


def _wrapped(text: str, letters: int) -> list[str]:
    lines = [""]
    for word in text.split():
        longer = f"{lines[-1]} {word}".strip()
        if len(longer) <= letters or not lines[-1]:
            lines[-1] = longer
        else:
            lines.append(word)
    return lines


class Mermaid(SphinxDirective):
    has_content = True

    def run(self) -> list[nodes.Node]:
        drawing = svg(floors("\n".join(self.content)))
        return [nodes.raw("", f'<div class="floors">{drawing}</div>', format="html")]


def setup(app) -> dict:
    app.add_directive("mermaid", Mermaid)
    return {"parallel_read_safe": True, "parallel_write_safe": True}
