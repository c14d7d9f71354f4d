"""`report --check` passes on what was published, and names a file in which a digit was altered."""

import json
import re
import shutil
from pathlib import Path

import pandas as pd
import pytest
from matplotlib.figure import Figure

from pipelines.analyse import stage as analyse
from pipelines.base import frames
from pipelines.base.artifacts import canonical_json, read_json, sha256_file, sha256_folder
from pipelines.base.errors import PipelineError
from pipelines.compare import comparison
from pipelines.compare import stage as compare
from pipelines.publish import manifest, verify
from pipelines.publish import stage as publish
from pipelines.publish.__main__ import main as publish_main
from pipelines.rendering import style
from pipelines.report import stage as report
from pipelines.study import Study

README = "# Title\n\n<!-- table:mini -->\n<!-- /table:mini -->\n"
PUBLISHED = {"source": "them", "label": "Theirs", "dataset": "shapes", "model": "Tiny"}
PUBLISHED |= {"entry": "tiny_net", "value": 41.5, "recipe": {"iterations": 20}}
RUN = "runs/shapes/tiny_net/sar/seed1"
RUNS = [
    *("sar/seed0/evaluate/metrics.json", "sar/seed1/evaluate/scores.json"),
    "sar/seed2/evaluate/confusion.csv",
]
RUNS = [f"runs/shapes/tiny_net/{name}" for name in RUNS]
"""Files of runs whose numbers follow from each other."""
COMPARED = [f"compare/{stem}.csv" for stem in ("runs", "summary", "paired", "claims", "confusion")]
COMPARED.append("compare/curves.csv")
REPORTED = [
    *("table.csv", "per_class.csv", "claims.csv"),
    *("analyse/measures.csv", "analyse/summary.csv", "runtime/provenance.csv"),
    *(f"tables/{stem}.csv" for stem in ("comparison", "claims", "controls", "published")),
    "tables/per_class-shapes-tiny_net.csv",
]
SHOWN = [
    *("table.md", "table.tex", "tables/comparison.md", "tables/comparison.tex"),
    *("tables/comparison.parquet", "tables/per_class-shapes-tiny_net.md"),
]
"""Files that say what a CSV beside them says."""
KEPT = [
    *("report.md", "index.html", "receipt.json", "data/shapes/info.json"),
    *("figures/curves.svg", "gallery.npz", "runtime/provenance.tex"),
    *("compare/receipt.json", f"{RUN}/evaluate/receipt.json", f"{RUN}/train/receipt.json"),
    *(f"{RUN}/train/runtime.json", f"{RUN}/evaluate/analysis.npz", f"{RUN}/train/curves.csv"),
]
"""Files that hashes vouch for."""


@pytest.fixture(scope="module")
def project(fabricate_here, tmp_path_factory):
    """A project with a published study and nothing else, to be copied."""
    folder = tmp_path_factory.mktemp("project")
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(folder)
        save = style.save
        small = Figure(figsize=(0.1, 0.1))
        patch.setattr(style, "save", lambda figure, *where: save(small, *where))
        reference = {"sources": {}, "results": [PUBLISHED]}
        reference["sources"]["them"] = {"title": "Them", "url": "https://x.org", "codebase": "x"}
        claim = {"metric": "mIoU", "method": "sar", "direction": "higher", "margin": 1.0}
        claims = {"better": claim}
        study = fabricate_here(claims=claims)
        Path("README.md").write_text(README)
        Path("params/reference.yaml").write_text(json.dumps(reference))
        compare.compare(study)
        analyse.analyse(study)
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


def alter(path: Path) -> None:
    """Change the first decimal of the last number that has some, or the last digit, or a byte."""
    if path.suffix == ".parquet":
        frame = pd.read_parquet(path)
        frame.loc[0, "mIoU_mean"] += 0.1
        frame.to_parquet(path, index=False)
        return
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
            for name in receipt.get("digests", {}):
                receipt["digests"][name] = sha256_folder(path.parent / name)
            for name in receipt["inputs"]:
                parts = Path(name).parts
                place = home.joinpath(*parts[2:]) if parts[0] == "results" else None
                if place and place.is_file():
                    receipt["inputs"][name] = sha256_file(place)
            path.write_text(canonical_json(receipt), encoding="utf-8")
    manifest.write(home)


def errors(capsys) -> str:
    assert publish_main(["--check"]) == 2
    return capsys.readouterr().err


def test_what_was_published_passes_without_results(published, capsys):
    assert publish_main(["--check"]) == 0
    assert "README.md and reports/ (mini) follow from" in capsys.readouterr().out


def test_an_altered_digit_is_found_in_every_file_and_the_file_is_named(published, capsys):
    names = [*RUNS, *COMPARED, *REPORTED, *SHOWN, *KEPT]
    for name in names:
        alter(published / name)
    lines = errors(capsys).removeprefix("error: ").splitlines()
    for name in names:
        told = [line for line in lines if line.startswith(f"reports/mini/{name}: ")]
        assert told and all("expected" in line for line in told), name


@pytest.mark.parametrize(
    "names",
    [RUNS, COMPARED, REPORTED, SHOWN],
    ids=["runs", "compare", "report", "shown"],
)
def test_hashes_that_vouch_for_altered_digits_do_not_help(published, capsys, names):
    for name in names:
        alter(published / name)
    text = (published / "table.md").read_text(encoding="utf-8").strip()
    Path("README.md").write_text(README.replace("-->\n<", f"-->\n\n{text}\n\n<"), encoding="utf-8")
    forge(published)
    lines = errors(capsys).splitlines()
    assert not [line for line in lines if "sha256" in line]
    for name in names:
        assert [line for line in lines if f"reports/mini/{name}" in line], name


@pytest.mark.parametrize(("by", "status"), [(1e-9, 0), (1e-4, 2)])
def test_sums_may_round_otherwise_on_another_processor(published, by, status):
    for path in (published / "analyse").glob("*.csv"):
        text = path.read_text(encoding="utf-8")
        other = re.sub(r"\d+\.\d{6,}", lambda found: f"{float(found[0]) * (1 + by):.10g}", text)
        path.write_text(other, encoding="utf-8")
    forge(published)
    assert publish_main(["--check"]) == status


def test_an_altered_curve_of_a_run_is_found_by_the_mean_over_seeds(published, capsys):
    alter(published / RUN / "train/curves.csv")
    forge(published)
    assert "reports/mini/compare/curves.csv: line" in errors(capsys)


def test_forging_alone_changes_nothing(published):
    """So that the test above is about the digits."""
    forge(published)
    verify.verify()


def test_a_digit_of_the_readme(published, capsys):
    alter(Path("README.md"))
    error = errors(capsys)
    assert "README.md: the table of mini" in error and "expected '| shapes" in error


def test_a_file_that_is_gone(published, capsys):
    for name in ("table.csv", f"{RUN}/evaluate/metrics.json"):
        (published / name).unlink()
        assert f"reports/mini/{name}: not found" in errors(capsys)
    (published / "manifest.json").unlink()
    assert "reports/mini/manifest.json: not found" in errors(capsys)


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
    shutil.rmtree(published / "tables")
    path = published / "compare/paired.csv"
    frame = comparison.Comparison.of(study := Study.load_published("mini"), study.runs).paired
    path.write_text(frames.csv_text(frame.drop(columns=["low", "high", "p", "p_t"])))
    classes = frames.read_csv(published / "per_class.csv")
    explored = [name for name in classes if name.endswith("_q")]
    frames.write_csv(classes.drop(columns=explored), published / "per_class.csv")
    assert explored and list(verify._table_faults(study)) == []
    path.write_text(frames.csv_text(frame.drop(columns="p").assign(wins=0)))
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
        ("1 - CKA of the class means", True),
        ("9.99 (2 pairs)", False),
        ("8.80 (2 pairs)", True),
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
