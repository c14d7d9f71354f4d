"""Which files a stage depends on: all of the program that it runs but what cannot matter."""

from __future__ import annotations

import json
import os
import subprocess
import sys

import pytest

from pipelines.drivers.code import NOT_DECISIVE
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
