import io
import re
import shutil
import subprocess

import numpy as np
import pandas as pd
import pytest
from PIL import Image
from scipy import stats

from pipelines.analyse import stage as analyse
from pipelines.base.artifacts import read_json
from pipelines.base.errors import PipelineError
from pipelines.compare import stage as compare
from pipelines.compare.comparison import Comparison
from pipelines.rendering import numbers, style, tables
from pipelines.rendering.parts import Section, Table
from pipelines.report import contents
from pipelines.report import stage as report
from pipelines.report.__main__ import main as report_main
from pipelines.report.sections import comparison
from pipelines.report.sections.classes import confusion_figure
from pipelines.study import STUDY_STAGES

FIGURES = ("per_class", "confusion", "gallery", "features", "curves")
TABLES = ("comparison", "controls", "per_class-shapes-tiny_net")
TEX = shutil.which("pdflatex") or shutil.which("tectonic")
CLAIM = {"metric": "mIoU", "method": "sar", "direction": "higher"}


@pytest.fixture(scope="module")
def reported(fabricate_here, tmp_path_factory):
    """A whole report, to be read only."""
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(tmp_path_factory.mktemp("project"))
        study = fabricate_here()
        compare.compare(study)
        analyse.analyse(study)
        report.report(study)
        yield study


def text(study, name):
    return study.output("report", name).read_text(encoding="utf-8")


def written(study):
    """The bytes of every file of the report that a receipt speaks of, and of the page."""
    folder = study.folder("report")
    files = [path for path in folder.rglob("*") if path.is_file() and path.name != "runtime.json"]
    return {path.relative_to(folder).as_posix(): path.read_bytes() for path in files}


def test_every_declared_file_is_there_and_figures_show_something(reported):
    for name in (*STUDY_STAGES["report"], "receipt.json", "runtime.json"):
        path = reported.folder("report") / name
        assert path.is_dir() if name.endswith("/") else path.stat().st_size > 100, name
    for name in FIGURES:
        with Image.open(reported.output("report", f"figures/{name}.png")) as picture:
            assert min(picture.size) > 300 and len(picture.convert("RGB").getcolors(10**6)) > 10


def test_a_second_time_gives_the_same_bytes_and_no_dates(reported):
    first = written(reported)
    report.report(reported)
    assert written(reported) == first
    for name in FIGURES:
        assert b"<dc:date>" not in first[f"figures/{name}.svg"]
        assert b"Software" not in first[f"figures/{name}.png"]


def test_the_receipt_speaks_of_all_but_the_page(reported):
    receipt = read_json(reported.output("report", "receipt.json"))
    assert set(receipt["digests"]) == {"tables", "figures"}
    assert {"report.md", "gallery.npz", "table.md"} <= set(receipt["outputs"])
    assert "index.html" not in receipt["outputs"]


@pytest.mark.parametrize("name", TABLES)
def test_a_table_says_the_same_in_every_format(reported, name):
    folder = reported.folder("report") / "tables"
    as_csv = pd.read_csv(folder / f"{name}.csv", keep_default_na=False, na_values=[""])
    as_parquet = pd.read_parquet(folder / f"{name}.parquet")
    assert list(as_parquet.columns) == list(as_csv.columns)
    numbers = as_parquet.select_dtypes("number").columns
    np.testing.assert_allclose(as_parquet[numbers], as_csv[numbers], rtol=1e-9)
    rows = [line for line in (folder / f"{name}.md").read_text().splitlines() if line[:1] == "|"]
    latex = (folder / f"{name}.tex").read_text().split(r"\midrule")[1].split(r"\bottomrule")[0]
    assert len(rows) - 2 == latex.count(r" \\") == len(as_csv)


def test_the_tables_beside_the_page_are_those_of_the_page(reported):
    for suffix in ("md", "csv", "tex"):
        assert text(reported, f"table.{suffix}") == text(reported, f"tables/comparison.{suffix}")
    assert text(reported, "table.md").splitlines()[0] in text(reported, "report.md")


@pytest.mark.skipif(TEX is None, reason="no TeX here (Debian: apt install texlive-latex-extra)")
def test_latex_compiles_the_tables(reported, tmp_path):
    tables_of = [text(reported, f"tables/{name}.tex") for name in TABLES]
    document = r"\documentclass{article}\usepackage{booktabs}\begin{document}"
    (tmp_path / "all.tex").write_text(document + "\n\n".join(tables_of) + r"\end{document}")
    done = subprocess.run([TEX, "all.tex"], cwd=tmp_path, capture_output=True, text=True, input="")
    assert done.returncode == 0, done.stdout[-2000:]


def test_the_table_holds_means_deviations_and_the_paired_difference(reported):
    runs = Comparison.read(reported).runs
    miou = runs[runs["metric"] == "mIoU"].pivot(index="seed", columns="method", values="value")
    table = pd.read_csv(reported.output("report", "table.csv")).set_index("method")
    assert list(table.index) == ["baseline", "sar"]
    assert table.loc["sar", "mIoU_mean"] == pytest.approx(miou["sar"].mean(), rel=1e-8)
    assert table.loc["sar", "mIoU_std"] == pytest.approx(miou["sar"].std(ddof=1), rel=1e-8)
    difference = miou["sar"] - miou["baseline"]
    assert 1 <= difference.std(ddof=1) < 10, "so that one decimal is due"
    shown = f"{difference.mean():+.1f} ± {difference.std(ddof=1):.1f}"
    assert f"{shown} |" in text(reported, "table.md")
    low, high = table.loc["sar", ["difference_low", "difference_high"]]
    half = stats.t.ppf(0.975, len(difference) - 1) * difference.sem()
    ends = (difference.mean() - half, difference.mean() + half)
    # The lower end is small beside the scores, which runs.csv holds to ten digits.
    assert (low, high) == pytest.approx(ends, abs=1e-7)
    correlation = np.corrcoef(miou["sar"], miou["baseline"])[0, 1]
    assert table.loc["sar", "correlation"] == pytest.approx(correlation, rel=1e-8)
    assert f"correlate by r = {correlation:+.2f}." in text(reported, "report.md")
    within = numbers.interval(low, high)
    row = next(line for line in text(reported, "table.md").splitlines() if "| SAR_1 " in line)
    assert [cell.strip() for cell in row.split("|")][-3:] == [shown, within, ""]
    words = f"mIoU {shown} points over 3 paired seeds, 95 % interval {within}; "
    assert words in text(reported, "report.md")
    assert "**" not in text(reported, "table.md")


def test_the_latex_table_is_escaped_booktabs(reported):
    latex = text(reported, "table.tex")
    assert r"\toprule" in latex and r"\bottomrule" in latex
    assert r"tiny\_net & SAR\_1 & $" in latex and r" \pm " in latex
    assert r"95 \% interval" in latex and "$[+" in latex


def test_per_class_rows_go_from_frequent_to_rare(reported):
    table = pd.read_csv(
        reported.output("report", "per_class.csv"), keep_default_na=False, na_values=[""]
    )
    assert table["class"].tolist() == ["ground", "null", "9", "gone", "truth"]
    assert table["group"].tolist() == ["head", "head", "mid", "mid", "tail"]
    assert table.set_index("class").loc["gone"].filter(like="_mean").isna().all()
    assert table.set_index("class").loc["9"].filter(like="sar_").notna().all()


def test_the_page_says_what_it_is_and_what_is_absent(reported):
    page = text(reported, "report.md")
    assert "Fixed-budget comparison" in page and "makes no claim of reproduction" in page
    assert "no labelled pixel of gone:" in page
    assert "seeds: 0, 1, 2" in page and "iterations: 20" in page
    folder = reported.folder("report")
    links = set(re.findall(r"\]\(([^)]+)\)", page))
    assert {f"figures/{name}.{kind}" for name in FIGURES for kind in ("png", "svg")} <= links
    assert {f"tables/{name}.parquet" for name in TABLES} | {"index.html"} <= links
    assert [link for link in links if not (folder / link).is_file()] == []


def test_controls_stand_apart(reported):
    page = text(reported, "report.md")
    comparison, controls = page.split("## Controls")
    assert "twice" not in comparison and "twice" not in text(reported, "table.md")
    assert "Baseline, twice the iterations minus Baseline: mIoU " in controls
    assert "over 2 paired seeds" in controls and "`{iterations: 40}`" in controls
    assert "longer" not in text(reported, "per_class.csv")


def test_a_control_with_the_method_is_compared_with_the_one_that_trains_alike(
    fabricate, no_figures
):
    longer = {"seeds": [0, 1], "control": True, "training": {"iterations": 40}}
    study = fabricate(
        methods={
            "baseline": {"label": "Baseline"},
            "long": longer | {"label": "Long baseline"},
            "long_sar": longer | {"label": "Long SAR", "plugin": "sar.mmseg:apply_sar"},
            "short": longer | {"label": "Short", "training": {"iterations": 10}},
        },
    )
    compare.compare(study)
    analyse.analyse(study)
    report.report(study)
    runs = Comparison.read(study).runs
    found = runs[runs["metric"] == "mIoU"].pivot(index="method", columns="seed", values="value")
    difference = (found.loc["long_sar"] - found.loc["long"])[[0, 1]].mean()
    told = text(study, "report.md").split("trains alike, without a method:")
    assert len(told) == 2
    sentence = told[1].split("- ")[1]
    assert sentence.startswith("Long SAR minus Long baseline: mIoU ") and "2 paired" in sentence
    assert float(sentence.split("mIoU ")[1].split(" ±")[0]) == pytest.approx(difference, abs=0.06)


@pytest.mark.parametrize(
    ("kind", "split", "banner"),
    [("plateau", "test", "Trained to the plateau"), ("tuning", "val", "Tuning on val")],
)
def test_the_banner_follows_the_kind(fabricate, no_figures, kind, split, banner):
    study = fabricate(
        kind=kind,
        seeds=[3],
        methods={"baseline": {"label": "Only"}},
        evaluation={"split": split},
    )
    compare.compare(study)
    analyse.analyse(study)
    report.report(study)
    assert f"> **{banner}:**" in text(study, "report.md")
    assert "## Controls" not in text(study, "report.md")


def test_several_models_are_several_panels(fabricate, tmp_path):
    (tmp_path / "params/models").mkdir(parents=True)
    (tmp_path / "params/models/other.yaml").write_text("title: Other\nconfig: other.py\n")
    study = fabricate(models=["tiny_net", "other"])
    compare.compare(study)
    analyse.analyse(study)
    report.report(study)
    assert len(pd.read_csv(study.output("report", "table.csv"))) == 4
    page = text(study, "report.md")
    assert "**shapes / tiny_net.**" in page and "**shapes / other.**" in page
    assert study.output("report", "tables/per_class-shapes-other.csv").is_file()
    assert "SAR_1 minus Baseline (shapes, other): mIoU" in page


def test_a_missing_run_stops_the_report(fabricate, capsys):
    fabricate(skip=("shapes/tiny_net/sar/seed1",))
    assert report_main(["--study", "mini"]) == 2
    assert "shapes/tiny_net/sar/seed1" in capsys.readouterr().err


def test_a_partial_report_names_what_is_missing_and_pairs_what_it_can(fabricate, capsys):
    study = fabricate(skip=("shapes/tiny_net/sar/seed0", "shapes/tiny_net/baseline/seed2"))
    assert report_main(["--study", "mini", "--partial"]) == 0
    folder = report.partial_folder(study)
    page = (folder / "report.md").read_text(encoding="utf-8")
    head, rest = page.split("## Comparison")
    assert "Incomplete: 6 of 8 runs." in head and "- `shapes/tiny_net/sar/seed0`" in head
    assert "points over 1 seed; SAR_1 has" in rest and "(1 pair)" in rest
    # Only the first seed's runs keep predictions, whatever else is missing of them.
    assert "shapes / tiny_net: seed 0, 2 of all 2 images of the test split" in rest
    assert not study.folder("report").exists() and not study.folder("compare").exists()
    assert "missing: shapes/tiny_net/baseline/seed2" in capsys.readouterr().err
    assert (folder / "figures/gallery.png").is_file()


@pytest.mark.parametrize("method", ["baseline", "longer"])
def test_one_finished_run_is_enough_for_a_partial_report(fabricate, method):
    study = fabricate()
    rest = [run.name for run in study.runs if run.name != f"shapes/tiny_net/{method}/seed1"]
    for run in study.runs:
        if run.name in rest:
            run.output("evaluate", "receipt.json").unlink()
    report.report_partial(study)
    assert (report.partial_folder(study) / "figures/curves.svg").is_file()


def test_a_study_may_keep_no_predictions(fabricate):
    study = fabricate(evaluation={"gallery": 0})
    compare.compare(study)
    analyse.analyse(study)
    report.report(study)
    assert "The study shows no images." in text(study, "report.md")


def test_no_finished_run_is_an_error(fabricate):
    study = fabricate()
    for run in study.runs:
        run.output("evaluate", "receipt.json").unlink()
    with pytest.raises(PipelineError, match="none of its 8 runs"):
        report.report_partial(study)
    assert not report.partial_folder(study).exists()


@pytest.mark.parametrize(
    ("arguments", "shown"),
    [
        ((1.234, 0.5), "1.23 ± 0.50"),
        ((31.234, 2.345), "31.2 ± 2.3"),
        ((31.234, 12.345), "31 ± 12"),
        ((0.0, 0.0), "0.00 ± 0.00"),
        ((1.234, 0.0012), "1.23 ± 0.00"),
        ((1.234, float("nan")), "1.23"),
        ((float("nan"), float("nan")), "–"),
        ((-0.5, 0.1, True), "-0.50 ± 0.10"),
        ((31.234, 12.345, True, 2), "+31.23 ± 12.35"),
    ],
)
def test_cells(arguments, shown):
    assert numbers.cell(*arguments) == shown


def test_an_interval_is_rounded_by_its_own_width():
    assert numbers.interval(-0.123, 0.456) == "[-0.12, +0.46]"
    assert numbers.interval(7.634, 10.421) == "[+7.6, +10.4]"
    assert numbers.interval(float("nan"), float("nan")) == "–"


@pytest.mark.parametrize(
    ("claim", "bold"),
    [
        ({"margin": 1.0}, {"sar"}),
        ({"margin": 90.0}, set()),  # not reproduced: the higher score stays plain
        ({"margin": 0.0, "direction": "lower"}, set()),
        ({"margin": 1.0, "metric": "mAcc"}, set()),  # of another score
    ],
)
def test_the_winner_is_bold_only_where_the_claim_holds(fabricate, claim, bold):
    study = fabricate(seeds=list(range(6)), claims={"a": CLAIM | claim})
    found = Comparison.of(study, study.runs)
    methods = {"baseline": "Baseline", "sar": "SAR"}
    table = comparison.comparison_table(found.summary, found.paired, methods)
    assert table["mIoU_mean"].is_monotonic_increasing, "the higher score is there to be chosen"
    strong = comparison.winners(table, found.claims)
    assert {table["method"][row] for row, heading in strong if heading == "mIoU"} == bold


def test_a_class_is_bold_in_its_own_table(fabricate, no_figures):
    claims = {"nine": CLAIM | {"metric": "IoU/9", "margin": 1.0}}
    study = fabricate(seeds=list(range(6)), claims=claims)
    compare.compare(study)
    analyse.analyse(study)
    report.report(study)
    rows = text(study, "tables/per_class-shapes-tiny_net.md").splitlines()
    assert [row.split("|")[1].strip() for row in rows if "**" in row and row[0] == "|"] == ["9"]
    assert "**" not in text(study, "table.md")
    latex = text(study, "tables/per_class-shapes-tiny_net.tex")
    assert latex.count(r"\boldmath") == 1


def test_what_no_replay_repeats_stands_in_the_page_alone(fabricate, no_figures, monkeypatch):
    """Its files lie apart, and no receipt speaks of them."""
    study = fabricate()
    compare.compare(study)
    analyse.analyse(study)
    seconds = iter((1.0, 2.0))
    joined = contents.sections

    def with_times(material):
        data = pd.DataFrame({"run": ["a"], "seconds": [next(seconds)]})
        places = ("runs-shapes-tiny_net-sar",)
        table = Table("times", data, data.astype(str), "Times.", ids=places)
        told = [section for section in joined(material) if section.reproducible]
        return [*told, Section("Cost", [table], reproducible=False)]

    monkeypatch.setattr(contents, "sections", with_times)
    report.report(study)
    receipt, page = text(study, "receipt.json"), text(study, "index.html")
    assert "Times." in page and 'id="runs-shapes-tiny_net-sar"' in page
    # Cells lead to the place, now that there is one; and only those that have one.
    assert '<a href="#runs-shapes-tiny_net-sar">' in page
    assert "#runs-shapes-tiny_net-baseline" not in page
    assert "Times." not in text(study, "report.md")
    assert "and has more: Cost." in text(study, "report.md")
    assert study.output("report", "runtime/times.parquet").is_file()
    report.report(study)
    assert text(study, "receipt.json") == receipt and text(study, "index.html") != page


def test_two_tables_of_one_name_are_an_error(fabricate, no_figures, monkeypatch):
    study = fabricate()
    compare.compare(study)
    analyse.analyse(study)
    joined = contents.sections
    monkeypatch.setattr(contents, "sections", lambda material: joined(material)[:1] * 2)
    with pytest.raises(ValueError, match="two tables .* named 'comparison'"):
        report.report(study)
    assert not study.folder("report").exists()


def test_latex_is_escaped_where_it_is_text_and_maths_where_it_is_a_number():
    shown = pd.DataFrame(
        {"class": ["a_b & {c}", "–"], "IoU": ["-1.2 ± 0.3 (2 pairs)", "–"], "p": ["< 0.0001"] * 2}
    )
    latex = tables.latex(shown)
    assert r"a\_b \& \{c\} & $-1.2 \pm 0.3$ (2 pairs) & $< 0.0001$ \\" in latex
    assert r"-- & -- & $< 0.0001$ \\" in latex and r"\begin{tabular}{lrr}" in latex


def test_markdown_cells_cannot_break_a_table():
    assert r"a\|b" in tables.markdown(pd.DataFrame({"method": ["a|b"]}))


INFO = {"classes": ["a", "b"], "palette": [[9, 9, 9], [200, 0, 0]], "ignore_index": 255}


def test_many_methods_are_three_abreast():
    classes = ["a", "b"]
    rows = [
        ("d", "m", method, truth, prediction, 50.0 + number * (truth == prediction))
        for number, method in enumerate(("base", "w", "x", "y", "z"))
        for truth in classes
        for prediction in classes
    ]
    columns = ["dataset", "model", "method", "truth", "prediction", "mean"]
    others = {name: name.upper() for name in "wxyz"}
    with style.drawing():
        figure = confusion_figure(
            pd.DataFrame(rows, columns=columns), {"d": classes}, "base", others
        )
    panes = [axes for axes in figure.axes if axes.get_title(loc="left")]
    assert [axes.get_title(loc="left")[0] for axes in panes] == list("WXYZ")
    assert panes[0].get_subplotspec().get_geometry()[:2] == (2, 3)
    np.testing.assert_allclose(panes[3].images[0].get_array(), [[4, 0], [0, 4]])


def test_void_is_painted_unlike_any_class_and_hides_predictions():
    truth = np.full((4, 4), 255)
    truth[0, 0] = 1
    shown = style.painted(np.ones((4, 4), int), truth, INFO)
    assert shown[0, 0].tolist() == [200, 0, 0]
    assert {tuple(pixel) for pixel in shown[truth == 255]} == {(0, 0, 0), (255, 255, 255)}


def test_figures_leave_matplotlib_as_it_was():
    import matplotlib

    before = dict(matplotlib.rcParams)
    with style.drawing():
        style.Figure().savefig(io.BytesIO())
    assert dict(matplotlib.rcParams) == before
