"""The report's section on provenance: from what, by what and at what cost each run was made.

Its rows are the runs; the first one of a data set, model and method has the id that the cells of
the other tables lead to. What a run's `runtime.json` does not hold, because it was made before that
was recorded, is "not recorded"; what its machine could not tell is "not told".
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import pandas as pd

from pipelines.base.measuring import UNKNOWN
from pipelines.base.receipts import read_receipt
from pipelines.rendering.parts import Section, Table, Text, run_anchor
from pipelines.study import Run, Study, made

NOT_RECORDED, NOT_TOLD = "not recorded", "not told"

_FACTS = {
    "device": "device",
    "processes": "processes",
    "wall_seconds": "wall_seconds",
    "cpu_seconds": "cpu_seconds",
    "peak_memory_mib": "peak_memory_mib",
    "peak_gpu_memory_mib": "peak_gpu_memory_mib",
    "cpu_energy_joules": "cpu_energy_joules",
    "gpu_energy_joules": "gpu_energy_joules",
    "started": "started",
    "python": "python",
    "platform": "platform",
    "processor": "processor",
    "instructions": "instructions",
}
"""Columns that hold a fact of the training as its `runtime.json` calls it."""


def sections(study: Study, runs: Sequence[Run]) -> list[Section]:
    """Where each of these finished runs of `study` comes from; differs between replays."""
    facts = [_facts(run) for run in runs]
    shown = pd.DataFrame([_shown(run, fact) for run, fact in zip(runs, facts, strict=True)])
    table = Table(
        name="provenance",
        data=pd.DataFrame([fact["row"] for fact in facts]),
        shown=shown,
        caption="Commit: with + where tracked files differed from it. Config: hash of all "
        "parameters that determine the training. Data: sha256 of the receipt of the prepared data. "
        "Checkpoint: sha256 of the weights. Lock: sha256 of requirements.lock. All are shortened "
        "here and whole in the CSV. Time, memory and energy are those of the process that finished "
        "the training; energy is that of the whole device. "
        f"*{NOT_TOLD.capitalize()}*: not by this machine; *{NOT_RECORDED}*: made before that was.",
        ids=_ids(runs),
    )
    return [
        Section(
            "Provenance", [Text(_versions(facts)), table, Text(_total(facts))], reproducible=False
        )
    ]


def _ids(runs: Sequence[Run]) -> list[str]:
    anchors = [run_anchor(run.dataset.name, run.model, run.method) for run in runs]
    return ["" if id in anchors[:row] else id for row, id in enumerate(anchors)]


def _facts(run: Run) -> dict[str, Any]:
    """What is known of `run`: `train` and `evaluate` (their runtime.json) and its `row` as data."""
    train, evaluate = (made.runtime(run, stage) for stage in ("train", "evaluate"))
    receipt = read_receipt(run.output("train", "receipt.json"), run.again("train"))
    data = next(
        (d for name, d in receipt.inputs.items() if name.startswith("data/prepared/")), None
    )
    lock = train.get("lock") or {}
    row = {
        "dataset": run.dataset.name,
        "model": run.model,
        "method": run.method,
        "seed": run.seed,
        "commit": train.get("commit"),
        "dirty": train.get("dirty"),
        "evaluate_commit": evaluate.get("commit"),
        "evaluate_dirty": evaluate.get("dirty"),
        "config": receipt.parameters,
        "data": data,
        "checkpoint": receipt.outputs.get("weights.safetensors"),
        "lock": lock.get("sha256"),
        "differs_from_lock": " ".join(lock["differs"]) if "differs" in lock else None,
        **{column: train.get(fact) for column, fact in _FACTS.items()},
        "evaluate_wall_seconds": evaluate.get("wall_seconds"),
        **{f"version_{name}": v for name, v in train.get("versions", {}).items()},
    }
    return {"train": train, "evaluate": evaluate, "row": row}


def _shown(run: Run, facts: Mapping[str, Any]) -> dict[str, str]:
    train, row = facts["train"], facts["row"]
    return {
        "data set": run.dataset.name,
        "model": run.model,
        "method": run.study.file.methods[run.method].label,
        "seed": str(run.seed),
        "commit": _commits(facts),
        "config": _short(row["config"]),
        "data": _short(row["data"]),
        "checkpoint": _short(row["checkpoint"]),
        "lock": _lock(train),
        "device": _device(train) + _processes(train),
        "training": _known(train, "wall_seconds", _clock),
        "evaluation": _known(facts["evaluate"], "wall_seconds", _clock),
        "memory": _known(train, "peak_memory_mib", "{:.0f} MiB".format),
        "GPU memory": _gpu_memory(train),
        "energy": _energy(train),
    }


def _commits(facts: Mapping[str, Any]) -> str:
    trained, evaluated = _commit(facts["train"]), _commit(facts["evaluate"])
    return trained if trained == evaluated else f"{trained}, evaluated {evaluated}"


def _commit(runtime: Mapping[str, Any]) -> str:
    if "commit" not in runtime:
        return NOT_RECORDED
    if runtime["commit"] is None:
        return "outside git"
    commit = runtime["commit"][:8]
    if commit != UNKNOWN and runtime["dirty"] is None:
        return f"{commit}, changes unknown"
    return f"{commit}+" if runtime["dirty"] else commit


def _lock(train: Mapping[str, Any]) -> str:
    if "lock" not in train:
        return NOT_RECORDED
    if train["lock"] is None:
        return "none"
    differs = len(train["lock"]["differs"])
    text = _short(train["lock"]["sha256"])
    return f"{text}, {differs} packages differ" if differs else text


def _device(train: Mapping[str, Any]) -> str:
    device = train.get("device", NOT_RECORDED)
    known = [train[key] for key in ("processor", "instructions") if train.get(key)]
    return ", ".join(known) if device == "cpu" and known else device


def _processes(train: Mapping[str, Any]) -> str:
    return f" x {train['processes']}" if train.get("processes", 1) > 1 else ""


def _gpu_memory(train: Mapping[str, Any]) -> str:
    # Null there says that no GPU was used.
    if train.get("device") == "cpu":
        return "–"
    return _known(train, "peak_gpu_memory_mib", "{:.0f} MiB".format)


def _energy(train: Mapping[str, Any]) -> str:
    kinds = {"CPU": "cpu_energy_joules", "GPU": "gpu_energy_joules"}
    if not train.keys() & kinds.values():
        return NOT_RECORDED
    measured = {kind: train[key] for kind, key in kinds.items() if train.get(key) is not None}
    words = [f"{kind} {joules / 1000:.1f} kJ" for kind, joules in measured.items()]
    return ", ".join(words) or NOT_TOLD


def _known(runtime: Mapping[str, Any], key: str, words: Callable[[Any], str]) -> str:
    if key not in runtime:
        return NOT_RECORDED
    return NOT_TOLD if runtime[key] is None else words(runtime[key])


def _short(digest: str | None) -> str:
    return NOT_RECORDED if digest is None else digest[:12]


def _clock(seconds: float) -> str:
    minutes, rest = divmod(round(seconds), 60)
    return f"{minutes // 60}:{minutes % 60:02d}:{rest:02d}"


def _versions(facts: Sequence[Mapping[str, Any]]) -> str:
    """The packages of all trainings, each set of versions with the number of its runs."""
    sets: dict[str, int] = {}
    for fact in facts:
        versions = fact["train"].get("versions")
        words = NOT_RECORDED
        if versions is not None:
            python = {"Python": fact["train"].get("python", NOT_RECORDED)}
            words = ", ".join(f"{name} {version}" for name, version in (python | versions).items())
        sets[words] = sets.get(words, 0) + 1
    return "Trained with:\n\n" + "\n".join(f"- {words} ({n} runs)" for words, n in sets.items())


def _total(facts: Sequence[Mapping[str, Any]]) -> str:
    trained = [f["train"]["wall_seconds"] for f in facts if "wall_seconds" in f["train"]]
    computed = [f["train"]["cpu_seconds"] for f in facts if "cpu_seconds" in f["train"]]
    return (
        f"All trainings together: {_clock(sum(trained))} (hours:minutes:seconds), one after the "
        f"other, as far as recorded ({len(trained)} of {len(facts)}); CPU time "
        f"{_clock(sum(computed))} ({len(computed)} of {len(facts)})."
    )
