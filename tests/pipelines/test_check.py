"""`report --check` passes on what was published, and names a file in which a digit was altered."""

import json
import re
import shutil
from pathlib import Path

import pandas as pd
import pytest

from pipelines import compare, figures, manifest, publish, report, verify
from pipelines.artifacts import canonical_json, read_json, sha256_file
from pipelines.errors import PipelineError
from pipelines.study import Study

README = "# Title\n\n<!-- table:mini -->\n<!-- /table:mini -->\n"
RUN = "runs/shapes/tiny_net/sar/seed1"
DERIVED = [
    *("table.md", "table.csv", "table.tex", "per_class.csv", "claims.csv"),
    *(f"compare/{stem}.csv" for stem in ("runs", "summary", "paired", "claims", "curves")),
    *("compare/confusion.csv", f"{RUN}/evaluate/metrics.json", f"{RUN}/evaluate/scores.json"),
    *(f"{RUN}/evaluate/confusion.csv", f"{RUN}/train/curves.csv"),
]
"""Files whose numbers follow from others, or others from theirs."""
KEPT = [
    *("report.md", "receipt.json", "manifest.json", "curves.svg", "data/shapes/info.json"),
    *("compare/receipt.json", f"{RUN}/evaluate/receipt.json", f"{RUN}/train/receipt.json"),
    *(f"{RUN}/train/runtime.json", f"{RUN}/evaluate/analysis.npz"),
]
"""Files that hashes vouch for."""


@pytest.fixture(scope="module")
def project(fabricate_here, tmp_path_factory):
    """A project with a published study and nothing else, to be copied."""
    folder = tmp_path_factory.mktemp("project")
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(folder)
        patch.setattr(figures, "save", _placeholder)
        claims = {"better": {"metric": "mIoU", "method": "sar", "direction": "higher", "margin": 1}}
        claims["better"]["margin"] = 1.0
        study = fabricate_here(claims=claims)
        Path("README.md").write_text(README)
        compare.compare(study)
        report.report(study)
        publish.publish(study)
        for scratch in ("results", "data"):
            shutil.rmtree(scratch)
    return folder


@pytest.fixture
def published(project, tmp_path, monkeypatch):
    """The folder `reports/mini` of a project of its own."""
    shutil.copytree(project, tmp_path / "copy")
    monkeypatch.chdir(tmp_path / "copy")
    return Path("reports/mini")


def _placeholder(figure, folder, stem):
    for suffix in ("png", "svg"):
        (folder / f"{stem}.{suffix}").write_text(f"{stem} 1.5")


def alter(path: Path) -> None:
    """Change the first decimal of the last number that has some, or the last digit, or a byte."""
    if path.suffix == ".npz":
        content = bytearray(path.read_bytes())
        content[40] ^= 1
        path.write_bytes(content)
        return
    text = path.read_text(encoding="utf-8")
    digits = list(re.finditer(r"\d\.\d", text)) or list(re.finditer(r"\d", text))
    at = digits[-1].end() - 1
    changed = text[:at] + str((int(text[at]) + 1) % 10) + text[at + 1 :]
    path.write_text(changed, encoding="utf-8")


def forge(home: Path) -> None:
    """Let all receipts and the manifest vouch for what lies there now."""
    for _ in range(4):  # a receipt's hash stands in the next one's inputs
        for path in sorted(home.rglob("receipt.json")):
            receipt = read_json(path)
            for name in receipt["outputs"]:
                if (path.parent / name).is_file():
                    receipt["outputs"][name] = sha256_file(path.parent / name)
            for name in receipt["inputs"]:
                parts = Path(name).parts
                place = home.joinpath(*parts[2:]) if parts[0] == "results" else None
                if place and place.is_file():
                    receipt["inputs"][name] = sha256_file(place)
            path.write_text(canonical_json(receipt), encoding="utf-8")
    manifest.write(home)


def errors(capsys) -> str:
    assert report.main(["--check"]) == 2
    return capsys.readouterr().err


def test_what_was_published_passes_without_results(published, capsys):
    assert report.main(["--check"]) == 0
    assert "README.md and reports/ (mini) follow from" in capsys.readouterr().out
    assert publish.main(["--check"]) == 0


@pytest.mark.parametrize("name", [*DERIVED, *KEPT])
def test_an_altered_digit_is_found_and_its_file_named(published, capsys, name):
    alter(published / name)
    error = errors(capsys)
    assert f"reports/mini/{name}" in error and "expected" in error


@pytest.mark.parametrize("name", DERIVED)
def test_hashes_that_vouch_for_an_altered_digit_do_not_help(published, capsys, name):
    alter(published / name)
    forge(published)
    if name == "table.md":
        readme = Path("README.md")
        text = f"# Title\n\n<!-- table:mini -->\n\n{(published / name).read_text().strip()}\n\n"
        readme.write_text(text + "<!-- /table:mini -->\n")
    error = errors(capsys)
    assert "expected" in error and "sha256" not in error
    # A run's numbers are the source: it is told by what no longer follows from them.
    source = {f"{RUN}/train/curves.csv": "compare/curves.csv"}.get(name, name)
    assert f"reports/mini/{source}" in error


def test_forging_alone_changes_nothing(published):
    """So that the test above is about the digits."""
    forge(published)
    verify.verify()


def test_a_digit_of_the_readme(published, capsys):
    alter(Path("README.md"))
    error = errors(capsys)
    assert "README.md: the table of mini" in error and "expected '| shapes" in error


@pytest.mark.parametrize("name", ["table.csv", f"{RUN}/evaluate/metrics.json", "manifest.json"])
def test_a_file_that_is_gone(published, capsys, name):
    (published / name).unlink()
    assert f"reports/mini/{name}: not found" in errors(capsys)


def test_a_file_that_was_added(published, capsys):
    (published / "better.csv").write_text("mIoU\n99.9\n")
    assert "reports/mini/better.csv: expected no such file" in errors(capsys)


def test_a_receipt_that_names_no_training(published, capsys):
    path = published / RUN / "evaluate/receipt.json"
    receipt = read_json(path)
    receipt["inputs"] = {n: d for n, d in receipt["inputs"].items() if "/train/" not in n}
    path.write_text(canonical_json(receipt))
    forge(published)
    trained = f"reports/mini/{RUN}/train/receipt.json"
    assert f"{path}: inputs lacks {trained}" in errors(capsys)


def test_parquet_beside_a_table_holds_the_same(published):
    frame = pd.read_csv(published / "compare/paired.csv")
    frame.to_parquet(published / "compare/paired.parquet")
    assert list(verify._shown_faults(published)) == []
    frame["wins"] += 1
    frame.to_parquet(published / "compare/paired.parquet")
    assert "paired.parquet: holds other rows" in next(verify._shown_faults(published))


def test_a_publication_of_before_the_manifest_is_sealed_when_it_follows(published, fabricate_here):
    (published / "manifest.json").unlink()
    shutil.rmtree(published / "data")
    for path in published.rglob("curves.csv"):
        if path.parent.name == "train":
            path.unlink()
    with pytest.raises(PipelineError, match=r"info\.json: expected sha256 .*pipelines\.prepare"):
        publish.seal("mini")
    fabricate_here(claims=read_json(published / "study.yaml")["claims"])
    publish.seal("mini")
    verify.verify()
    alter(published / "compare/runs.csv")
    (published / "manifest.json").unlink()
    with pytest.raises(PipelineError, match=r"compare/runs\.csv: line"):
        publish.seal("mini")
    assert not (published / "manifest.json").exists()


def test_a_table_of_an_earlier_version_may_lack_columns(published):
    path = published / "compare/paired.csv"
    frame = compare.Comparison.of(study := Study.load_published("mini"), study.runs).paired
    path.write_text(compare.csv_text(frame.drop(columns=["low", "high", "p"])))
    assert list(verify._table_faults(study)) == []
    path.write_text(compare.csv_text(frame.drop(columns="p").assign(wins=0)))
    assert "paired.csv: line 2" in next(verify._table_faults(study))


@pytest.mark.parametrize(
    ("cell", "good"),
    [
        ("61.23 ± 0.50", True),
        ("61.2 ± 0.5", True),
        ("61.24", False),
        ("-61.23", False),
        ("+8.80", True),
        ("[+8.80, -1.00]", True),
        ("12.50", True),  # 0.125 in percent
        ("< 0.001", True),
        ("< 0.0001", False),
        ("lr 0.003 better", True),
        ("–", True),
    ],
)
def test_what_a_cell_may_show(cell, good):
    values = [61.23456, 0.5, 8.8, -1.0, 0.125, 0.0004, "lr 0.003", float("nan")]
    assert (list(verify._unfounded([cell], values)) == []) is good


def test_published_studies_are_named_when_one_is_missing(published):
    with pytest.raises(
        PipelineError, match=r"reports/other/study\.yaml: not found; reports has: mini"
    ):
        Study.load_published("other")
    assert json.loads((published / "study.yaml").read_text())["title"]
