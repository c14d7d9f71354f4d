from pathlib import Path

import pytest

from pipelines.analyse import stage as analyse
from pipelines.base.artifacts import canonical_json, read_json, sha256_file
from pipelines.base.errors import PipelineError
from pipelines.compare import stage as compare
from pipelines.publish import stage as publish
from pipelines.publish import verify
from pipelines.publish.__main__ import main as publish_main
from pipelines.publish.readme import fill
from pipelines.report import stage as report
from tests.pipelines.receipts import vouch

EMPTY = "# Title\n\n<!-- table:mini -->\n<!-- /table:mini -->\n\nThe end.\n"


pytestmark = pytest.mark.usefixtures("no_figures")


@pytest.fixture
def published(fabricate):
    study = fabricate()
    Path("README.md").write_text(EMPTY)
    compare.compare(study)
    analyse.analyse(study)
    report.report(study)
    publish.publish(study)
    return study


def test_reports_hold_tables_figures_scores_and_receipts(published):
    folder = published.published
    for name in (
        *("report.md", "index.html", "table.md", "gallery.npz", "receipt.json", "study.yaml"),
        *("figures/gallery.svg", "tables/comparison.parquet", "runtime/provenance.csv"),
        *("analyse/measures.csv", "data/shapes/info.json", "manifest.json"),
    ):
        assert (folder / name).is_file(), name
    assert (folder / "compare/runs.csv").is_file() and (folder / "compare/receipt.json").is_file()
    for run in published.runs:
        files = sorted(p.relative_to(folder / "runs" / run.name).as_posix()
                       for p in (folder / "runs" / run.name).rglob("*") if p.is_file())  # fmt: skip
        assert files == [
            "evaluate/analysis.npz", "evaluate/confusion.csv", "evaluate/metrics.json",
            "evaluate/receipt.json", "evaluate/runtime.json", "evaluate/scores.json",
            "train/curves.csv", "train/receipt.json", "train/runtime.json",
        ]  # fmt: skip
    assert not list(folder.rglob("predictions.npz")) and not list(folder.parent.glob(".*"))


def test_the_readme_shows_the_table_and_check_agrees(published):
    readme = Path("README.md").read_text(encoding="utf-8")
    assert (published.published / "table.md").read_text(encoding="utf-8").strip() in readme
    assert readme.startswith("# Title\n") and readme.endswith("\nThe end.\n")
    assert publish_main(["--check"]) == 0


def test_pages_of_docs_show_the_table_too_and_check_sees_them(published, capsys):
    page, other = Path("docs/results.md"), Path("docs/other.md")
    page.parent.mkdir()
    page.write_text(EMPTY)
    other.write_text("# No table\n")
    assert publish_main(["--check"]) == 2
    assert "docs/results.md: the table of mini" in capsys.readouterr().err
    publish.publish(published)
    assert page.read_text(encoding="utf-8") == Path("README.md").read_text(encoding="utf-8")
    assert other.read_text() == "# No table\n" and publish_main(["--check"]) == 0
    page.write_text("<!-- table:mini -->\n")
    assert publish_main(["--check"]) == 2
    assert "docs/results.md: <!-- table:mini --> is not followed" in capsys.readouterr().err


def test_publishing_again_replaces_everything_and_changes_nothing(published):
    def contents():
        files = [p for p in published.published.rglob("*") if p.is_file()]
        return {p: p.read_bytes() for p in files} | {0: Path("README.md").read_bytes()}

    before = contents()
    (published.published / "stray.txt").write_text("left over")
    publish.publish(published)
    assert contents() == before


def test_check_needs_no_results(published):
    import shutil

    for folder in ("results", "data"):
        shutil.rmtree(folder)
    assert publish_main(["--check"]) == 0


def test_check_names_the_study_whose_readme_table_was_changed(published, capsys):
    readme = Path("README.md")
    readme.write_text(readme.read_text(encoding="utf-8").replace(" ± ", " +/- "), encoding="utf-8")
    assert publish_main(["--check"]) == 2
    assert "table of mini" in (error := capsys.readouterr().err)
    assert "make publish STUDY=mini" in error


def test_check_sees_a_number_changed_in_both_places(published, capsys):
    for path in (Path("README.md"), published.published / "table.md"):
        path.write_text(path.read_text(encoding="utf-8").replace("SAR", "XYZ"), encoding="utf-8")
    assert publish_main(["--check"]) == 2
    assert "reports/mini/table.md: was changed" in capsys.readouterr().err


def test_check_sees_a_number_changed_in_a_table_in_a_folder(published, capsys):
    path = published.published / "tables/comparison.csv"
    path.write_text(path.read_text().replace("SAR", "XYZ"))
    assert publish_main(["--check"]) == 2
    assert "reports/mini/tables/comparison.csv: was changed" in capsys.readouterr().err


def test_a_report_whose_figures_are_not_its_own_is_not_published(published):
    published.output("report", "figures/").joinpath("curves.svg").write_text("another")
    with pytest.raises(PipelineError, match=r"report/figures: was changed .*pipelines\.report"):
        publish.publish(published)


def test_what_snakemake_leaves_in_folders_is_neither_missed_nor_published(published):
    for name in ("figures", "tables"):
        (published.output("report", f"{name}/") / ".snakemake_timestamp").touch()
    publish.publish(published)
    assert not list(published.published.rglob(".snakemake_timestamp"))
    verify.verify()


def test_an_unpublished_study_shows_nothing(fabricate):
    fabricate()
    Path("README.md").write_text(EMPTY)
    verify.verify()
    Path("README.md").write_text(EMPTY.replace("-->\n<", "-->\n99.9\n<"))
    with pytest.raises(PipelineError, match="mini"):
        verify.verify()


def test_a_report_older_than_its_runs_is_not_published(published):
    metrics = published.runs[0].output("evaluate", "metrics.json")
    metrics.write_text(metrics.read_text().replace("}", " }"))
    with pytest.raises(PipelineError, match=r"metrics\.json: was changed .*pipelines\.evaluate"):
        publish.publish(published)
    vouch(metrics)
    again = r"compare/receipt\.json: was made from another .*metrics\.json.*pipelines\.compare"
    with pytest.raises(PipelineError, match=again):
        publish.publish(published)


def test_a_number_that_no_confusion_gives_is_not_published_whatever_receipts_say(published):
    metrics = published.runs[0].output("evaluate", "metrics.json")
    content = read_json(metrics)
    metrics.write_text(canonical_json(content | {"mIoU": 99.9}))
    vouch(metrics)
    for stage in (compare.compare, analyse.analyse, report.report):
        stage(published)
    before = {path: path.stat().st_ino for path in sorted(published.published.rglob("*"))}
    with pytest.raises(PipelineError, match="nothing is published") as error:
        publish.publish(published)
    where = published.published / "runs" / published.runs[0].name / "evaluate"
    message = str(error.value)
    assert f"{where}/metrics.json: mIoU is 99.9, expected {content['mIoU']}" in message
    assert f"by {where}/confusion.csv" in message
    assert {path: path.stat().st_ino for path in sorted(published.published.rglob("*"))} == before
    assert not list(published.published.parent.glob(".*"))


def test_results_with_damaged_weights_are_not_published(published):
    weights = published.runs[0].output("train", "weights.safetensors")
    weights.write_bytes(b"trained")
    vouch(weights)
    evaluated = published.runs[0].output("evaluate", "receipt.json")
    content = read_json(evaluated)
    trained = weights.with_name("receipt.json")
    content["inputs"][trained.as_posix()] = sha256_file(trained)
    evaluated.write_text(canonical_json(content))
    with pytest.raises(
        PipelineError, match=r"run python -m pipelines\.report --study mini\n.*prov"
    ):
        publish.publish(published)  # The report tells the weights of each run.
    report.report(published)
    publish.publish(published)
    weights.write_bytes(b"damaged")
    with pytest.raises(
        PipelineError, match=r"weights\.safetensors: was changed .*pipelines\.train"
    ):
        publish.publish(published)


def test_a_run_that_lacks_a_file_is_named(published):
    published.run("shapes/tiny_net/sar/seed2").output("evaluate", "analysis.npz").unlink()
    before = sorted(published.published.rglob("*"))
    with pytest.raises(PipelineError, match=r"analysis\.npz: not found; run .*pipelines\.evaluate"):
        publish.publish(published)
    assert sorted(published.published.rglob("*")) == before


def test_a_report_of_another_study_file_is_not_published(published, fabricate):
    changed = fabricate(title="Another title", skip=tuple(run.name for run in published.runs))
    titles = "title was A made-up comparison, is Another title"
    with pytest.raises(PipelineError, match=rf"studies/mini\.yaml asks for now \({titles}\)"):
        publish.publish(changed)


def test_nothing_is_published_without_a_report_or_with_a_broken_readme(fabricate):
    study = fabricate()
    Path("README.md").write_text(EMPTY)
    with pytest.raises(PipelineError, match=r"pipelines\.compare --study mini"):
        publish.publish(study)
    compare.compare(study)
    analyse.analyse(study)
    report.report(study)
    Path("README.md").write_text("<!-- table:mini -->\n")
    with pytest.raises(PipelineError, match="is not followed by"):
        publish.publish(study)
    assert not study.published.exists()


def test_fill_replaces_only_what_is_between_markers():
    text = "a\n<!-- table:x -->\nold\n<!-- /table:x -->\nb `<!-- table:y -->` c\n"
    filled = fill(text, {"x": "| new |\n"})
    assert filled == text.replace("\nold\n", "\n\n| new |\n\n")
    assert fill(filled, {"x": "| new |\n"}) == filled


def test_fill_can_leave_other_studies_alone():
    text = "".join(f"<!-- table:{s} -->\nold\n<!-- /table:{s} -->\n" for s in "xy")
    filled = fill(text, {"x": "X", "y": "Y"}, only="y")
    assert "old" in filled and "Y" in filled and "X" not in filled


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("<!-- table:x -->\n", "<!-- table:x --> is not followed by <!-- /table:x -->"),
        ("<!-- table:x -->\n<!-- table:y -->\n", "is not followed by <!-- /table:x -->"),
        ("<!-- table:x -->\n<!-- /table:y -->\n", "is not followed by <!-- /table:x -->"),
        ("<!-- /table:x -->\n", "<!-- /table:x --> closes nothing"),
        ("<!-- table:z -->\n<!-- /table:z -->\n", "unknown study 'z'; known are: x, y"),
    ],
)
def test_a_marker_that_cannot_be_filled_is_an_error(text, message):
    with pytest.raises(PipelineError, match=message):
        fill(text, {"x": "X", "y": "Y"})
