import io

import numpy as np
import pandas as pd
import pytest
from PIL import Image

from pipelines import compare, figures, report, tables
from pipelines.errors import PipelineError
from pipelines.study import STUDY_STAGES

FIGURES = ("per_class", "gallery", "curves")


@pytest.fixture(scope="module")
def reported(fabricate_here, tmp_path_factory):
    """A whole report, to be read only."""
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(tmp_path_factory.mktemp("project"))
        study = fabricate_here()
        compare.compare(study)
        report.report(study)
        yield study


@pytest.fixture
def no_figures(monkeypatch):
    """Figures take most of a report's time; tests of its words do without them."""
    monkeypatch.setattr(figures, "save", lambda figure, folder, stem: None)


def text(study, name):
    return study.output("report", name).read_text(encoding="utf-8")


def test_every_declared_file_is_there_and_figures_show_something(reported):
    for name in (*STUDY_STAGES["report"], "receipt.json", "runtime.json"):
        assert reported.output("report", name).stat().st_size > 100, name
    for name in FIGURES:
        with Image.open(reported.output("report", f"{name}.png")) as picture:
            assert min(picture.size) > 300 and len(picture.convert("RGB").getcolors(10**6)) > 10


def test_a_second_time_gives_the_same_bytes_and_no_dates(reported):
    names = (*STUDY_STAGES["report"], "receipt.json")
    first = {name: reported.output("report", name).read_bytes() for name in names}
    report.report(reported)
    assert {name: reported.output("report", name).read_bytes() for name in names} == first
    for name in FIGURES:
        assert b"<dc:date>" not in first[f"{name}.svg"]
        assert b"Software" not in first[f"{name}.png"]


def test_the_table_holds_means_deviations_and_the_paired_difference(reported):
    runs = compare.Comparison.read(reported).runs
    miou = runs[runs["metric"] == "mIoU"].pivot(index="seed", columns="method", values="value")
    table = pd.read_csv(reported.output("report", "table.csv")).set_index("method")
    assert list(table.index) == ["baseline", "sar"]
    assert table.loc["sar", "mIoU_mean"] == pytest.approx(miou["sar"].mean(), rel=1e-8)
    assert table.loc["sar", "mIoU_std"] == pytest.approx(miou["sar"].std(ddof=1), rel=1e-8)
    difference = miou["sar"] - miou["baseline"]
    shown = f"{difference.mean():+.2f} ± {difference.std(ddof=1):.2f}"
    assert f"{shown} |" in text(reported, "table.md")
    low, high = table.loc["sar", ["difference_low", "difference_high"]]
    assert difference.min() - 1e-6 <= low < difference.mean() < high <= difference.max() + 1e-6
    within = f"[{low:+.2f}, {high:+.2f}]"
    assert f"{shown} | {within} |" in text(reported, "table.md")
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
    assert table["class"].tolist() == ["ground", "null", "9", "gone", "rare_one"]
    assert table["group"].tolist() == ["head", "head", "mid", "mid", "tail"]
    assert table.set_index("class").loc["gone"].filter(like="_mean").isna().all()
    assert table.set_index("class").loc["9"].filter(like="sar_").notna().all()


def test_the_page_says_what_it_is_and_what_is_absent(reported):
    page = text(reported, "report.md")
    assert "Fixed-budget comparison" in page and "makes no claim of reproduction" in page
    assert "no labelled pixel of gone:" in page
    assert "seeds: 0, 1, 2" in page and "iterations: 20" in page
    for name in FIGURES:
        assert f"({name}.png)" in page and f"({name}.svg)" in page


def test_controls_stand_apart(reported):
    page = text(reported, "report.md")
    comparison, controls = page.split("## Controls")
    assert "twice" not in comparison and "twice" not in text(reported, "table.md")
    assert "Baseline, twice the iterations minus Baseline: mIoU " in controls
    assert "over 2 paired seeds" in controls and "`{iterations: 40}`" in controls
    assert "longer" not in text(reported, "per_class.csv")


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
    report.report(study)
    assert f"> **{banner}:**" in text(study, "report.md")
    assert "## Controls" not in text(study, "report.md")


def test_several_models_are_several_panels(fabricate, tmp_path):
    (tmp_path / "params/models").mkdir(parents=True)
    (tmp_path / "params/models/other.yaml").write_text("title: Other\nconfig: other.py\n")
    study = fabricate(models=["tiny_net", "other"])
    compare.compare(study)
    report.report(study)
    assert len(pd.read_csv(study.output("report", "table.csv"))) == 4
    page = text(study, "report.md")
    assert "### shapes / tiny_net" in page and "### shapes / other" in page
    assert "SAR_1 minus Baseline (shapes, other): mIoU" in page


def test_a_missing_run_stops_the_report(fabricate, capsys):
    fabricate(skip=("shapes/tiny_net/sar/seed1",))
    assert report.main(["--study", "mini"]) == 2
    assert "shapes/tiny_net/sar/seed1" in capsys.readouterr().err


def test_a_partial_report_names_what_is_missing_and_pairs_what_it_can(fabricate, capsys):
    study = fabricate(skip=("shapes/tiny_net/sar/seed0", "shapes/tiny_net/baseline/seed2"))
    assert report.main(["--study", "mini", "--partial"]) == 0
    folder = report.partial_folder(study)
    page = (folder / "report.md").read_text(encoding="utf-8")
    head, rest = page.split("## Comparison")
    assert "2 of 8 runs are missing" in head and "- `shapes/tiny_net/sar/seed0`" in head
    assert "points over 1 seed; SAR_1 has" in rest and "(1 pair)" in rest
    assert "by the runs of seed 1." in rest
    assert not study.folder("report").exists() and not study.folder("compare").exists()
    assert "missing: shapes/tiny_net/baseline/seed2" in capsys.readouterr().err
    assert (folder / "gallery.png").is_file()


@pytest.mark.parametrize("method", ["baseline", "longer"])
def test_one_finished_run_is_enough_for_a_partial_report(fabricate, method):
    study = fabricate()
    rest = [run.name for run in study.runs if run.name != f"shapes/tiny_net/{method}/seed1"]
    for run in study.runs:
        if run.name in rest:
            run.output("evaluate", "receipt.json").unlink()
    report.report_partial(study)
    assert (report.partial_folder(study) / "curves.svg").is_file()


def test_a_study_may_keep_no_predictions(fabricate):
    study = fabricate(evaluation={"gallery": 0})
    compare.compare(study)
    report.report(study)
    assert study.output("report", "gallery.png").is_file()


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
        ((1.234, float("nan")), "1.23"),
        ((float("nan"), float("nan")), "–"),
        ((-0.5, 0.1, " ± ", True), "-0.50 ± 0.10"),
    ],
)
def test_cells(arguments, shown):
    assert tables.cell(*arguments) == shown


def test_markdown_cells_cannot_break_a_table():
    assert r"a\|b" in tables.markdown(pd.DataFrame({"method": ["a|b"]}))


INFO = {"classes": ["a", "b"], "palette": [[9, 9, 9], [200, 0, 0]], "ignore_index": 255}


def test_an_image_s_iou_counts_the_classes_of_its_truth_and_no_void():
    truth = np.array([[0, 0, 0, 255]])
    assert figures.image_iou(truth, np.array([[0, 0, 1, 1]]), INFO) == pytest.approx(200 / 3)
    assert np.isnan(figures.image_iou(truth * 0 + 255, truth * 0, INFO))


def test_void_is_painted_unlike_any_class_and_hides_predictions():
    truth = np.full((4, 4), 255)
    truth[0, 0] = 1
    shown = figures.painted(np.ones((4, 4), int), truth, INFO)
    assert shown[0, 0].tolist() == [200, 0, 0]
    assert {tuple(pixel) for pixel in shown[truth == 255]} == {(0, 0, 0), (255, 255, 255)}


def test_figures_leave_matplotlib_as_it_was():
    import matplotlib

    before = dict(matplotlib.rcParams)
    with figures.drawing():
        figures.Figure().savefig(io.BytesIO())
    assert dict(matplotlib.rcParams) == before
