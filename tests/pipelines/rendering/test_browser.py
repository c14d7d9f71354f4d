"""The page of a made-up study in a real browser, as its readers have it."""

from __future__ import annotations

import shutil

import pytest

from pipelines.analyse import stage as analyse
from pipelines.compare import stage as compare
from pipelines.rendering.parts import run_anchor
from pipelines.report import stage as report

CHROMIUM = shutil.which("chromium")
FLAGS = [
    *("--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run", "--disable-sync"),
    *("--disable-background-networking", "--disable-component-update"),
]
CLAIM = {"metric": "mIoU", "method": "sar", "direction": "higher"}

pytestmark = [
    pytest.mark.browser,
    pytest.mark.slow,
    pytest.mark.skipif(CHROMIUM is None, reason="no chromium here (Debian: apt install chromium)"),
]


@pytest.fixture(scope="module")
def address(fabricate_here, tmp_path_factory):
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(folder := tmp_path_factory.mktemp("project"))
        claims = {"more": CLAIM | {"margin": 1.0}, "too_much": CLAIM | {"margin": 90.0}}
        study = fabricate_here(seeds=list(range(7)), claims=claims)
        compare.compare(study)
        analyse.analyse(study)
        report.report(study)
        return (folder / study.output("report", "index.html")).as_uri()


@pytest.fixture(scope="module")
def browser():
    playwright = pytest.importorskip("playwright.sync_api", reason="playwright is not installed")
    with playwright.sync_playwright() as started:
        browser = started.chromium.launch(executable_path=CHROMIUM, args=FLAGS)
        yield browser
        browser.close()


@pytest.fixture
def visit(browser, address):
    """A function that opens the page; at the end, nothing was fetched and nothing went wrong."""
    pages, wrong = [], []

    def open_page(width: int = 1280, scheme: str = "light"):
        page = browser.new_page(viewport={"width": width, "height": 900}, color_scheme=scheme)
        page.on("console", lambda message: wrong.append(f"{message.type}: {message.text}"))
        page.on("pageerror", lambda error: wrong.append(str(error)))
        page.on("request", lambda request: fetched.append(request.url))
        fetched: list[str] = []
        page.goto(address)
        pages.append((page, fetched))
        return page

    yield open_page
    for page, fetched in pages:
        others = [url for url in fetched if url != address and not url.startswith("data:")]
        assert others == []
        page.close()
    assert pages and wrong == []


@pytest.mark.parametrize("scheme", ["light", "dark"])
@pytest.mark.parametrize("width", [390, 1280])
def test_the_page_is_accessible(visit, width, scheme):
    axe = pytest.importorskip("axe_playwright_python.sync_playwright", reason="axe is missing")
    page = visit(width, scheme)
    found = axe.Axe().run(page).response["violations"]
    bad = [
        (each["id"], each["nodes"][0]["html"][:200], each["nodes"][0]["failureSummary"])
        for each in found
        if each["impact"] in ("serious", "critical")
    ]
    assert bad == []


@pytest.mark.parametrize("width", [390, 1280])
def test_nothing_is_wider_than_the_window(visit, width, tmp_path):
    page = visit(width)
    assert page.evaluate("document.documentElement.scrollWidth") == width
    picture = page.screenshot(path=tmp_path / "page.png", full_page=True)
    assert len(picture) > 50_000


_BEYOND = """
width => [...document.querySelectorAll("main *:not(svg *, thead, thead *)")]
  .filter(each => each.getBoundingClientRect().right > width + 1)
  .map(each => each.outerHTML.slice(0, 100))
"""


def test_on_a_phone_nothing_has_to_be_scrolled_into_view(visit):
    """Nor in tables and drawings, which scroll on their own where there is more room."""
    page = visit(400)
    assert page.evaluate(_BEYOND, 400) == []
    row = page.locator("#table-comparison").locator("xpath=..").locator("tbody tr").first
    assert "mIoU" in row.locator("td").first.evaluate(
        "cell => getComputedStyle(cell, '::before').content"
    )


def test_tables_are_sorted_by_keyboard(visit):
    page = visit()
    table = page.locator("#classes table")
    header = table.locator("thead th", has_text="train pixels")

    def shares():
        column = header.evaluate("cell => cell.cellIndex")
        rows = table.locator("tbody tr").all()
        return [float(row.locator("> *").nth(column).inner_text()) for row in rows]

    before = shares()
    assert before == sorted(before, reverse=True)
    header.locator("button").focus()
    page.keyboard.press("Enter")
    assert header.get_attribute("aria-sort") == "ascending" and shares() == sorted(before)
    page.keyboard.press("Space")
    assert header.get_attribute("aria-sort") == "descending" and shares() == before
    other = table.locator("thead th", has_text="group")
    other.locator("button").focus()
    page.keyboard.press("Enter")
    assert header.get_attribute("aria-sort") is None
    assert other.get_attribute("aria-sort") == "ascending"


def test_what_has_no_value_stays_at_the_end(visit):
    page = visit()
    table = page.locator("#classes table")
    button = table.locator("thead th", has_text="Baseline").locator("button")
    for _ in range(2):
        button.click()
        assert table.locator("tbody tr").last.locator("th").inner_text() == "gone"


def test_colours_follow_the_system_and_the_button(visit):
    def paper(page):
        return page.evaluate("getComputedStyle(document.body).backgroundColor")

    light, dark = visit(scheme="light"), visit(scheme="dark")
    assert paper(light) == "rgb(255, 255, 255)" != paper(dark)
    night = paper(dark)
    dark.get_by_role("button", name="Show light colours").click()
    assert paper(dark) == "rgb(255, 255, 255)"
    light.get_by_role("button", name="Show dark colours").click()
    assert paper(light) == night


def test_every_figure_has_a_text_and_is_drawn_with_the_ink_of_the_page(visit):
    page = visit(scheme="dark")
    images = page.get_by_role("img").all()
    assert len(images) >= 4 + 2 * 4  # figures, and two rows of the gallery
    for name in ("per_class", "confusion", "features", "curves"):
        figure = page.locator(f"svg[aria-labelledby='figure-{name}-title figure-{name}-desc']")
        assert len(figure.locator("desc").text_content()) > 40
    label = page.locator(".drawing svg text").first
    colour = label.evaluate("element => getComputedStyle(element).fill")
    assert colour == page.evaluate("getComputedStyle(document.body).color")


def test_every_link_within_the_page_leads_somewhere(visit):
    page = visit()
    dead = page.evaluate(
        """() => [...document.querySelectorAll('a[href^="#"]')]
        .filter((link) => !document.getElementById(link.getAttribute('href').slice(1)))
        .map((link) => link.outerHTML)"""
    )
    twice = page.evaluate(
        """() => { const ids = [...document.querySelectorAll('[id]')].map((each) => each.id);
        return ids.filter((id, place) => ids.indexOf(id) !== place); }"""
    )
    assert dead == [] and twice == []
    assert page.locator(f"#{run_anchor('shapes', 'tiny_net', 'sar')}").count() <= 1


def test_it_can_be_printed(visit):
    page = visit(scheme="dark")
    page.emulate_media(media="print", color_scheme="dark")
    assert page.evaluate("getComputedStyle(document.body).backgroundColor") == "rgb(255, 255, 255)"
    assert not page.get_by_role("navigation").is_visible()
    assert page.pdf(format="A4").startswith(b"%PDF")
