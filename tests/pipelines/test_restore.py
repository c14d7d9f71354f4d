"""Finished runs come back into `results/`, from publications and archives."""

import shutil
import subprocess
import zipfile
from pathlib import Path

import pytest

from pipelines import pack, restore
from pipelines.analyse import stage as analyse
from pipelines.base.artifacts import canonical_json
from pipelines.base.errors import PipelineError
from pipelines.compare import stage as compare
from pipelines.evaluate.__main__ import main as evaluate
from pipelines.publish import stage as publish
from pipelines.publish import verify
from pipelines.report import stage as report
from pipelines.running.finished import finished, without_weights

README = "<!-- table:mini -->\n<!-- /table:mini -->\n"
SKIPPED = ("shapes/tiny_net/sar/seed1", "shapes/tiny_net/baseline/seed2")


def make(study):
    compare.compare(study)
    analyse.analyse(study)
    report.report(study)


@pytest.fixture
def published(fabricate, no_figures):
    study = fabricate()
    Path("README.md").write_text(README)
    make(study)
    publish.publish(study)
    return study


@pytest.fixture
def incomplete(fabricate, no_figures):
    """A study that lacks two runs, published as such."""
    study = fabricate(skip=SKIPPED)
    Path("README.md").write_text(README)
    publish.publish_incomplete(study)
    return study


def receipts(study):
    return {p: p.read_bytes() for p in sorted(study.results.rglob("receipt.json"))}


def names_missing(study):
    return {path.name for path in restore.missing_outputs(study)}


def test_runs_and_tables_come_back_and_compare_gives_the_same(published, capsys):
    before = {p: b for p, b in receipts(published).items() if p.parent.name != "report"}
    shutil.rmtree(published.results)
    assert restore.main(["--study", "mini"]) == 0
    assert receipts(published) == before
    out = capsys.readouterr().out
    assert "reports/mini: 8 runs are in results/mini" in out and "8 of 8 runs are finished" in out
    assert {"weights.safetensors", "predictions.npz"} <= names_missing(published)
    assert not {"metrics.json", "runs.csv", "curves.csv"} & names_missing(published)
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
    restore.restore(published, published.published)
    report.report(published)
    publish.publish(published)
    verify.verify()
    for name, content in before.items():
        assert (published.published / name).read_bytes() == content, name


def test_an_early_publication_without_curves_can_be_published_again(published):
    for path in published.published.rglob("train/curves.csv"):
        path.unlink()
    shutil.rmtree(published.results)
    restore.restore(published, published.published)
    assert published.runs[0].output("train", "curves.csv") in restore.missing_outputs(published)
    report.report(published)
    publish.publish(published)
    verify.verify()
    compared = published.output("compare", "receipt.json")
    compared.write_text(compared.read_text().replace("curves.csv", "other.csv"))
    with pytest.raises(PipelineError, match=r"another .*other\.csv.* it is gone; run .*compare"):
        publish.publish(published)


def test_results_that_are_there_are_kept_whole(published):
    predictions = published.runs[0].output("evaluate", "predictions.npz")
    shutil.rmtree(published.runs[1].folder("evaluate"))
    restore.restore(published, published.published)
    assert predictions.is_file()
    assert not published.runs[1].output("evaluate", "predictions.npz").exists()
    assert published.runs[1].output("evaluate", "metrics.json").is_file()


def test_other_results_are_not_touched(published):
    receipt = published.runs[3].output("train", "receipt.json")
    receipt.write_text("{}")
    shutil.rmtree(published.runs[0].folder("train"))
    with pytest.raises(PipelineError, match=r"seed\d/train/receipt\.json: other results than"):
        restore.restore(published, published.published)
    assert receipt.read_text() == "{}" and not published.runs[0].folder("train").exists()


def test_only_what_the_study_still_asks_for_comes_back(published, fabricate, capsys):
    fabricate("other")
    assert restore.main(["--study", "other"]) == 2
    assert "reports/other/study.yaml: not found; reports has: mini" in capsys.readouterr().err
    shutil.rmtree(published.results)
    every = tuple(run.name for run in published.runs)
    sar = {"label": "SAR_1", "plugin": "nowhere:apply", "options": {"pull_weight": 0.2}}
    methods = {"baseline": {"label": "Another name"}, "sar": sar}
    study = fabricate(seeds=[0, 1], methods=methods, skip=every)
    assert restore.main(["--study", "mini"]) == 0
    told = capsys.readouterr()
    assert "shapes/tiny_net/sar/seed0: not taken, train was made with other parameters" in told.err
    assert "2 of 4 runs are finished" in told.out
    # A label changes no run; the tables of other runs would be those of another study.
    assert [run.method for run in study.runs if finished(run)] == ["baseline", "baseline"]
    assert not study.folder("compare").exists()


def test_runs_of_other_data_are_not_taken(fabricate, capsys):
    study = fabricate()
    [archive] = pack.pack(study, Path("out"))
    shutil.rmtree(study.results)
    receipt = study.datasets["shapes"].receipt
    receipt.write_text(receipt.read_text() + "\n")
    assert restore.main(["--study", "mini", str(archive)]) == 0
    assert "not taken, train read another data/prepared/shapes/rec" in capsys.readouterr().err
    assert not any(map(finished, study.runs))


def test_an_incomplete_study_is_published_judges_nothing_and_goes_on(incomplete, fabricate, capsys):
    verify.verify()
    page = (incomplete.published / "report.md").read_text(encoding="utf-8")
    assert "Incomplete: 6 of 8 runs" in page
    assert "Incomplete: 6 of 8 runs" in Path("README.md").read_text(encoding="utf-8")
    shutil.rmtree(incomplete.results)
    assert restore.main(["--study", "mini"]) == 0
    assert "6 of 8 runs are finished" in capsys.readouterr().out
    assert {run.name for run in incomplete.runs if not finished(run)} == set(SKIPPED)
    before = receipts(incomplete)
    done = tuple(run.name for run in incomplete.runs if run.name not in SKIPPED)
    study = fabricate(skip=done)
    assert receipts(study).items() >= before.items()
    with pytest.raises(PipelineError, match="no run is missing"):
        publish.publish_incomplete(study)
    make(study)
    publish.publish(study)
    verify.verify()
    page = (study.published / "report.md").read_text(encoding="utf-8")
    assert "Incomplete" not in page


def test_what_is_published_of_an_incomplete_study_is_checked(incomplete):
    run = next(run for run in incomplete.runs if run.name not in SKIPPED)
    path = incomplete.published / "runs" / run.name / "evaluate/metrics.json"
    path.write_text(path.read_text().replace('"aAcc": ', '"aAcc": 1'))
    with pytest.raises(PipelineError, match=r"metrics\.json: aAcc: "):
        verify.verify()


def test_a_publication_never_loses_runs(incomplete):
    study, gone = incomplete, next(run for run in incomplete.runs if run.name not in SKIPPED)
    shutil.rmtree(gone.folder("evaluate"))
    with pytest.raises(PipelineError, match="published, and not here; bring it back first"):
        publish.publish_incomplete(study)
    with pytest.raises(PipelineError, match=r"3 of 8 runs are missing.*INCOMPLETE=1"):
        publish.publish(study)
    assert (study.published / "runs" / gone.name / "evaluate/metrics.json").is_file()


def test_archives_bring_runs_to_another_machine_where_they_are_published(
    incomplete, fabricate, tmp_path, monkeypatch, capsys
):
    assert pack.main(["--study", "mini", "-o", "out"]) == 0
    archives = sorted(Path("out").glob("*.zip"))
    assert len(archives) == 1
    assert "6 of 8 runs are packed" in capsys.readouterr().out
    names = zipfile.ZipFile(archives[0]).namelist()
    assert not [name for name in names if "weights" in name or "predictions" in name]
    before = receipts(incomplete)
    other = tmp_path / "other"
    other.mkdir()
    monkeypatch.chdir(other)
    Path("README.md").write_text(README)
    study = fabricate(skip=tuple(run.name for run in incomplete.runs))
    assert restore.main(["--study", "mini", str(tmp_path / archives[0])]) == 0
    assert receipts(study) == before
    runs = [run for run in study.runs if finished(run)]
    assert all(map(without_weights, runs))
    for run in runs:
        facts = tmp_path / run.output("train", "runtime.json")
        assert run.output("train", "runtime.json").read_bytes() == facts.read_bytes()
    publish.publish_incomplete(study)
    verify.verify()
    for name in ("table.md", "per_class.csv", "runtime/provenance.csv"):
        same = (study.published / name).read_bytes()
        assert (tmp_path / study.published / name).read_bytes() == same, name


def test_archives_are_small_and_the_same_each_time(fabricate):
    study = fabricate()
    sizes = [path.stat().st_size for path in study.runs[0].folder("evaluate").iterdir()]
    limit = 3 * sum(sizes) + 20_000
    archives = pack.pack(study, Path("out"), limit)
    assert len(archives) > 1 and max(path.stat().st_size for path in archives) <= limit
    first = [path.read_bytes() for path in archives]
    assert [path.read_bytes() for path in pack.pack(study, Path("out"), limit)] == first
    assert sorted(Path("out").iterdir()) == sorted(archives)
    shutil.rmtree(study.results)
    assert restore.main(["--study", "mini", *map(str, archives)]) == 0
    assert all(map(finished, study.runs))
    with pytest.raises(PipelineError, match="seed0 takes .* bytes, more than an archive"):
        pack.pack(study, Path("out"), 1000)


def _changed(archive, change):
    with zipfile.ZipFile(archive) as opened:
        members = {name: opened.read(name) for name in opened.namelist()}
    change(members)
    with zipfile.ZipFile(archive, "w") as opened:
        for name, content in members.items():
            opened.writestr(name, content)


METRICS = "runs/shapes/tiny_net/sar/seed0/evaluate/metrics.json"


@pytest.mark.parametrize(
    ("change", "told"),
    [
        (lambda members: members.update({"../../evil.txt": b"x"}), "leads out of the folder"),
        (lambda members: members.update({"/tmp/evil.txt": b"x"}), "leads out of the folder"),
        (lambda members: members.update({"extra.txt": b"x"}), "does not list it"),
        (lambda members: members.update({METRICS: b"{}"}), "metrics.json: was changed"),
        (lambda members: members.pop(METRICS), "metrics.json: not found"),
        (lambda members: members.pop("manifest.json"), "manifest.json: not found"),
    ],
)
def test_an_archive_that_is_unsafe_or_not_whole_brings_nothing(fabricate, change, told, capsys):
    study = fabricate()
    [archive] = pack.pack(study, Path("out"))
    shutil.rmtree(study.results)
    _changed(archive, change)
    assert restore.main(["--study", "mini", str(archive)]) == 2
    error = capsys.readouterr().err
    assert told in error and str(archive) in error
    assert not study.results.exists() and not list(Path.cwd().rglob("evil.txt"))


def test_what_is_no_archive(fabricate, capsys):
    study = fabricate()
    assert restore.main(["--study", "mini", "none.zip"]) == 2
    assert "none.zip: not found; expected an archive" in capsys.readouterr().err
    assert restore.main(["--study", "mini", str(study.path)]) == 2
    assert "mini.yaml: is no zip or tar archive" in capsys.readouterr().err


def test_a_run_without_weights_is_not_evaluated_again(fabricate, capsys):
    run = fabricate().runs[0]
    assert evaluate(["--study", "mini", "--run", run.name]) == 2
    error = capsys.readouterr().err
    assert "train/weights.safetensors: not found" in error and "train it: python -m" in error


def test_nothing_to_pack(fabricate, capsys):
    study = fabricate()
    shutil.rmtree(study.results)
    assert pack.main(["--study", "mini"]) == 2
    assert "none of its 8 runs is finished" in capsys.readouterr().err


def test_code_that_changed_since_is_told_and_refuses_nothing(fabricate, monkeypatch):
    """What changed since the commit of a run; a comment is no change."""
    runs = fabricate().runs[:2]
    for run in runs:
        for stage in ("train", "evaluate"):
            run.output(stage, "runtime.json").write_text('{"commit": null}')
    assert list(restore.code_notes(runs)) == [
        "2 of 2 runs made outside git: their code is not known"
    ]
    Path("code.py").write_text("VALUE = 1\n")
    monkeypatch.setattr("pipelines.drivers.code.code_files", lambda *_: [Path("code.py")])
    git = ["git", "-c", "user.name=a", "-c", "user.email=a@b.c"]
    for words in (["init", "-q"], ["add", "code.py"], ["commit", "-qm", "Code"]):
        subprocess.run([*git, *words], check=True)
    done = subprocess.run([*git, "rev-parse", "HEAD"], check=True, capture_output=True, text=True)
    commit = done.stdout.strip()

    def notes(**facts):
        for run in runs:
            for stage in ("train", "evaluate"):
                facts_file = run.output(stage, "runtime.json")
                facts_file.write_text(canonical_json({"commit": commit} | facts))
        [note] = restore.code_notes(runs)
        return note

    assert notes().endswith(f"made at {commit[:8]}; the code that decides them is the same")
    Path("code.py").write_text("VALUE = 1  # the first\n")
    assert notes().endswith("is the same")
    Path("code.py").write_text("VALUE = 2\n")
    assert notes().endswith("; since then changed: code.py")
    assert "files differed from it" in notes(dirty=True)
    assert "a commit that is not in this clone" in notes(commit="0" * 40)
