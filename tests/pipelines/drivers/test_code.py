"""Which files a stage depends on: all of the program that it runs but what cannot matter."""

from __future__ import annotations

import json
import os
import subprocess
import sys

import pytest

from pipelines.drivers.code import NOT_DECISIVE, code_files
from tests.pipelines import mini


def test_what_is_left_out_exists():
    for name in NOT_DECISIVE:
        path = mini.ROOT.joinpath(*name.split("."))
        assert path.is_dir() or path.with_suffix(".py").is_file(), name


RUN = """
import json, sys
from pathlib import Path
import sar  # What the package itself imports is run on the way to any of its modules.
from pipelines.drivers.code import NOT_DECISIVE, code_files
from pipelines.study import Study

before = set(sys.modules)
stage, study = sys.argv[1], Study.load("mini")
run = study.run("mini/fcn_hrnet_tiny/sar/seed0")
if stage == "fetch":
    from pipelines.fetch.stage import fetch
    fetch(run.dataset)
elif stage == "prepare":
    from pipelines.prepare.stage import prepare
    prepare(run.dataset, jobs=1)
elif stage == "train":
    from pipelines.train.stage import train
    train(run)
else:
    from pipelines.evaluate.stage import evaluate
    evaluate(run)
ran = [
    Path(module.__file__).as_posix()
    for name, module in sys.modules.items()
    if name.split(".")[0] in ("pipelines", "sar")
    and name not in before
    and not any(name == each or name.startswith(f"{each}.") for each in NOT_DECISIVE)
    and not module.__file__.endswith("__init__.py")
]
files = code_files(stage, run if stage in ("train", "evaluate") else None)
print(json.dumps([ran, [path.absolute().as_posix() for path in files]]))
"""


@pytest.mark.slow
def test_a_stage_depends_on_all_that_it_runs(tmp_path):
    mini.write_params(tmp_path)
    environment = os.environ | {
        "PYTHONPATH": str(mini.ROOT),
        "MLFLOW_TRACKING_URI": "sqlite:///m.db",
    }
    for stage in ("fetch", "prepare", "train", "evaluate"):
        done = subprocess.run(
            [sys.executable, "-c", RUN, stage],
            cwd=tmp_path,
            env=environment,
            capture_output=True,
            text=True,
        )
        assert done.returncode == 0, done.stderr
        ran, files = json.loads(done.stdout.splitlines()[-1])
        assert ran and set(ran) <= set(files), stage


USERS = {
    "mine/__init__.py": "",
    "mine/method.py": "from mine.parts import weight\n\n\ndef apply(model):\n    return model\n",
    "mine/parts.py": "weight = 1.0\n",
    "heads/wide.py": "from heads import base\n",
    "heads/base.py": "width = 2\n",
    "nets/own.py": "from nets import parts\n",
    "nets/parts.py": "depth = 2\n",
    "my-configs/own.py": "_base_ = 'base.py'\n",
    "my-configs/base.py": "model = {}\n",
    "apart.py": "",
}
HASH = """
from pipelines.drivers.code import code_files, code_hash
from pipelines.study import Study

run = Study.load("mini").run("mini/fcn_hrnet_tiny/sar/seed0")
for stage in ("train", "evaluate"):
    print(stage, code_hash(stage, run), *[path.as_posix() for path in code_files(stage, run)])
"""


@pytest.fixture
def users_code(tmp_path):
    """A function: what is known of the code of a run with a user's own plug-in and head, by stage:
    its hash, and those of its files that are the user's."""
    methods = mini.study_file()["methods"]
    methods["sar"] = {"label": "Mine", "plugin": "mine.method:apply"}
    mini.write_params(tmp_path, methods=methods)
    head = {"decode_head": {"type": "heads.wide.WideHead"}}
    entry = {"title": "Net", "config": "my-configs/own.py", "model": head}
    entry |= {"custom_imports": ["nets/own.py"]}
    (tmp_path / f"params/models/{mini.MODEL}.yaml").write_text(json.dumps(entry))
    for name, text in USERS.items():
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).write_text(text)
    environment = os.environ | {"PYTHONPATH": str(mini.ROOT)}

    def known() -> dict[str, tuple[str, set[str]]]:
        words = [sys.executable, "-c", HASH]
        out = subprocess.run(
            words, cwd=tmp_path, env=environment, capture_output=True, text=True, check=True
        ).stdout
        lines = [line.split() for line in out.splitlines()]
        return {stage: (hashed, USERS.keys() & set(files)) for stage, hashed, *files in lines}

    return known


def test_a_users_plugin_and_model_are_followed(users_code, tmp_path):
    model = {name for name in USERS if name.startswith(("heads/", "nets/", "my-configs/"))}
    before = users_code()
    assert before["train"][1] == model | {"mine/__init__.py", "mine/method.py", "mine/parts.py"}
    assert before["evaluate"][1] == model
    with (tmp_path / "mine/parts.py").open("a") as file:
        file.write("# A comment.\n")
    assert users_code() == before
    (tmp_path / "mine/parts.py").write_text("weight = 2.0\n")
    after = users_code()
    assert after["train"][0] != before["train"][0]
    assert after["evaluate"] == before["evaluate"]
    for name in ("heads/base.py", "nets/parts.py", "my-configs/base.py"):
        earlier = after["evaluate"]
        (tmp_path / name).write_text("width = 3\n")
        after = users_code()
        assert after["evaluate"][0] != earlier[0], name


@pytest.mark.parametrize(
    ("plugin", "predicts"),
    [("sar.rivals.protoseg:apply_protoseg", True), ("sar.rivals.car:apply_car", False)],
)
def test_evaluation_depends_on_a_method_that_predicts(tmp_path, monkeypatch, plugin, predicts):
    monkeypatch.chdir(tmp_path)
    methods = mini.study_file()["methods"] | {"sar": {"label": "It", "plugin": plugin}}
    mini.write_params(tmp_path, methods=methods)
    run = next(run for run in mini.load().runs if run.method == "sar")
    module = mini.ROOT / (plugin.split(":")[0].replace(".", "/") + ".py")
    assert module in code_files("train", run)
    assert (module in code_files("evaluate", run)) == predicts
