"""Which images a report shows is a rule's choice."""

import numpy as np
import pytest
from ruamel.yaml import YAML

from pipelines.analyse import stage as analyse
from pipelines.base.errors import PipelineError
from pipelines.compare import stage as compare
from pipelines.evaluate.collector import KeptPredictions
from pipelines.report import contents, gallery
from pipelines.report import stage as report
from pipelines.study import Study
from tests.pipelines.receipts import vouch

NAN = float("nan")


@pytest.mark.parametrize(
    ("scores", "wanted", "chosen"),
    [
        ([10, 50, 30, 20, 40], 3, [(1, "best"), (2, "median"), (0, "worst")]),
        ([10, 50, 30, 20, 40], 4, [(1, "best"), (2, "median"), (3, "worst"), (0, "worst")]),
        ([10, 50, 30, 20, 40], 2, [(1, "best"), (0, "worst")]),
        ([10, 50, 30, 20, 40], 1, [(0, "worst")]),
        ([10, NAN, 30], 9, [(2, "best"), (0, "worst")]),
        ([10, 40, 30, 20], 4, [(1, "best"), (2, "median"), (3, "worst"), (0, "worst")]),
        ([7, 7, 7], 3, [(0, "best"), (1, "median"), (2, "worst")]),
        ([NAN, NAN], 3, []),
        ([10, 20], 0, []),
    ],
)
def test_the_best_the_median_and_the_worst_are_chosen(scores, wanted, chosen):
    assert gallery.choose(np.array(scores, float), wanted) == chosen


def test_no_image_is_chosen_twice_and_they_go_from_best_to_worst():
    rng = np.random.default_rng(0)
    for images in range(1, 12):
        scores = rng.random(images)
        for wanted in range(images + 3):
            indices = [index for index, _ in gallery.choose(scores, wanted)]
            assert len(indices) == len(set(indices)) == min(wanted, images)
            assert scores[indices].tolist() == sorted(scores[indices], reverse=True)


def collected(study, earlier="none"):
    shown = contents.shown_runs(study, study.runs)
    return gallery.collect(shown, study.file.evaluation.gallery, [study.results / earlier])


def test_scenes_hold_what_every_compared_method_predicted(fabricate):
    (shown,) = collected(study := fabricate()).values()
    assert (shown.seed, shown.ranked, shown.images) == (0, 2, 2)
    assert set(shown.sources) == {f"shapes/tiny_net/{name}/seed0" for name in ("baseline", "sar")}
    means = [np.mean(list(scene.scores.values())) for scene in shown.scenes]
    assert [scene.part for scene in shown.scenes] == ["best", "worst"] and means[0] > means[1]
    run = study.run("shapes/tiny_net/sar/seed0")
    with np.load(run.output("evaluate", "predictions.npz")) as kept:
        for scene in shown.scenes:
            np.testing.assert_array_equal(scene.predictions["sar"], kept[scene.stem])


def test_with_few_predictions_it_chooses_among_them_and_says_so(fabricate, no_figures):
    """As evaluate kept them once."""
    study = fabricate()
    for run in contents.shown_runs(study, study.runs)["shapes", "tiny_net"]:
        path = run.output("evaluate", "predictions.npz")
        with np.load(path) as kept:
            np.savez_compressed(path, **{"00001": kept["00001"]})
        vouch(path)
    (shown,) = collected(study).values()
    assert [(scene.stem, scene.part) for scene in shown.scenes] == [("00001", "worst")]
    compare.compare(study)
    analyse.analyse(study)
    report.report(study)
    page = study.output("report", "report.md").read_text(encoding="utf-8")
    assert "1 of those 1 whose predictions were kept, of 2 images of the test split" in page


def same(first, second):
    assert first.keys() == second.keys()
    for one, two in zip(first.values(), second.values(), strict=True):
        assert (one.seed, one.ranked, one.images, one.sources) == (
            *(two.seed, two.ranked, two.images, two.sources),
        )
        for scene, other in zip(one.scenes, two.scenes, strict=True):
            assert (scene.stem, scene.part, scene.scores) == (
                *(other.stem, other.part, other.scores),
            )
            np.testing.assert_array_equal(scene.image, other.image)
            np.testing.assert_array_equal(scene.truth, other.truth)
            assert scene.predictions.keys() == other.predictions.keys()
            for method, prediction in scene.predictions.items():
                np.testing.assert_array_equal(prediction, other.predictions[method])


def test_reading_back_loses_nothing_and_writing_again_changes_nothing(fabricate, tmp_path):
    found = collected(fabricate())
    gallery.write(found, tmp_path / "a.npz")
    again = gallery.read(tmp_path / "a.npz")
    same(again, found)
    gallery.write(again, tmp_path / "b.npz")
    assert (tmp_path / "a.npz").read_bytes() == (tmp_path / "b.npz").read_bytes()


def test_a_report_can_be_drawn_again_without_predictions_and_images(fabricate, no_figures):
    study = fabricate()
    compare.compare(study)
    analyse.analyse(study)
    report.report(study)
    before = study.output("report", "report.md").read_bytes()
    for run in study.runs:
        run.output("evaluate", "predictions.npz").unlink()
    for path in (study.datasets["shapes"].prepared / "images/test").iterdir():
        path.unlink()
    report.report(study)
    assert study.output("report", "report.md").read_bytes() == before


def test_nothing_shows_images_that_the_card_withholds(fabricate, no_figures):
    """Not even what an earlier gallery had of them."""
    study = fabricate()
    before = collected(study)
    gallery.write(before, study.results / "earlier.npz")
    data = study.datasets["shapes"]
    path = data.card_file
    card = YAML(typ="safe").load(path)
    with path.open("w") as file:
        YAML(typ="safe").dump(card | {"withheld_images": "they are secret"}, file)
    kept, prepared = study.parameters_hash("report"), data.parameters_hash("prepare")
    study = Study.load(study.name)
    assert study.parameters_hash("report") != kept
    assert study.datasets["shapes"].parameters_hash("prepare") == prepared

    def check(found):
        for shown, old in zip(found.values(), before.values(), strict=True):
            assert len(shown.scenes) == len(old.scenes) > 0
            for scene, of_old in zip(shown.scenes, old.scenes, strict=True):
                assert np.ptp(of_old.image) > 0 and np.ptp(scene.image) == 0
                assert scene.image.shape == of_old.image.shape
                np.testing.assert_array_equal(scene.truth, of_old.truth)
                for method, prediction in scene.predictions.items():
                    np.testing.assert_array_equal(prediction, of_old.predictions[method])

    check(collected(study))
    for run in study.runs:
        run.output("evaluate", "predictions.npz").unlink()
    check(collected(study, "earlier.npz"))


def test_a_gallery_of_other_runs_is_not_shown(fabricate, no_figures):
    study = fabricate()
    gallery.write(collected(study), study.results / "earlier.npz")
    run = study.run("shapes/tiny_net/sar/seed0")
    for each in study.runs:
        each.output("evaluate", "predictions.npz").unlink()
    (shown,) = collected(study, "earlier.npz").values()
    assert shown.scenes
    other = study.run("shapes/tiny_net/sar/seed1")
    run.output("evaluate", "analysis.npz").write_bytes(
        other.output("evaluate", "analysis.npz").read_bytes()
    )
    vouch(run.output("evaluate", "analysis.npz"))
    (shown,) = collected(study, "earlier.npz").values()
    assert not shown.scenes
    compare.compare(study)
    analyse.analyse(study)
    report.report(study)
    page = study.output("report", "report.md").read_text(encoding="utf-8")
    assert "no predictions are kept here. Evaluating the runs of seed 0 again gives them." in page


def test_a_broken_gallery_is_an_error_that_names_it(tmp_path):
    (tmp_path / "gallery.npz").write_bytes(b"PK nothing")
    with pytest.raises(
        PipelineError, match=r"gallery\.npz: not valid npz .* make the report again"
    ):
        gallery.read(tmp_path / "gallery.npz")


def test_large_images_get_smaller_and_class_ids_stay_ids():
    ids = np.kron(np.array([[3, 200]], np.uint8), np.ones((720, 480), np.uint8))
    small = gallery.smaller(ids)
    assert small.shape == (240, 320) and set(np.unique(small)) == {3, 200}
    image = np.zeros((10, 20, 3), np.uint8)
    assert gallery.smaller(image) is image


def test_predictions_are_kept_whole_or_not_at_all(tmp_path):
    prediction = np.arange(12, dtype=np.uint8).reshape(3, 4)
    for keep, names in ((True, ["a", "b"]), (False, [])):
        for path in (tmp_path / "first.npz", tmp_path / "second.npz"):
            kept = KeptPredictions(keep)
            kept.add("a", prediction)
            kept.add("b", prediction + 1)
            kept.write(path)
        assert (tmp_path / "first.npz").read_bytes() == (tmp_path / "second.npz").read_bytes()
        with np.load(tmp_path / "first.npz") as read:
            assert read.files == names
            assert all(read[name].dtype == np.uint8 for name in names)
