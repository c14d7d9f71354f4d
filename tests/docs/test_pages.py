"""The pages: links lead somewhere, all are in the site, README is short, its picture is made."""

import re
import runpy
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

ROOT = Path(__file__).parents[2]
PAGES = ["README.md", "CONTRIBUTING.md", *(f"docs/{p.name}" for p in (ROOT / "docs").glob("*.md"))]
PAGES += [f"docs/reference/{p.name}" for p in (ROOT / "docs/reference").glob("*.md")]


def links(text: str) -> list[str]:
    without_code = re.sub(r"^```.*?^```", "", text, flags=re.M | re.S)
    return re.findall(r"\]\((?!https?:)([^)\s]+)\)", without_code)


def anchors(page: Path) -> set[str]:
    """As GitHub and MyST name the headings of a page."""
    headings = re.findall(r"^#+ (.+)$", page.read_text("utf-8"), re.M)
    plain = (re.sub(r"[^\w\- ]", "", heading).strip().lower() for heading in headings)
    return {heading.replace(" ", "-") for heading in plain}


@pytest.mark.parametrize("name", PAGES)
def test_links_and_pictures_lead_somewhere(name):
    page = ROOT / name
    for link in links(page.read_text(encoding="utf-8")):
        place, _, anchor = link.partition("#")
        target = page.parent / place if place else page
        assert target.exists(), f"{name}: {link} leads nowhere"
        assert not anchor or anchor in anchors(target), f"{name}: {link} has no such heading"


def test_every_page_is_named_where_readers_begin():
    named = (ROOT / "docs/index.md").read_text(encoding="utf-8")
    readme = (ROOT / "README.md").read_text(encoding="utf-8")
    for page in (ROOT / "docs").glob("*.md"):
        if page.stem != "index":
            assert re.search(rf"^{page.stem}$|<{page.stem}>$", named, re.M), (
                f"docs/index.md lacks {page.stem}"
            )
            elsewhere = page.stem in ("contributing", "changelog", "log")
            assert elsewhere or f"docs/{page.name}" in readme, f"README.md lacks {page.name}"


def test_every_study_whose_results_are_told_has_its_table_there():
    """A marker that is lost would be compared with nothing."""
    shown = {
        page: set(re.findall(r"^<!-- table:(\S+) -->$", (ROOT / page).read_text("utf-8"), re.M))
        for page in ("README.md", "docs/results.md")
    }
    told = {"camvid", "camvid_rivals", "ccp", "default", "archive/digits", "archive/camvid"}
    assert shown == {"README.md": {"camvid"}, "docs/results.md": told}


def test_the_readme_fits_a_screen():
    assert len((ROOT / "README.md").read_text(encoding="utf-8").splitlines()) <= 70


def test_the_strip_shows_the_published_gallery(tmp_path, monkeypatch):
    for name in ("reports", "docs"):
        (tmp_path / name).mkdir()
    (tmp_path / "reports/default").symlink_to(ROOT / "reports/default")
    monkeypatch.chdir(tmp_path)
    runpy.run_path(str(ROOT / "docs/strip.py"), run_name="__main__")
    drawn, committed = (
        np.asarray(Image.open(folder / "docs/strip.png").convert("RGB"), dtype=int)
        for folder in (tmp_path, ROOT)
    )
    assert drawn.shape == committed.shape
    # Letters may differ by a library's version; most of the picture is pixels of the gallery.
    assert (abs(drawn - committed).max(axis=-1) > 8).mean() < 0.03, "run python docs/strip.py"
