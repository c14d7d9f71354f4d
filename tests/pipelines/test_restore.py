"""A published study comes back into `results/`, and says what was not published."""

import shutil
from pathlib import Path

import pytest

from pipelines import restore
from pipelines.analyse import stage as analyse
from pipelines.base.errors import PipelineError
from pipelines.compare import stage as compare
from pipelines.publish import stage as publish
from pipelines.publish import verify
from pipelines.report import stage as report

README = "<!-- table:mini -->\n<!-- /table:mini -->\n"


@pytest.fixture
def published(fabricate, no_figures):
    study = fabricate()
    Path("README.md").write_text(README)
    compare.compare(study)
    analyse.analyse(study)
    report.report(study)
    publish.publish(study)
    return study


def receipts(study):
    return {p: p.read_bytes() for p in sorted(study.results.rglob("receipt.json"))}


def test_runs_and_tables_come_back_and_compare_gives_the_same(published, capsys):
    before = {p: b for p, b in receipts(published).items() if p.parent.name != "report"}
    shutil.rmtree(published.results)
    assert restore.main(["--study", "mini"]) == 0
    assert receipts(published) == before
    out = capsys.readouterr().out
    assert "not published: weights.safetensors (8)" in out
    assert "not published: predictions.npz (8)" in out
    assert "metrics.json" not in out and "runs.csv" not in out and "curves.csv" not in out
    compare.compare(published)
    assert receipts(published) == before


def test_a_report_of_what_was_restored_says_the_same_and_can_be_published(published):
    before = {
        path.relative_to(published.published): path.read_bytes()
        for path in published.published.rglob("*")
        if path.is_file() and path.name not in ("index.html", "manifest.json", "receipt.json")
    }
    shutil.rmtree(published.results)
    for folder in ("images", "labels"):
        shutil.rmtree(published.datasets["shapes"].prepared / folder)
    restore.restore("mini")
    report.report(published)
    publish.publish(published)
    verify.verify()
    for name, content in before.items():
        assert (published.published / name).read_bytes() == content, name


def test_an_early_publication_without_curves_can_be_published_again(published):
    for path in published.published.rglob("train/curves.csv"):
        path.unlink()
    shutil.rmtree(published.results)
    missing = restore.restore("mini")
    assert published.runs[0].output("train", "curves.csv") in missing
    report.report(published)
    publish.publish(published)
    verify.verify()
    compared = published.output("compare", "receipt.json")
    compared.write_text(compared.read_text().replace("curves.csv", "other.csv"))
    with pytest.raises(PipelineError, match="other.csv is not what it was then"):
        publish.publish(published)


def test_results_that_are_there_are_kept_whole(published):
    predictions = published.runs[0].output("evaluate", "predictions.npz")
    shutil.rmtree(published.runs[1].folder("evaluate"))
    missing = restore.restore("mini")
    assert predictions.is_file() and predictions not in missing
    assert published.runs[1].output("evaluate", "predictions.npz") in missing
    assert published.runs[1].output("evaluate", "metrics.json").is_file()


def test_other_results_are_not_touched(published):
    receipt = published.runs[3].output("train", "receipt.json")
    receipt.write_text("{}")
    shutil.rmtree(published.runs[0].folder("train"))
    with pytest.raises(PipelineError, match=r"seed\d/train/receipt\.json: other results than"):
        restore.restore("mini")
    assert receipt.read_text() == "{}" and not published.runs[0].folder("train").exists()


def test_a_study_that_is_not_published_and_one_that_has_changed(published, fabricate, capsys):
    fabricate("other")
    assert restore.main(["--study", "other"]) == 2
    assert "reports/other/study.yaml: not found; reports has: mini" in capsys.readouterr().err
    shutil.rmtree(published.results)
    fabricate(seeds=[0, 1], skip=tuple(run.name for run in published.runs))
    assert restore.main(["--study", "mini"]) == 0
    assert "mini.yaml has changed since it was published" in capsys.readouterr().err
