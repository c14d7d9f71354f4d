"""How many runs fit on a GPU, by what finished ones took."""

from __future__ import annotations

import json

import pytest

from pipelines.running import devices, sharing
from pipelines.study import Run
from tests.pipelines import mini


@pytest.fixture
def runs(tmp_path, monkeypatch):
    """A function: the runs of `mini` with this `runs_per_gpu`, on a GPU of 20 GiB or another."""

    def chosen(runs_per_gpu, mebibytes: int | None = 20480) -> list[Run]:
        monkeypatch.setattr(devices, "memory", lambda: mebibytes)
        path = tmp_path / "params/studies/mini.yaml"
        path.write_text(json.dumps(json.loads(path.read_text()) | {"runs_per_gpu": runs_per_gpu}))
        return mini.load().runs

    monkeypatch.chdir(tmp_path)
    mini.write_params(tmp_path)
    return chosen


def took(run: Run, mebibytes: float | None) -> None:
    file = run.output("train", "runtime.json")
    file.parent.mkdir(parents=True, exist_ok=True)
    file.write_text(json.dumps({"peak_gpu_memory_mib": mebibytes}))


def test_what_the_study_says_counts(runs):
    assert sharing.runs_per_gpu(runs(3)) == sharing.most_runs_per_gpu(runs(3)[0].study.file) == 3


def test_a_run_is_alone_until_a_finished_one_says_what_it_took(runs):
    baseline, other = runs("auto")
    assert sharing.runs_per_gpu([baseline, other]) == 1
    took(baseline, None)  # It was trained on a CPU.
    assert sharing.runs_per_gpu([other]) == 1
    took(other, 5000.0)
    # 0.9 x 20480 MiB for runs of 5000 and 600 of CUDA's own.
    assert sharing.runs_per_gpu([baseline]) == 3
    took(baseline, 8000.0)
    assert sharing.runs_per_gpu([other]) == 2
    took(baseline, 30000.0)
    assert sharing.runs_per_gpu([other]) == 1


def test_there_is_a_bound_and_an_unknown_memory_is_no_reason_to_share(runs):
    took(runs("auto")[0], 10.0)
    file = runs("auto")[0].study.file
    assert sharing.runs_per_gpu(runs("auto")) == sharing.most_runs_per_gpu(file) == 8
    assert sharing.runs_per_gpu(runs("auto", None)) == 1


def test_memory_is_that_of_the_smallest_visible_device(tmp_path, monkeypatch):
    script = tmp_path / "nvidia-smi"
    script.write_text(
        "#!/bin/sh\n"
        'case "$1" in\n'
        "*index*) printf '0, GPU-a\\n1, GPU-b\\n2, GPU-c\\n' ;;\n"
        "*) printf 'GPU-a, 8000\\nGPU-b, 16000\\nGPU-c, [N/A]\\n' ;;\n"
        "esac\n"
    )
    script.chmod(0o755)
    monkeypatch.setenv("PATH", f"{tmp_path}:/usr/bin:/bin")
    for named, size in (("0,1", 8000), ("1", 16000), ("2", None), ("", None)):
        monkeypatch.setenv(devices.VARIABLE, named)
        assert devices.memory() == size
