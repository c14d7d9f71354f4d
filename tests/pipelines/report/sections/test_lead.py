"""What a report says before all sections."""

from pipelines.base.artifacts import read_json
from pipelines.compare.comparison import Comparison
from pipelines.report.material import Material
from pipelines.report.sections.lead import lead


def words(study, **changes) -> str:
    data = {n: read_json(dataset.info) | changes for n, dataset in study.datasets.items()}
    material = Material(study, study.runs, Comparison.of(study, study.runs), None, data, {}, {})
    return "\n".join(text.markdown for text in lead(material))


def test_what_prepare_left_out_is_said_again(fabricate):
    study = fabricate()
    assert "**Data:**" not in words(study)
    left_out = {"test": [{"file": "a.png", "reason": "x"}]}
    said = words(study, skipped=left_out, shared_images=[["train/a", "test/b"]])
    assert "> **Data:**" in said
    assert "- shapes: 1 file of test could not be used and was left out; images used: " in said
    assert "- shapes: images of test with the pixels of images of train: 1" in said
