"""A published study comes back into `results/`, and says what was not published."""

import shutil
from pathlib import Path

import pytest

from pipelines import compare, figures, publish, report, restore
from pipelines.errors import PipelineError

README = "<!-- table:mini -->\n<!-- /table:mini -->\n"


@pytest.fixture
def published(fabricate, monkeypatch):
    def save(figure, folder, stem):
        for suffix in ("png", "svg"):
            (folder / f"{stem}.{suffix}").write_text(stem)

    monkeypatch.setattr(figures, "save", save)
    study = fabricate()
    Path("README.md").write_text(README)
    compare.compare(study)
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
