"""`snakemake --config`: one key, and its value a name."""

import pytest

from pipelines.base.errors import PipelineError
from pipelines.drivers.snakemake_config import named_study


@pytest.mark.parametrize("config", [{}, {"study": "default"}])
def test_the_study_or_the_default_one(config):
    assert named_study(config) == "default"


@pytest.mark.parametrize(
    ("config", "message"),
    [
        ({"Study": "camvid"}, r"--config Study: no such key.*did you mean study=camvid\?"),
        ({"study": "a", "studdy": "b"}, r"--config studdy: no such key.*did you mean study=b\?"),
        ({"seeds": 3}, r"--config seeds: no such key; expected study=NAME$"),
        ({"study": None}, r"study=: is empty"),
        ({"study": 7}, r"study=7: was read as a int; expected a name, or the path"),
        ({"study": True}, r"study=True: was read as a bool"),
        ({"study": ["a"]}, r"was read as a list"),
    ],
)
def test_anything_else_is_an_error_that_names_it(config, message):
    with pytest.raises(PipelineError, match=message):
        named_study(config)
