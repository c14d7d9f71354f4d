"""The config of a model: what an entry makes of one of mmsegmentation's."""

from __future__ import annotations

from pipelines.study import read_params
from pipelines.study.schema import ModelEntry
from tests.pipelines import mini


def test_an_entry_may_delete_what_its_config_has_and_stays_as_it_is():
    """Merging takes `_delete_` out of what it merges."""
    from pipelines.configs.model import entry_config

    entry = read_params(mini.ROOT / "params/models/fcn_mobilenetv2.yaml", ModelEntry)
    before = entry.model_dump()
    for _ in range(2):
        backbone = entry_config("fcn_mobilenetv2", entry).model.backbone
        assert backbone.type == "MobileNetV2" and "extra" not in backbone
    assert entry.model_dump() == before
