"""What a module imports and what of it counts, and the directions that the program's imports go."""

from __future__ import annotations

from pathlib import Path

import pytest

from pipelines.base.errors import PipelineError
from pipelines.drivers import imports
from tests.pipelines.mini import ROOT

STAGES = ("fetch", "prepare", "train", "evaluate", "compare", "analyse", "report", "publish")


@pytest.fixture
def place(tmp_path, monkeypatch):
    """An empty project, which is the working directory, with a cache of its own."""
    monkeypatch.chdir(tmp_path)
    imports._cache.cache_clear()
    yield tmp_path
    imports._cache.cache_clear()


def names(place: Path, *roots: str, **options) -> set[str]:
    return {
        path.relative_to(place).as_posix() for path in imports.closure(roots, [place], **options)
    }


def test_a_closure_follows_every_kind_of_import(place):
    (place / "house/room").mkdir(parents=True)
    for package in ("house", "house/room"):
        (place / package / "__init__.py").write_text("import shed\n")
    (place / "house/a.py").write_text(
        "import house.b, json\nfrom house import c\nfrom .room import d as e, value\n"
        "def late():\n    from house.room.f import g\n"
        "if TYPE_CHECKING:\n    from house import typed\nelse:\n    import other\n"
    )
    (place / "house/c.py").write_text("from house.a import late\n")
    for name in ("house/b", "house/room/d", "house/room/f", "house/typed", "other", "shed", "no"):
        (place / f"{name}.py").write_text("")
    packages = {"house/__init__.py", "house/room/__init__.py", "shed.py"}
    modules = {f"house/{name}.py" for name in ("a", "b", "c", "room/d", "room/f")} | {"other.py"}
    assert names(place, "house.a") == packages | modules
    # `value` may be a name in the package; the packages passed on the way to a module are not.
    assert names(place, "house.a", passed_through=["house"]) == (
        modules | {"house/room/__init__.py", "shed.py"}
    )
    assert names(place, "house.a", skip=["house.room", "other"], passed_through=["house"]) == {
        *("house/a.py", "house/b.py", "house/c.py")
    }


def test_relative_imports_begin_at_the_package(place):
    (place / "house/room").mkdir(parents=True)
    for name in ("__init__", "a", "b", "room/__init__", "room/c", "room/d", "room/b"):
        (place / f"house/{name}.py").write_text("")
    (place / "house/a.py").write_text("from . import b\n")
    (place / "house/room/c.py").write_text("from .. import a\nfrom . import d\n")
    (place / "house/room/__init__.py").write_text("from .b import value\n")
    assert names(place, "house.room.c") == {
        f"house/{name}.py"
        for name in ("__init__", "a", "b", "room/__init__", "room/b", "room/c", "room/d")
    }
    assert names(place, "house.a") == {f"house/{name}.py" for name in ("__init__", "a", "b")}


def test_what_is_not_for_typing_counts(place):
    for name in ("here", "there"):
        (place / f"{name}.py").write_text("")
    (place / "a.py").write_text(
        "if not TYPE_CHECKING:\n    import here\n"
        "if typing.TYPE_CHECKING:\n    import typed\nelse:\n    import there\n"
    )
    assert names(place, "a") == {"a.py", "here.py", "there.py"}


def test_a_file_that_is_not_python_is_named(place):
    (place / "a.py").write_text("import json\ndef f(:\n")
    with pytest.raises(PipelineError, match=r"a.py:2: .*expected valid Python"):
        names(place, "a")


def test_templates_beside_a_module_belong_to_it(place):
    (place / "page/templates/parts").mkdir(parents=True)
    for name in ("html.py", "templates/page.css", "templates/parts/a.j2", "notes.txt"):
        (place / "page" / name).write_text("")
    assert names(place, "page.html", passed_through=["page"]) == {
        *("page/html.py", "page/templates/page.css", "page/templates/parts/a.j2")
    }


@pytest.mark.parametrize(
    ("text", "same"),
    [
        ("def f(x):\n    return x+1  # more\n", True),
        ('"""What."""\n\n\ndef f(x):\n    """Why."""\n    return (x + 1)\n', True),
        ("def f(x):\n    return x + 2\n", False),
        ("def f(x):\n    return x + 1\n\n\nf('text')\n", False),
        ("def f(x):\n    return x + 1\n\n\nVALUE = '''text'''\n", False),
    ],
)
def test_a_fingerprint_is_of_the_code_alone(text, same):
    expected = imports.parse("def f(x):\n    return x + 1\n").fingerprint
    assert (imports.parse(text).fingerprint == expected) is same


def test_a_fingerprint_does_not_depend_on_where_a_project_lies(place):
    paths = []
    for project in ("one", "two"):
        (place / project).mkdir()
        paths.append(place / project / "a.py")
        paths[-1].write_text("value = 1\n")
    one, two = (imports.fingerprint([path], [ROOT, path.parent]) for path in paths)
    assert one == two
    assert imports.fingerprint([paths[0]], [place]) != one


def test_what_was_found_is_kept_for_the_next_process(place, monkeypatch):
    path = place / "a.py"
    path.write_text("import b\n")
    first = imports.source_of(path)
    imports.save_cache()
    imports._cache.cache_clear()
    with monkeypatch.context() as patch:
        patch.setattr(imports, "parse", lambda text: pytest.fail("parsed again"))
        assert imports.source_of(path) == first
    path.write_text("import other\n")
    assert imports.source_of(path).imports == ["other"]


@pytest.mark.parametrize("text", ["", "{", "[]", '{"format": 0, "files": {}}', "\x00"])
def test_a_broken_cache_is_made_anew(place, text):
    (place / "a.py").write_text("import b\n")
    (place / "work").mkdir()
    (place / "work/imports.json").write_text(text)
    assert imports.source_of(place / "a.py").imports == ["b"]


def graph() -> dict[str, set[str]]:
    """The modules of this project that each of its modules imports, for typing alone left out."""
    files = {
        ".".join(path.relative_to(ROOT).with_suffix("").parts).removesuffix(".__init__"): path
        for top in ("pipelines", "sar")
        for path in (ROOT / top).rglob("*.py")
    }
    return {
        name: {
            other
            for other in (
                imports.module_of(each, [ROOT]) for each in imports.imported_names(path, name)
            )
            if other in files and other != name
        }
        for name, path in files.items()
    }


GRAPH = graph()


def test_no_files_import_each_other():
    def circle(path: list[str]) -> list[str]:
        for other in sorted(GRAPH[path[-1]]):
            if other in path:
                return [*path[path.index(other) :], other]
            if other not in seen:
                seen.add(other)
                if found := circle([*path, other]):
                    return found
        return []

    for name in sorted(GRAPH):
        seen: set[str] = {name}
        assert not circle([name])


def test_sar_knows_nothing_of_the_pipeline():
    wrong = {
        (name, other)
        for name, others in GRAPH.items()
        for other in others
        if name.startswith("sar") and other.startswith("pipelines")
    }
    assert not wrong


def test_a_stage_imports_earlier_stages_only():
    def stage(name: str) -> str | None:
        parts = name.split(".")
        return parts[1] if len(parts) > 2 and parts[1] in STAGES else None

    wrong = {
        (name, other)
        for name, others in GRAPH.items()
        for other in others
        if (mine := stage(name)) and (theirs := stage(other))
        if STAGES.index(theirs) > STAGES.index(mine)
    }
    assert not wrong


def test_analyse_does_not_draw():
    drawn = imports.closure(["pipelines.analyse.stage"], [ROOT], passed_through=["pipelines"])
    assert not [path for path in drawn if "matplotlib" in " ".join(imports.source_of(path).imports)]
