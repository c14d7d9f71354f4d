"""How Sphinx builds the site from these pages: `make docs`."""

import os
import re
import sys
from pathlib import Path

import sar

HERE = Path(__file__).parent
ROOT = HERE.parent
sys.path[:0] = [str(HERE / "_ext"), str(ROOT)]

project = "Semantic anchors"
author = "The semantic-anchors developers"
version = release = sar.__version__

extensions = [
    "myst_parser",
    "sphinx.ext.autodoc",
    "sphinx.ext.napoleon",
    "sphinx_copybutton",
    "floors",
    "keys",
]
exclude_patterns = ["_ext"]
templates_path: list[str] = []

html_theme = "furo"
html_title = "Semantic anchors"
html_static_path = ["_static"]
html_css_files = ["site.css"]
html_show_sphinx = False

myst_enable_extensions = ["colon_fence"]
myst_fence_as_directive = ["mermaid"]
myst_heading_anchors = 4

default_role = "code"
autodoc_default_options = {"members": True, "show-inheritance": True}
autodoc_member_order = "bysource"
autodoc_typehints = "none"
add_module_names = False
copybutton_exclude = ".linenos, .gp, .go"
# Types of other projects, of which no inventory is looked up: the site is built without a network.
nitpick_ignore_regex = [("py:.*", r"(?!sar\b).*")]

ELSEWHERE = {
    "contributing": "CONTRIBUTING.md",
    "changelog": "CHANGELOG.md",
    "log": "reports/LOG.md",
}
"""Pages whose text is a file outside of docs/."""

_LINK = re.compile(r"(?<=\]\()(?!https?:|#)([^)\s#]*)(?=[)#])")


def _read(app, docname: str, source: list[str]) -> None:
    """Take the text from elsewhere, and let links lead to where the site has their file."""
    folder = (HERE / docname).parent
    text, base = source[0], folder
    if docname in ELSEWHERE:
        path = ROOT / ELSEWHERE[docname]
        text, base = path.read_text(encoding="utf-8"), path.parent
        app.env.note_dependency(str(path))
    source[0] = _LINK.sub(lambda match: _target(match[1], base, folder), text)


def _target(link: str, base: Path, folder: Path) -> str:
    path = Path(os.path.normpath(base / link))
    inside = path.relative_to(ROOT).as_posix()
    for page, file in ELSEWHERE.items():
        if inside == file:
            path = HERE / f"{page}.md"
    if inside.startswith("reports/") and path.name == "report.md":
        page = path.with_name("index.html")  # the same report, as a page of its own
        path = page if page.is_file() else path
    if inside == "README.md":
        path = HERE / "index.md"
    # A Markdown file outside of docs/ is no page of the site, but a file to look at.
    file = path.suffix == ".md" and not path.is_relative_to(HERE)
    return ("path:" if file else "") + os.path.relpath(path, folder)


def setup(app) -> None:
    app.connect("source-read", _read)
