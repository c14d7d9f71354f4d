"""What the site makes of schemas and pictures, and that it is strict."""

import json
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
sys.path.insert(0, str(ROOT / "docs/_ext"))

import floors  # noqa: E402
import keys  # noqa: E402

SCHEMAS = sorted(path.stem for path in (ROOT / "params/schema").glob("*.json"))


@pytest.mark.parametrize("name", SCHEMAS)
def test_every_key_has_a_type_a_default_and_a_meaning(name):
    schema = json.loads((ROOT / f"params/schema/{name}.json").read_text(encoding="utf-8"))
    text = "\n".join(keys.pages(name))
    objects = {schema["title"]: schema, **schema.get("$defs", {})}
    for title, each in objects.items():
        part = text.partition(f"\n## {title}\n")[2].partition("\n## ")[0]
        for key in each["properties"]:
            row = next(line for line in part.splitlines() if line.startswith(f"| `{key}` |"))
            cells = row.replace(r"\|", "").strip("| ").split(" | ")
            assert len(cells) == 4 and all(cells), row


def test_keys_are_told_as_the_schema_has_them():
    text = "\n".join(keys.pages("dataset"))
    assert (
        "| `reduce_zero` | true or false | `false` | Raw 0 is void and raw k is class k-1. |"
        in text
    )
    assert '| `others` | `error` or `ignore` | `"error"` |' in text
    assert "| `labels` | [Labels](#labels) | see there |" in text
    assert "| `seed` | integer ≥ 0, < 1.84467e+19 | `0` | Non-negative; decides" in text


def test_a_key_without_a_docstring_is_refused(tmp_path, monkeypatch):
    schema = json.loads((ROOT / "params/schema/model.json").read_text(encoding="utf-8"))
    del schema["properties"]["channels_last"]["description"]
    (tmp_path / "model.json").write_text(json.dumps(schema))
    monkeypatch.setattr(keys, "SCHEMAS", tmp_path)
    with pytest.raises(ValueError, match=r"ModelEntry\.channels_last has no description"):
        list(keys.pages("model"))


CHART = """
flowchart BT
  subgraph floor1["1"]
    base["base: errors & such"]
  end
  subgraph floor2["2"]
    study["study: files"]
    rendering["rendering: pages"]
  end
  floor1 --> floor2
"""


def test_floors_are_read_and_drawn_from_below():
    found = floors.floors(CHART)
    assert found == {"1": {"base": "errors & such"}, "2": {"study": "files", "rendering": "pages"}}
    drawing = floors.svg(found)
    assert drawing.count("<rect") == 3 and "errors &amp; such" in drawing
    assert drawing.index("study/") < drawing.index("base/")


def test_what_cannot_be_drawn_is_refused():
    with pytest.raises(ValueError, match="cannot draw 'base{diamond}'"):
        floors.floors(CHART + "  base{diamond}\n")


@pytest.fixture
def site(tmp_path):
    """Builds a site of one page with this project's settings."""

    def build(text: str) -> subprocess.CompletedProcess:
        source = tmp_path / "docs"
        source.mkdir()
        (source / "index.md").write_text(text)
        (source / "conf.py").write_text(
            "import os, runpy, sys\n"
            f"sys.path.insert(0, {str(ROOT)!r})\n"
            f"globals().update(runpy.run_path({str(ROOT / 'docs/conf.py')!r}))\n"
            "HERE = ROOT = None\nhtml_static_path = []\nhtml_css_files = []\n"
            "def setup(app): pass\n"
        )
        command = [sys.executable, "-m", "sphinx", "-W", "--keep-going", "-n", "-q"]
        return subprocess.run(
            [*command, source, tmp_path / "built"], capture_output=True, text=True, cwd=ROOT
        )

    return build


def test_a_broken_link_fails(site):
    done = site("# Title\n\n[gone](gone.md)\n")
    assert done.returncode != 0 and "gone" in done.stderr


def test_the_site_loads_nothing_from_elsewhere(site, tmp_path):
    done = site(f"# Title\n\n```mermaid{CHART}```\n")
    assert done.returncode == 0, done.stderr
    html = (tmp_path / "built/index.html").read_text(encoding="utf-8")
    assert '<svg class="floors"' in html
    for mark in ('src="http', "src='http", 'rel="stylesheet" href="http', "import http"):
        assert mark not in html
