"""Training images loaded in worker processes: the same training, to the bit, also when resumed."""

from __future__ import annotations

import json
import shutil

import numpy as np
import pytest
from mmengine.config import ConfigDict

from pipelines.base.artifacts import read_json
from pipelines.fetch import stage as fetch
from pipelines.prepare import stage as prepare
from pipelines.study import Study
from pipelines.study.schema import StudyFile
from pipelines.train import stage as train
from pipelines.train.hooks import DiagnosticsHook
from tests.pipelines import mini


@pytest.fixture
def study(tmp_path, monkeypatch):
    """A function: the study `mini` with dropout and that many workers, its data prepared."""
    monkeypatch.chdir(tmp_path)
    mini.write_params(tmp_path)
    model = tmp_path / f"params/models/{mini.MODEL}.yaml"
    model.write_text(model.read_text() + "    dropout_ratio: 0.3\n")
    for dataset in mini.load().datasets.values():
        fetch.fetch(dataset)
        prepare.prepare(dataset)

    def with_workers(workers: int) -> Study:
        path = tmp_path / "params/studies/mini.yaml"
        path.write_text(json.dumps(json.loads(path.read_text()) | {"workers": workers}))
        return mini.load()

    return with_workers


def outputs(study: Study) -> dict[str, str]:
    """sha256 of all that the training of the method's run published."""
    run = next(run for run in study.runs if run.method == "sar")
    train.train(run)
    return read_json(run.output("train", "receipt.json"))["outputs"]


def test_any_number_of_workers_gives_the_same_training_whole_or_resumed(study, monkeypatch):
    alone = outputs(study(0))
    assert "weights.safetensors" in alone
    assert outputs(study(2)) == alone

    class Stopped(Exception):
        pass

    def stops(self, runner, *args, **kwargs):
        if runner.iter == 4:
            raise Stopped
        original(self, runner, *args, **kwargs)

    original = DiagnosticsHook.after_train_iter
    with monkeypatch.context() as patch:
        patch.setattr(DiagnosticsHook, "after_train_iter", stops)
        with pytest.raises(Stopped):
            outputs(study(2))
    assert [path.name for path in study(2).work.rglob("iter_4.pth")] == ["iter_4.pth"]
    assert outputs(study(2)) == alone


def test_the_sampler_numbers_batches_from_where_it_goes_on():
    from pipelines.train.loading import NumberedSampler

    def pairs(skipped: int, count: int) -> list[tuple[int, int]]:
        sampler = NumberedSampler(np.arange(5), seed=3, batch_size=2)
        if skipped:
            sampler.skip(skipped)
        stream = iter(sampler)
        return [next(stream) for _ in range(count)]

    whole = pairs(0, 12)
    assert [number for number, _ in whole] == [0, 0, 1, 1, 2, 2, 3, 3, 4, 4, 5, 5]
    assert sorted(index for _, index in whole[:5]) == [0, 1, 2, 3, 4]
    assert pairs(6, 6) == whole[6:]


def test_a_batch_is_loaded_as_one():
    from pipelines.train.loading import ReseededDataset

    class Numbers:
        def __getitem__(self, index: int) -> float:
            return index + np.random.random()

        def full_init(self) -> None:
            pass

    dataset = object.__new__(ReseededDataset)
    dataset.dataset, dataset.seed, dataset.rank = Numbers(), 1, 0
    first, second = dataset.__getitems__([(7, 0), (7, 1)]), dataset.__getitems__([(8, 0), (8, 1)])
    assert dataset.__getitems__([(7, 0), (7, 1)]) == first
    assert first[0] != second[0] and first[0] != first[1] - 1
    with pytest.raises(TypeError, match="a whole batch"):
        dataset[7, 0]


@pytest.mark.parametrize(
    ("asked", "gpu", "cores", "runs", "processes", "expected"),
    [
        (3, True, 16, 1, 1, 3),
        ("auto", False, 16, 1, 1, 0),
        ("auto", True, 16, 1, 1, 8),
        ("auto", True, 16, 4, 1, 3),
        ("auto", True, 16, 1, 4, 3),
        ("auto", True, 2, 4, 1, 1),
    ],
)
def test_workers_that_nobody_numbered_share_the_cores(
    monkeypatch, asked, gpu, cores, runs, processes, expected
):
    from pipelines.running import devices
    from pipelines.train import loading

    monkeypatch.setattr(loading.torch.cuda, "is_available", lambda: gpu)
    monkeypatch.setattr(loading.os, "sched_getaffinity", lambda _: set(range(cores)))
    monkeypatch.setenv(devices.AT_ONCE, str(runs))
    file = mini.study_file() | {"workers": asked, "processes": processes}
    file["training"] = file["training"] | {"batch_size": 4}
    assert loading.number_of_workers(StudyFile.model_validate(file)) == expected


def test_workers_are_no_more_than_have_their_batches_fit_into_shared_memory(monkeypatch, caplog):
    """Docker gives a container 64 MiB, and a worker that finds no room ends by a bus error."""
    from pipelines.train import loading

    monkeypatch.setattr(loading.torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(loading.os, "sched_getaffinity", lambda _: set(range(16)))
    file = mini.study_file() | {"workers": "auto"}
    file["training"] = file["training"] | {
        "batch_size": 8,
        "augmentation": {"crop_size": [512, 1024], "scale_range": [0.5, 2.0]},
    }
    batch = 8 * 512 * 1024 * 11
    for free, expected in ((64 << 20, 0), (2 * 4 * batch, 1), (2 * 4 * 3 * batch, 3), (1 << 40, 8)):
        usage = shutil._ntuple_diskusage(total=1 << 41, used=0, free=free)
        monkeypatch.setattr(loading.shutil, "disk_usage", lambda _, usage=usage: usage)
        caplog.clear()
        assert loading.number_of_workers(StudyFile.model_validate(file)) == expected
        assert ("--shm-size" in caplog.text) == (expected < 8)


def test_a_gpu_s_batches_are_pinned_where_workers_load_them(monkeypatch):
    from pipelines.train import loading

    for workers, gpu, keys in ((0, True, set()), (2, False, set()), (2, True, {"pin_memory"})):
        monkeypatch.setattr(loading.torch.cuda, "is_available", lambda gpu=gpu: gpu)
        loader = ConfigDict(num_workers=workers)
        assert (loading.pinned(loader).keys() - {"num_workers", "prefetch_factor"}) == keys
        assert ("prefetch_factor" in loading.pinned(loader)) == bool(keys)
