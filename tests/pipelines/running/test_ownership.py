"""Two study files of one name do not write into one folder of results."""

import shutil
from pathlib import Path

import pytest

from pipelines.base.errors import PipelineError
from pipelines.compare.__main__ import main as compare
from pipelines.running.ownership import NAME, check_owner, claim
from pipelines.study import Study


@pytest.fixture
def study(fabricate):
    study = fabricate()
    claim(study)
    return study


def another(path: str) -> Study:
    Path(path).parent.mkdir(parents=True, exist_ok=True)
    shutil.copy("params/studies/mini.yaml", path)
    return Study.load(path)


@pytest.mark.parametrize("path", ["mine/mini.yaml", "params/studies/mini.yml"])
def test_a_second_file_of_the_same_name_is_refused_with_both_paths(study, path, capsys):
    other = another(path)
    with pytest.raises(PipelineError, match=f"study params/studies/mini.yaml, and {path} has"):
        claim(other)
    assert compare(["--study", path]) == 2
    error = capsys.readouterr().err
    assert "mv results/mini results/mini.other" in error and "rename one of the two" in error
    assert compare(["--study", "mini"]) == 0


def test_one_file_is_itself_however_it_is_called(study):
    Path("link").symlink_to("params")
    for path in (Path("params/studies/mini.yaml").resolve(), "./link/studies/mini.yaml"):
        claim(Study.load(str(path)))
    assert (study.results / NAME).read_text() == "params/studies/mini.yaml\n"


def test_a_file_that_was_moved_keeps_its_results(study):
    other = another("mine/mini.yaml")
    study.path.unlink()
    claim(other)
    assert (study.results / NAME).read_text() == "mine/mini.yaml\n"


def test_variants_of_a_study_have_folders_of_their_own(fabricate):
    fabricate(variants={"short": {"title": "Short"}})
    for name in ("mini", "mini@short"):
        claim(Study.load(name))
    assert Path("results/mini@short", NAME).read_text() == "params/studies/mini.yaml\n"


def test_results_moved_away_leave_the_name_free(study):
    other = another("mine/mini.yaml")
    study.results.rename("results/mini.other")
    check_owner(other)
    claim(other)


@pytest.mark.parametrize("content", [b"", b"\n", b"\xff\xfe"])
def test_an_emptied_record_is_free_and_a_broken_one_named(study, content):
    record = study.results / NAME
    record.write_bytes(content)
    if content.strip() == b"":
        claim(study)
        assert record.read_text() == "params/studies/mini.yaml\n"
    else:
        with pytest.raises(PipelineError, match=rf"{record}: expected the path of a study file"):
            claim(study)
