"""What does not fit receipts, parameters or the bytes on the disk is refused, with its remedy."""

import json
import re
import shutil
from pathlib import Path

import pytest

from pipelines.analyse import stage as analyse
from pipelines.base.artifacts import canonical_json, read_json
from pipelines.base.errors import PipelineError
from pipelines.compare import stage as compare
from pipelines.report import stage as report
from pipelines.running import custody
from pipelines.running.custody import Made
from pipelines.running.finished import fault, finished, to_make
from pipelines.study import Study
from tests.pipelines.receipts import vouch

pytestmark = pytest.mark.usefixtures("no_figures")

BASELINE, SAR = "shapes/tiny_net/baseline/seed0", "shapes/tiny_net/sar/seed0"


@pytest.fixture
def study(fabricate):
    return fabricate()


def change(path: Path, **values) -> None:
    path.write_text(canonical_json(read_json(path) | values))


def refused(stage, study, *words: str) -> str:
    """What `stage` says when it refuses `study`, which has all `words` and leaves no output."""
    with pytest.raises(PipelineError) as error:
        stage(study)
    message = str(error.value)
    assert all(word in message for word in words), message
    return message


def test_results_as_they_were_made_are_finished(study):
    assert [fault(run) for run in study.runs] == [None] * 8


@pytest.mark.parametrize(
    ("stage", "name"),
    [
        *(("evaluate", name) for name in ("metrics.json", "scores.json", "confusion.csv")),
        *(("evaluate", name) for name in ("analysis.npz", "predictions.npz")),
        ("train", "curves.csv"),
    ],
)
def test_a_changed_output_of_a_run_is_refused_by_all_that_would_read_it(study, stage, name):
    path = study.run(SAR).output(stage, name)
    path.write_bytes(path.read_bytes()[:-3] + b"9.9")
    words = (
        f"{path}: was changed or damaged: sha256 ",
        f"as {path.parent}/receipt.json says; run python -m pipelines.{stage} --study mini",
        f"--run {SAR}",
    )
    for work in (compare.compare, analyse.analyse, report.report):
        refused(work, study, *words)
    report.report_partial(study)
    page = (report.partial_folder(study) / "report.md").read_text(encoding="utf-8")
    assert SAR in page and "shapes/tiny_net/sar/seed1" not in page


def test_a_changed_number_is_refused(study):
    path = study.run(SAR).output("evaluate", "metrics.json")
    change(path, mIoU=99.9)
    assert "99.9" in path.read_text()
    refused(compare.compare, study, f"{path}: was changed or damaged")
    assert not study.folder("compare").exists()


def test_a_changed_table_of_compare_or_analyse_is_not_reported(study):
    compare.compare(study)
    analyse.analyse(study)
    for stage, name in (("compare", "claims.csv"), ("analyse", "measures.csv")):
        path = study.output(stage, name)
        whole = path.read_bytes()
        path.write_bytes(whole + b"x")
        again = f"run python -m pipelines.{stage} --study mini"
        refused(report.report, study, f"{path}: was changed or damaged", again)
        path.unlink()
        refused(report.report, study, f"{path}: not found; {again}")
        path.write_bytes(whole)
    report.report(study)
    table = study.output("report", "table.md")
    table.write_text(table.read_text(encoding="utf-8").replace("SAR", "XYZ"), encoding="utf-8")
    refused(report.show, study, f"{table}: was changed or damaged")


def test_a_comparison_of_other_runs_is_not_reported(study):
    compare.compare(study)
    analyse.analyse(study)
    path = study.run(SAR).output("evaluate", "metrics.json")
    change(path, num_images=3)
    vouch(path)
    refused(
        report.report,
        study,
        f"compare/receipt.json: was made from another {path}: sha256 ",
        "run python -m pipelines.compare --study mini",
    )


@pytest.mark.parametrize("other", ["shapes/tiny_net/sar/seed1", BASELINE])
@pytest.mark.parametrize("stage", ["train", "evaluate"])
def test_the_folder_of_another_run_is_refused(study, stage, other):
    here, there = (study.run(name).folder(stage) for name in (SAR, other))
    shutil.rmtree(here)
    shutil.copytree(there, here)
    refused(
        compare.compare,
        study,
        f"{here}/receipt.json: is of {stage} of {other}, expected {stage} of {SAR}; run python",
    )


def test_the_file_of_another_run_is_refused(study):
    here, there = (study.run(name).output("evaluate", "metrics.json") for name in (SAR, BASELINE))
    shutil.copy2(there, here)
    refused(compare.compare, study, f"{here}: was changed or damaged")


def test_results_of_another_study_are_refused_where_they_come_from_its_training(study, fabricate):
    other = fabricate("other")
    here, there = (each.run(SAR).folder("evaluate") for each in (study, other))
    shutil.rmtree(here)
    shutil.copytree(there, here)
    message = refused(compare.compare, study, f"{here}/receipt.json: ", "expected data/prepared/")
    assert "results/mini/runs/shapes/tiny_net/sar/seed0/train/receipt.json is not among" in message


@pytest.mark.parametrize("key", ["lr", "precision", "threads", "split"])
def test_what_was_made_with_other_parameters_is_refused_by_the_name_of_what_changed(study, key):
    was, where = {
        "lr": ("training.optimizer.lr was 0.1, is 0.2", ("studies/mini", "training.optimizer.lr")),
        "precision": ("model.precision was the default, is bf16", ("models/tiny_net", "precision")),
        "threads": ("threads was 1, is 2", ("studies/mini", "threads")),
        "split": ("evaluation.split was the default, is val", ("studies/mini", "evaluation")),
    }[key]
    run = study.run(SAR)
    for stage in ("train", "evaluate"):
        parameters = run.parameters(stage, defaults=False)
        run.output(stage, "runtime.json").write_text(canonical_json({"parameters": parameters}))
    file, dotted = Path(f"params/{where[0]}.yaml"), where[1].split(".")
    content = place = json.loads(file.read_text())
    for part in dotted[:-1]:
        place = place[part]
    values = {"lr": 0.2, "precision": "bf16", "threads": 2, "split": {"split": "val"}}
    place[dotted[-1]] = values[key]
    file.write_text(json.dumps(content))
    changed = Study.load("mini")
    assert not any(finished(run) for run in changed.runs)
    message = refused(compare.compare, changed, "8 of 8 runs are missing, or are not those")
    stage = "evaluate" if key == "split" else "train"
    command = f"run python -m pipelines.{stage} --study mini --run {SAR}"
    assert re.search(rf"asks for now \({re.escape(was)}.*\); {command}", message), message
    # Made before runtime.json spoke of them: the hashes are what is known.
    other = (
        r"baseline/seed0/\w+/receipt.json: was made with other .* \(hash \w{64}, expected \w{64}\)"
    )
    assert re.search(other, message)


def test_a_changed_list_of_classes_is_refused_with_the_way_to_prepare_again(study):
    card = Path("params/datasets/shapes.yaml")
    card.write_text(card.read_text().replace('"ground"', '"floor"'))
    changed = Study.load("mini")
    again = "run python -m pipelines.prepare --dataset shapes"
    for work in (compare.compare, analyse.analyse):
        refused(work, changed, "made with other parameters than params/datasets/shapes.yaml", again)


def other_data(study, runs) -> None:
    """Let `runs` be trained and evaluated on data of another receipt."""
    for run in runs:
        for stage in ("train", "evaluate"):
            receipt = run.output(stage, "receipt.json")
            inputs = read_json(receipt)["inputs"] | {run.dataset.receipt.as_posix(): "d" * 64}
            change(receipt, inputs=inputs)
        trained = run.output("train", "receipt.json")
        receipt = run.output("evaluate", "receipt.json")
        inputs = read_json(receipt)["inputs"]
        inputs[trained.as_posix()] = custody.digests.digest_of_file(trained)
        change(receipt, inputs=inputs)


@pytest.mark.parametrize("there", [True, False])
def test_runs_of_different_data_are_never_compared_whether_or_not_the_data_is_there(study, there):
    other_data(study, [run for run in study.runs if run.method == "baseline"])
    data = study.datasets["shapes"].receipt
    digest = custody.digests.digest_of_file(data)
    if not there:
        shutil.rmtree("data")
    words = (
        "runs were trained on different data, so that they cannot be compared",
        f"{BASELINE} and 2 more on {data} with sha256 {'d' * 64}",
        f"{SAR} and 4 more on {data} with sha256 {digest}",
    )
    refused(compare.compare, study, *words)
    refused(analyse.analyse, study, *words)
    if not there:
        refused(report.report_partial, study, *words)


def test_a_run_evaluated_on_other_data_than_it_was_trained_on_is_not_finished(study):
    receipt = study.run(SAR).output("evaluate", "receipt.json")
    shutil.rmtree("data")
    inputs = read_json(receipt)["inputs"] | {"data/prepared/shapes/receipt.json": "d" * 64}
    change(receipt, inputs=inputs)
    assert "was evaluated on another data/prepared/shapes/receipt.json" in fault(study.run(SAR))


@pytest.mark.parametrize(("digest", "same"), [("e" * 64, True), ("f" * 64, False)])
def test_published_results_are_of_data_of_the_same_pixels_whatever_is_said_of_them(
    study, digest, same
):
    data, published = study.datasets["shapes"], study.published_data("shapes")
    change(data.receipt, digests={"test": "e" * 64})
    for run in study.runs:
        for stage in ("train", "evaluate"):
            receipt = run.output(stage, "receipt.json")
            inputs = {
                path: custody.digests.digest_of_file(Path(path))
                for path in read_json(receipt)["inputs"]
            }
            change(receipt, inputs=inputs)
    published.prepared.mkdir(parents=True)
    shutil.copy(data.receipt, published.receipt)
    compare.compare(study)
    change(data.receipt, outputs={"info.json": "1" * 64}, digests={"test": digest})
    if same:
        compare.compare(study)
    else:
        refused(compare.compare, study, "was made from another data/prepared/shapes/receipt.json")


def test_results_are_compared_without_the_data(study):
    shutil.rmtree("data")
    compare.compare(study)


def test_what_prepare_said_of_the_data_is_read_as_it_said_it(study):
    info = study.datasets["shapes"].info
    compare.compare(study)
    analyse.analyse(study)
    change(info, pixel_share={})
    for work in (analyse.analyse, report.report):
        refused(
            work,
            study,
            f"{info}: was changed or damaged",
            "run python -m pipelines.prepare --dataset shapes",
        )


def test_data_of_another_fetch_is_prepared_again(study):
    change(study.datasets["shapes"].fetched, outputs={"x": "y"})
    refused(
        compare.compare,
        study,
        "data/prepared/shapes/receipt.json: was made from another data/raw/shapes/receipt.json",
        "run python -m pipelines.prepare --dataset shapes",
    )


@pytest.mark.parametrize("text", ["", "{}", "[]", "5", '{"stage": 1}', "{"])
def test_a_broken_receipt_is_named_with_its_remedy(study, text):
    receipt = study.run(SAR).output("train", "receipt.json")
    receipt.write_text(text)
    again = f"run python -m pipelines.train --study mini --run {SAR}"
    refused(compare.compare, study, f"{receipt}: ", again)
    assert SAR in {made.title for made, why in to_make(study) if again in why}


def test_what_is_to_make_is_what_is_missing_or_does_not_fit(study):
    for stage in (compare.compare, analyse.analyse, report.report):
        stage(study)
    for run in study.runs:
        for stage in ("train", "evaluate"):
            for path in Made(stage, run).declared:
                path.touch()

    def made() -> list[tuple[str, str]]:
        return [(each.stage, each.title) for each, _ in to_make(study)]

    assert made() == []
    run = study.run(SAR)
    run.output("evaluate", "predictions.npz").unlink()
    assert made() == [("evaluate", SAR)]
    run.output("train", "receipt.json").unlink()
    assert made() == [("train", SAR), ("evaluate", SAR)]
    shutil.rmtree("data")
    assert made() == [("train", SAR), ("evaluate", SAR)]
    (study.folder("report") / "tables/comparison.csv").write_text("x")
    assert made()[2:] == [("report", "mini")]
