"""Names in pages do nothing, whatever they hold; all other Markdown stays as it is."""

from __future__ import annotations

from html.parser import HTMLParser

import pytest
from markdown_it import MarkdownIt

from pipelines.analyse import stage as analyse
from pipelines.compare import stage as compare
from pipelines.rendering.inert import inert
from pipelines.report import stage as report

# As careless as a reader of Markdown can be.
CARELESS = MarkdownIt("commonmark", {"html": True}).enable("table")
CARELESS.validateLink = lambda url: True

HOSTILE = [
    "<img src=x onerror=alert(1)>",
    "![x](http://127.0.0.1:1/seen.png)",
    "![x][a]\n\n[a]: http://127.0.0.1:1/seen.png",
    "[click](javascript:alert(1))",
    "[click](JavaScript&#58;alert(1))",
    "[click](data:text/html,1)",
    "[a]: javascript:alert(1)",
    "<javascript:alert(1)>",
    "`<b>``",
    r"\\![x](http://127.0.0.1:1/seen.png)",
    r"\\[click](javascript:alert(1))",
    "<!-- a comment -->",
    "<script>\nalert(1)\n</script>",
]


class Tags(HTMLParser):
    """The tags of a page, and all that could run or load something in them."""

    def __init__(self, page: str) -> None:
        super().__init__()
        self.names, self.active = set(), []
        self.feed(page)

    def handle_starttag(self, tag, attrs):
        self.names.add(tag)
        for name, value in attrs:
            address = (value or "").strip().lower()
            loads = name == "src" and not address.startswith("data:image/")
            if name.startswith("on") or loads or address.startswith(("javascript:", "data:text")):
                self.active.append((tag, name, value))


@pytest.mark.parametrize("text", HOSTILE)
@pytest.mark.parametrize("around", ["{}", "- {}: 1", "| a | b |\n|---|---|\n| {} | 1 |", "**{}**"])
def test_what_would_act_is_shown_instead(text, around):
    written = around.format(text)
    page = Tags(CARELESS.render(inert(written)))
    assert page.active == []
    assert not page.names & {"img", "script", "b"}
    assert "<!--" not in CARELESS.render(inert(written))


@pytest.mark.parametrize(
    "text",
    [
        "a < b > c",
        "x <= 3",
        "`<img>`",
        "[docs](docs/x.md)",
        "<https://example.org>",
        "```\n<a>\n```",
    ],
)
def test_what_only_shows_stays_as_it_is(text):
    assert inert(text) == text


def test_hostile_names_are_inert_in_both_pages(fabricate, no_figures):
    image, link = HOSTILE[0], HOSTILE[3]
    study = fabricate(
        title=f"Title {image}",
        description=f"{image}\n\n{link} and ![x](http://127.0.0.1:1/seen.png)",
        methods={
            "baseline": {"label": f"A {image} {link}"},
            "sar": {"label": "=SUM(1) ![x](http://127.0.0.1:1/seen.png)", "plugin": "a:b"},
        },
        claims={},
    )
    compare.compare(study)
    analyse.analyse(study)
    report.report(study)
    page = Tags(study.output("report", "index.html").read_text())
    assert page.active == []
    for path in study.folder("report").rglob("*.md"):
        # Its own drawings lie beside it.
        found = Tags(CARELESS.render(path.read_text())).active
        assert all(value.startswith(("figures/", "runtime/")) for _, _, value in found), path
