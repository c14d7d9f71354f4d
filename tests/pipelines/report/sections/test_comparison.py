"""What the comparison says of its methods beside their numbers."""

from __future__ import annotations

import json

from pipelines.report.sections.comparison import predicting
from tests.pipelines import mini


def test_a_method_that_predicts_in_another_way_is_named(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    methods = mini.study_file()["methods"]
    own = {"label": "Prototypes", "plugin": "sar.rivals.protoseg:apply_protoseg"}
    mini.write_params(tmp_path, methods=methods)
    assert predicting(mini.load()) == ""
    (tmp_path / "params/studies/mini.yaml").write_text(
        json.dumps(mini.study_file() | {"methods": methods | {"prototypes": own}})
    )
    said = predicting(mini.load())
    assert said.startswith("Prototypes: another classifier than the baseline's") and said[-1] == " "
