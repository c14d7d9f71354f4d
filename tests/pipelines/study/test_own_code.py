"""A user's own files that a model entry names: a part of a run's identity, and not run for it."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from pipelines.base.errors import PipelineError
from pipelines.study import Study
from tests.pipelines import mini

FILES = {
    "nets/tiny.py": '"""A net."""\n\nraise SystemExit("run")\n',
    "nets/parts.py": "width = 1\n",
    "my-configs/tiny.py": "_base_ = ['base.py']\n",
    "my-configs/base.py": "model = dict(type='EncoderDecoder')\n",
}


@pytest.fixture
def load(tmp_path, monkeypatch):
    """A function: the first run of `mini` with a model entry that has these keys besides."""
    monkeypatch.chdir(tmp_path)
    mini.write_params(tmp_path)
    for name, text in FILES.items():
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).write_text(text)

    def loaded(**keys):
        entry = {"title": "Own", "config": "_base_/models/fcn_hr18.py"} | keys
        Path(f"params/models/{mini.MODEL}.yaml").write_text(json.dumps(entry))
        return Study.load("mini").runs[0]

    return loaded


def hashes(run):
    return [run.parameters_hash(stage) for stage in ("train", "evaluate")]


OWN = {"custom_imports": ["nets/tiny.py", "nets/parts.py"], "config": "my-configs/tiny.py"}


@pytest.mark.parametrize("name", FILES)
def test_what_a_file_does_is_part_of_both_stages_parameters(load, name):
    before = hashes(load(**OWN))
    path = Path(name)
    path.write_text(f"# A comment.\n{FILES[name]}")
    assert hashes(load(**OWN)) == before
    path.write_text(f"{FILES[name]}\nmore = 1\n")
    after = hashes(load(**OWN))
    assert all(old != new for old, new in zip(before, after, strict=True))


def test_an_entry_without_files_is_known_as_before(load):
    assert "code" not in load().parameters("train")["model"]


@pytest.mark.parametrize(
    ("keys", "change", "message"),
    [
        ({"custom_imports": ["nets/none.py"]}, {}, r"nets/none.py: no such file; a model entry na"),
        ({"custom_imports": ["../net.py"]}, {}, r"yaml: custom_imports.0: .*match pattern"),
        ({"custom_imports": ["nets/my-net.py"]}, {}, r"custom_imports.0: .*match pattern"),
        (
            {"custom_imports": ["sar/pull.py"]},
            {},
            r"custom_imports: 'sar/pull.py' is a file of",
        ),
        ({"custom_imports": ["nets/parts.py"] * 2}, {}, r"custom_imports: .*stands here twice"),
        (OWN, {"nets/parts.py": "width ="}, r"nets/parts.py:1: invalid syntax; expected valid P"),
        (OWN, {"my-configs/tiny.py": "_base_ = ['mmseg::a.py']"}, r"would install an unmaintained"),
        (OWN, {"my-configs/tiny.py": "_base_ = 'none.py'"}, r"tiny.py: _base_: 'none.py': no such"),
        (OWN, {"my-configs/tiny.py": "_base_ = name"}, r"_base_: got name, expected a path or a l"),
        (OWN, {"my-configs/base.py": "_base_ = 'tiny.py'"}, r"tiny.py: _base_: is based on itself"),
        (OWN, {"my-configs/base.py": "_base_ = '../../x.py'"}, r"'../../x.py' lies outside the pr"),
        (
            OWN,
            {"my-configs/base.py": "with read_base():\n    pass"},
            r"read_base\(\): cannot be",
        ),
        ({"config": "../elsewhere.py"}, {"../elsewhere.py": ""}, r"../elsewhere.py lies outside"),
    ],
)
def test_a_file_that_cannot_be_followed_is_named(load, keys, change, message):
    for name, text in change.items():
        Path(name).write_text(text)
    with pytest.raises(PipelineError, match=message):
        load(**keys)
