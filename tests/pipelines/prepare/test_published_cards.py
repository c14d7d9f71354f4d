"""The classes and colours of the cards are those of the installed mmsegmentation."""

from __future__ import annotations

import pytest

from pipelines.study import read_params
from pipelines.study.cards import DataCard
from tests.pipelines.mini import ROOT


@pytest.mark.parametrize(
    ("name", "of_mmseg", "count"),
    [
        ("cityscapes", "CityscapesDataset", 19),
        ("ade20k", "ADE20KDataset", 150),
        ("pascal_context", "PascalContextDataset59", 59),
    ],
)
def test_classes_and_colours(name, of_mmseg, count):
    import mmseg.datasets

    card = read_params(ROOT / f"params/datasets/{name}.yaml", DataCard)
    known = getattr(mmseg.datasets, of_mmseg).METAINFO
    # mmsegmentation writes "bed " with a space.
    assert card.classes == [known_class.strip() for known_class in known["classes"]]
    assert card.palette == known["palette"]
    assert len(card.classes) == count
    assert card.splits == ["train", "val"]


def test_cityscapes_ids_are_those_of_its_classes():
    """https://github.com/mcordts/cityscapesScripts, helpers/labels.py: name, id, trainId."""
    card = read_params(ROOT / "params/datasets/cityscapes.yaml", DataCard)
    ids = {card.classes[index]: raw for raw, index in card.source.labels.mapping.items()}
    assert ids == {
        **{"road": 7, "sidewalk": 8, "building": 11, "wall": 12, "fence": 13, "pole": 17},
        **{"traffic light": 19, "traffic sign": 20, "vegetation": 21, "terrain": 22, "sky": 23},
        **{"person": 24, "rider": 25, "car": 26, "truck": 27, "bus": 28, "train": 31},
        **{"motorcycle": 32, "bicycle": 33},
    }
