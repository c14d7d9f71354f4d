"""What the pages say of the tree is so: the picture of the rooms, and the files that are named."""

import ast
import re
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
from ruamel.yaml import YAML

from tests.docs.test_pages import PAGES

ROOT = Path(__file__).parents[2]
sys.path.insert(0, str(ROOT / "docs/_ext"))

import floors  # noqa: E402

PAGE = (ROOT / "docs/architecture.md").read_text(encoding="utf-8")
FLOORS = floors.floors(re.search(r"^```mermaid\n(.*?)^```", PAGE, re.M | re.S)[1])
FLOOR = {room: number for number, rooms in enumerate(FLOORS.values(), 1) for room in rooms}
BESIDE = set(re.findall(r"`(\w+)\.py`", re.search(r"^Beside them.*$", PAGE, re.M)[0]))


def imports() -> Iterator[tuple[str, str]]:
    """(room, room that it imports), of `pipelines`, for each file."""
    for path in sorted((ROOT / "pipelines").glob("*/**/*.py")):
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            if isinstance(node, ast.ImportFrom) and node.module:
                names = [f"{node.module}.{alias.name}" for alias in node.names]
            elif isinstance(node, ast.Import):
                names = [alias.name for alias in node.names]
            else:
                continue
            for name in names:
                if name.startswith("pipelines."):
                    yield path.relative_to(ROOT / "pipelines").parts[0], name.split(".")[1]


def test_the_picture_has_every_room_and_no_other():
    rooms = {path.parent.name for path in (ROOT / "pipelines").glob("*/__init__.py")}
    assert set(FLOOR) == rooms
    modules = {path.stem for path in (ROOT / "pipelines").glob("*.py")} - {"__init__"}
    assert modules == BESIDE


def test_a_room_imports_lower_floors_only():
    wrong = {
        f"{room} imports {other}"
        for room, other in imports()
        if room != other and FLOOR.get(other, 9) >= FLOOR[room]
    }
    assert not wrong


@pytest.mark.parametrize("name", PAGES)
def test_files_that_a_page_names_are_there(name):
    text = (ROOT / name).read_text(encoding="utf-8")
    code = [span.rstrip("/") for span in re.findall(r"`([\w./-]+)`", text)]
    named = {each for each in code if re.match(r"(pipelines|sar|tests|workflow|benchmarks)/", each)}
    missing = {each for each in named if re.fullmatch(r"[a-z0-9_./-]+", each)} - {
        each for each in named if (ROOT / each).exists()
    }
    assert not missing


def test_the_conda_environment_installs_what_the_lock_pins():
    environment = YAML(typ="safe").load(ROOT / "environment.yml")
    words = environment["dependencies"]
    assert "python=3.11" in words
    assert words[-1]["pip"] == ["--requirement requirements.lock", "--editable ."]
