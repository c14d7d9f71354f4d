"""The benchmark of a GPU, at tiny sizes on a CPU: what it writes, and nothing about times."""

import pandas as pd
import pytest
import torch
from mmseg.models.losses import accuracy

from benchmarks import gpu
from benchmarks.on_gpu import pulls, steps, trainings
from benchmarks.on_gpu.bench import Bench
from sar.packaged import register_mmseg


@pytest.mark.slow
def test_one_command_writes_every_part(tmp_path, capsys):
    out = tmp_path / "gpu.csv"
    assert gpu.main(["--tiny", "--turns", "1", "--minutes", "60", "--out", str(out)]) == 0
    table = pd.read_csv(out)
    assert set(table["part"]) == {"pull", "step", "evaluation", "training"}
    assert (table["value"] >= 0).all() and table["torch"].eq(torch.__version__).all()
    assert table["device"].eq("cpu").all()

    def contenders(part):
        return table[table["part"] == part].groupby("type")["contender"].agg(set)

    assert len(contenders("pull")) == 4  # two types, two memory formats
    assert all({"floor", "torch", "plain", "compiled"} <= found for found in contenders("pull"))
    assert len(contenders("step")) == 5  # three precisions, two of them compiled, too
    assert all({"baseline", "SAR, torch"} <= found for found in contenders("step"))
    steps_of_sar = table[table["contender"] == "SAR, torch"]
    expected = (steps_of_sar["ratio"] <= 1.05).map({True: "yes", False: "no"})
    assert steps_of_sar["limit"].eq(1.05).all() and steps_of_sar["met"].eq(expected).all()

    said = capsys.readouterr().out
    # On a busy machine two short trainings may not meet, and the phase says so.
    apart = "left out, one run ended before another began"
    lost = [line for line in said.splitlines() if line.startswith(apart)]
    names = [
        phase.name
        for phase in trainings.TINY_PHASES
        if phase.runs == 1 or not any(line.endswith(phase.name) for line in lost)
    ]
    *phases, best = contenders("training").index
    assert sorted(phases) == sorted(names) and best.startswith("the fastest: ")
    trained = table[table["part"] == "training"].set_index(["type", "contender"])
    assert set(trained.loc[best].index) == {"24 runs of 1,500 iterations"}
    fastest = trained.loc[(best.removeprefix("the fastest: "), "SAR"), "value"]
    assert fastest == trained.xs("SAR", level="contender")["value"].max()
    minutes = trained.loc[(best, "24 runs of 1,500 iterations"), "value"]
    assert minutes == pytest.approx(24 * 1500 / fastest / 60, rel=1e-2)

    assert "| part " in said
    assert "left out, CUDA graphs need a CUDA device: step fcn_hrnet_tiny" in said


def test_what_the_time_did_not_reach_is_named(tmp_path, capsys):
    bench = Bench("cpu", turns=1, until=0.0)
    pulls.time_pulls(bench, pulls.TINY, False, pulls.plain)
    steps.time_evaluation(bench, steps.TINY)
    steps.time_steps(bench, steps.TINY, ("eager",), "eager")
    trainings.time_trainings(bench, trainings.TINY, trainings.TINY_PHASES, tmp_path)
    said = capsys.readouterr().out
    assert not bench.rows and not list(tmp_path.iterdir())
    for what in ("pull K3 C8", "step fcn_hrnet_tiny", "evaluation fcn_", "training fcn_hrnet_tiny"):
        assert f"left out, no time for it: {what}" in said


def test_what_needs_more_time_than_is_left_is_not_begun(monkeypatch, capsys):
    monkeypatch.setattr("time.monotonic", lambda: 100.0)
    bench = Bench("cpu", turns=1, until=160.0)
    assert bench.left("short", 59.0) and not bench.left("long", 60.0)
    assert capsys.readouterr().out == "left out, no time for it: long\n"


def test_an_error_leaves_the_table_of_what_was_measured(tmp_path, monkeypatch):
    def fails(bench, *_):
        bench.add("pull", "K3", "float32", "torch", 1.0, "ms", ratio=2.0, of="floor", limit=1.5)
        raise RuntimeError("the driver has gone")

    monkeypatch.setattr(gpu, "measure", fails)
    with pytest.raises(RuntimeError, match="driver has gone"):
        gpu.main(["--tiny", "--out", str(tmp_path / "gpu.csv")])
    [row] = pd.read_csv(tmp_path / "gpu.csv").to_dict("records")
    assert row["contender"] == "torch" and row["met"] == "no" and row["device"] == "cpu"


def test_without_a_gpu_it_says_what_it_expects(monkeypatch, capsys):
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    assert gpu.main([]) == 2
    assert "expected one, or --tiny" in capsys.readouterr().err


def test_a_contender_that_computes_something_else_is_an_error():
    features = torch.randn(1, 8, 4, 8, requires_grad=True)
    labels, anchors = torch.zeros(1, 4, 8).long(), torch.randn(3, 8)
    with pytest.raises(AssertionError, match="compiled differs"):
        pulls.contenders_of(features, labels, anchors, lambda *args: 2 * pulls.plain(*args))


@pytest.mark.parametrize("ignore_index", [None, 255])
def test_the_accuracy_in_a_graph_is_that_of_mmsegmentation(ignore_index):
    generator = torch.Generator().manual_seed(0)
    scores = torch.randn(2, 5, 6, 7, generator=generator)
    labels = torch.randint(0, 5, (2, 6, 7), generator=generator)
    if ignore_index is not None:
        labels[0, :3] = ignore_index
    expected = accuracy(scores, labels, ignore_index=ignore_index)
    found = steps.accuracy(scores, labels, ignore_index=ignore_index)
    assert found.shape == expected.shape
    torch.testing.assert_close(found, expected)


def test_methods_share_the_backbone_that_is_compiled_once():
    register_mmseg()
    models = steps.models_of("fcn_hrnet_tiny", "cpu")
    assert models["SAR"].backbone is models["baseline"].backbone
    assert not models["SAR"].regularizer.gated and not hasattr(models["baseline"], "regularizer")


def run(start, per_iteration, last, every=10):
    """Times of a run that begins at `start` and logs every so many iterations, in milliseconds."""
    return {i: start + i * per_iteration for i in range(0, last + 1, every)}


def test_the_rate_of_runs_is_that_of_the_time_they_share():
    alone = run(0, 40, 100)
    assert trainings.iterations_per_second([alone]) == pytest.approx(25)
    alone[100] += 10_000  # the last, which waits for a checkpoint
    assert trainings.iterations_per_second([alone]) == pytest.approx(25)
    slow, fast = run(1000, 80, 100), run(0, 40, 200)
    assert trainings.iterations_per_second([slow, fast]) == pytest.approx(12.5 + 25)


@pytest.mark.parametrize(
    ("times", "message"),
    [
        ([run(0, 40, 30)], r"got \[4\] logs a run, expected at least 5"),
        ([run(0, 40, 100), run(9000, 40, 100)], "one run ended before another began"),
    ],
)
def test_runs_that_share_no_time_have_no_rate(times, message):
    with pytest.raises(trainings.NotMeasured, match=message):
        trainings.iterations_per_second(times)


def test_a_training_that_fails_is_left_out_with_what_it_said(tmp_path, monkeypatch, capsys):
    class Failed:
        exitcode = 2

        def __init__(self, target, args):
            folder, study, run, log = args
            (folder / log).write_text(f"{study}: {run} went wrong")

        def start(self):
            pass

        def join(self, timeout=None):
            pass

        def is_alive(self):
            return False

    class Context:
        Process = Failed

    monkeypatch.setattr(trainings, "_imported", Context)
    bench = Bench("cpu", turns=1, until=float("inf"))
    trainings.time_trainings(bench, trainings.TINY, trainings.TINY_PHASES[-1:], tmp_path)
    assert not bench.rows
    said = capsys.readouterr().out
    assert "left out, a training failed (2): bench@phase0: scenes/fcn_hrnet_tiny/sar" in said
    assert "went wrong: training fcn_hrnet_tiny" in said
