"""Write the dvc.yaml files: the graph that Snakemake runs, for DVC.

`dvc.yaml` holds the default study, `params/datasets/dvc.yaml` fetch and prepare of every data set,
`params/models/dvc.yaml` fetch of every model's published weights where there are any, and
`workflow/dvc/<study>/dvc.yaml` each other study. Data sets and seeds are DVC's own matrix over the
study file, so that `dvc exp run -S` reaches them. What its templating cannot say is written out
here: each method depends on just those keys that the study and the model entry give it.

With `--check` nothing is written: exit status 2 says that a file is not what it should be. Each dvc
command reads all of them; with `--only STUDY` it reads, here, the default study and that one, until
`--all`.
"""

from __future__ import annotations

import argparse
import dataclasses
import difflib
import io
import shlex
import sys
from collections.abc import Collection, Iterable, Iterator, Sequence
from pathlib import Path
from typing import Any

from ruamel.yaml import YAML

from pipelines.base.errors import PipelineError
from pipelines.drivers.code import code_files
from pipelines.running.cli import guarded
from pipelines.study import (
    DATASET_STAGES,
    DESCRIPTION,
    ENTRY_OF_TRAINING,
    PARAMS,
    RUN_STAGES,
    SEEN_IN_TRAINING,
    STUDY_STAGES,
    SUMMARY,
    WEIGHTS_DECIDED_BY,
    WEIGHTS_SHOWN,
    Dataset,
    Run,
    Study,
    Weights,
    params_file,
    params_names,
    read_params,
)
from pipelines.study.cards import DataCard
from pipelines.study.model_entry import ModelEntry, Pretrained

DATASETS_FILE = PARAMS / "datasets" / "dvc.yaml"
WEIGHTS_FILE = PARAMS / "models" / "dvc.yaml"

_METRICS = SUMMARY
"""What `dvc metrics` shows: a value a method. All scores of all runs were a thousand columns."""

_CHOICE = Path("workflow/dvc/.dvcignore")
"""Which studies DVC does not read; git ignores it."""

_PLOTS = {
    "Scores of the runs": ("runs", {"x": "metric", "y": "value", "template": "runs"}),
    "Training curves": ("curves", {"x": "iteration", "y": "mean", "template": "curves"}),
    "Confusion": ("confusion", {"x": "prediction", "y": "truth", "template": "shares"}),
}
"""Tables of compare that `dvc plots` shows, with the templates in `.dvc/plots`."""

_HEADER = """\
# Written by `python -m pipelines.drivers.dvc_yaml` (make dvc) from params/; edits here are lost.
# {what}
"""


def render_study(study: Study) -> str:
    """The text of the dvc.yaml of `study`: its runs, compare, analyse and report."""
    file = study_file(study)
    up = "../" * (len(file.parts) - 1)
    stages = {
        f"{stage}-{model}-{method}": _run_stage(study, stage, model, method)
        for model in study.models
        for method in study.file.methods
        for stage in RUN_STAGES
    }
    for stage in STUDY_STAGES:
        stages[stage] = _study_stage(study, stage)
    plots = []
    for title, (stem, axes) in _PLOTS.items():
        table = f"{up}{study.output('compare', f'{stem}.csv').as_posix()}"
        plots.append({title: axes | {"y": {table: axes["y"]}}})
    content = {"vars": [f"{up}{study.path.as_posix()}"], "stages": stages, "plots": plots}
    target = f" {file.as_posix()}" if up else ""
    return _text(f"The study {study.name}: dvc repro{target}", file, content)


def render_datasets(datasets: Sequence[Dataset]) -> str:
    """The text of `params/datasets/dvc.yaml`: fetch and prepare of all data sets."""
    stages = {
        f"{stage}-{dataset.name}": {
            "cmd": command(stage, dataset=dataset.name),
            "params": [{dataset.card_file.as_posix(): _card_keys(dataset, stage)}],
            "deps": _paths(
                [*dataset.input_receipts(stage), *dataset.local_sources(stage), *code_files(stage)]
            ),
            **_outs(dataset.outputs(stage)),
        }
        for dataset in datasets
        for stage in DATASET_STAGES
    }
    return _text("Data, once for all studies that need it.", DATASETS_FILE, {"stages": stages})


def render_weights(models: Sequence[Weights]) -> str:
    """The text of `params/models/dvc.yaml`: fetch of the published weights of all models."""
    stages = {
        f"fetch-{weights.model}": {
            "cmd": command("fetch", weights=weights.model),
            "params": [{weights.entry_file.as_posix(): _weights_keys(weights, WEIGHTS_DECIDED_BY)}],
            "deps": _paths(code_files("weights")),
            **_outs(weights.outputs),
        }
        for weights in models
    }
    return _text("Weights, once for all studies that need them.", WEIGHTS_FILE, {"stages": stages})


def study_file(study: Study) -> Path:
    """The dvc.yaml of `study`."""
    if study.name == "default":
        return Path("dvc.yaml")
    return Path("workflow") / "dvc" / study.name / "dvc.yaml"


def run_stage_names(runs: Iterable[Run]) -> list[str]:
    """What DVC calls the stages of these runs in the file of their study."""
    return [
        f"{stage}-{run.model}-{run.method}@{run.dataset.name}-{run.seed}"
        for run in runs
        for stage in RUN_STAGES
    ]


def command(stage: str, **options: str) -> str:
    """The command line of a stage, as both drivers run it.

    The names that DVC puts for its placeholders need no quotes: `strict.Name`.
    """
    words = ["python", "-m", f"pipelines.{stage}"]
    for option, value in options.items():
        words += [f"--{option}", value if "${" in value else shlex.quote(value)]
    return " ".join(words)


def files() -> dict[Path, str]:
    """All dvc.yaml files of the project, with what should stand in them."""
    datasets = [Dataset.load(name) for name in params_names("datasets")]
    studies = [Study.load(name) for name in params_names("studies")]
    models = params_names("models")
    entries = {name: read_params(params_file("models", name), ModelEntry) for name in models}
    weights = [Weights(name, e.pretrained) for name, e in entries.items() if e.pretrained]
    return (
        {DATASETS_FILE: render_datasets(datasets)}
        | ({WEIGHTS_FILE: render_weights(weights)} if weights else {})
        | {study_file(study): render_study(study) for study in studies}
    )


def stale() -> str:
    """What writing the files would change, as a diff; empty when they are current."""
    diffs: list[str] = []
    for path, text in files().items():
        old = path.read_text(encoding="utf-8") if path.is_file() else ""
        diffs += difflib.unified_diff(
            old.splitlines(keepends=True), text.splitlines(keepends=True), str(path), "params"
        )
    return "".join(diffs)


def _run_stage(study: Study, stage: str, model: str, method: str) -> dict[str, Any]:
    """One stage of all runs of a model with a method: a matrix of data sets and seeds."""
    own_seeds = study.file.methods[method].seeds is not None
    seeds = f"methods.{_place(study, method)[0]}.seeds" if own_seeds else "seeds"
    some = next(run for run in study.runs if (run.model, run.method) == (model, method))
    # The same run with DVC's placeholders, so that its name and all its paths hold them.
    any_data = dataclasses.replace(some.dataset, name="${item.dataset}")
    run = dataclasses.replace(
        some,
        dataset=any_data,
        seed="${item.seed}",  # type: ignore[arg-type]  # no number, but what DVC puts one for
    )
    keys = _train_keys(study, model, method) if stage == "train" else _evaluate_keys(study, model)
    subsets = []
    if stage == "evaluate":
        for dataset in study.datasets.values():
            if study.evaluation_of(dataset.name, model).subsets:
                subsets.append({dataset.card_file.as_posix(): ["subsets"]})
    left_out = {"title"} | (ENTRY_OF_TRAINING if stage == "evaluate" else set())
    return {
        "matrix": {"dataset": "${datasets}", "seed": f"${{{seeds}}}"},
        "cmd": command(stage, study=study.path.as_posix(), run=run.name),
        "params": [
            {study.path.as_posix(): keys},
            {params_file("models", model).as_posix(): _entry_keys(run, left_out)},
            *subsets,
        ],
        "deps": _paths([*run.input_receipts(stage), *code_files(stage, some)]),
        **_outs(path.format(run=run.name) for path in study.outputs(stage)),
    }


def _train_keys(study: Study, model: str, method: str) -> list[str]:
    """The keys of the study file that its trainings of a model with a method depend on."""
    given = study.file.model_fields_set
    keys = _keys_of_all_runs(study)
    if "from_scratch" in given:
        keys.append("from_scratch")
    keys.append("training")
    name, of_method = _place(study, method)
    for key in ("plugin", "options", "training"):
        if key in of_method:
            keys.append(f"methods.{name}.{key}")
    parts = {"training"}
    alike = [run for run in study.runs if (run.model, run.method) == (model, method)]
    if any(run.training.validation_interval is not None for run in alike):
        seen = SEEN_IN_TRAINING & study.file.evaluation.model_fields_set
        keys += [f"evaluation.{key}" for key in sorted(seen)]
        parts.add("evaluation")
    return keys + _override_keys(study, model, parts)


def _place(study: Study, method: str) -> tuple[str, Collection[str]]:
    """Under which of the file's `methods` a method stands, and the keys that are given there.

    What a grid gives one of its points is in that point's name, and so in its command.
    """
    sweep = study.file.sweep_of(method)
    if sweep is None:
        return method, study.file.methods[method].model_fields_set
    return sweep.method, sweep.given


def _evaluate_keys(study: Study, model: str) -> list[str]:
    """The keys of the study file that its evaluations of a model depend on."""
    keys = _keys_of_all_runs(study)
    if "evaluation" in study.file.model_fields_set:
        keys.append("evaluation")
    return keys + _override_keys(study, model, {"evaluation"})


def _keys_of_all_runs(study: Study) -> list[str]:
    optional = [key for key in ("processes", "image_scale") if key in study.file.model_fields_set]
    return ["threads", *optional]


def _override_keys(study: Study, model: str, parts: set[str]) -> list[str]:
    """The `overrides` that change one of these parts for some runs of a model."""
    return [
        f"overrides.{name}"
        for name, override in study.file.overrides.items()
        if model in (override.models or [model]) and parts & override.model_fields_set
    ]


def _study_stage(study: Study, stage: str) -> dict[str, Any]:
    if stage == "report":
        params, deps = _report_params(study), study.input_receipts(stage)
    else:
        params = [{study.path.as_posix(): _comparison_keys(study, stage)}]
        # The whole folder, since a list of all runs would not follow a changed list of seeds.
        deps = [study.run_folder]
    return {
        "cmd": command(stage, study=study.path.as_posix()),
        "params": params,
        "deps": _paths([*deps, *code_files(stage)]),
        **_outs(study.outputs(stage)),
    }


def _comparison_keys(study: Study, stage: str) -> list[str]:
    """The keys of the study file that compare or analyse depends on."""
    places = dict(_place(study, method) for method in study.file.methods)
    own = [
        f"methods.{name}.{key}"
        for name, given in places.items()
        for key in ("seeds", "grid")
        if key in given
    ]
    keys = ["baseline", "datasets", "models", "seeds", *own]
    return [*keys, "claims"] if study.file.claims and stage == "compare" else keys


def _report_params(study: Study) -> list[dict[str, list[str] | None]]:
    """All of the study file, and what the report shows of cards and model entries."""
    # A file without keys means all of it.
    params: list[dict[str, list[str] | None]] = [{study.path.as_posix(): None}]
    for dataset in study.datasets.values():
        shown = {"withheld_images"} & dataset.card.model_fields_set
        params.append({dataset.card_file.as_posix(): ["title", *shown]})
    for name, entry in study.models.items():
        keys = ["title"]
        if entry.pretrained is not None:
            keys += _weights_keys(Weights(name, entry.pretrained), WEIGHTS_SHOWN)
        params.append({params_file("models", name).as_posix(): keys})
    return params


def _entry_keys(run: Run, left_out: set[str]) -> list[str]:
    """The keys of a run's model entry, of the published weights those that determine them."""
    keys = [
        key
        for key in ModelEntry.model_fields
        if key in run.entry.model_fields_set and key not in left_out
    ]
    if "pretrained" in keys and run.entry.pretrained is not None:
        at = keys.index("pretrained")
        keys[at : at + 1] = (
            [] if run.weights is None else _weights_keys(run.weights, WEIGHTS_DECIDED_BY)
        )
    return keys


def _weights_keys(weights: Weights, wanted: set[str]) -> list[str]:
    given = weights.pretrained.model_fields_set & wanted
    return [f"pretrained.{key}" for key in Pretrained.model_fields if key in given]


def _card_keys(dataset: Dataset, stage: str) -> list[str]:
    if stage == "fetch":
        return [f"source.{key}" for key in _leaves(dataset.parameters(stage, defaults=False))]
    given = dataset.card.model_fields_set - {"source", *DESCRIPTION}
    source = dataset.card.source
    of_source = source.model_fields_set - {"parts", "downloads"}
    return [
        *(key for key in DataCard.model_fields if key in given),
        *(f"source.{key}" for key in type(source).model_fields if key in of_source),
    ]


def _leaves(values: dict[str, Any]) -> Iterator[str]:
    """The dotted keys of all values that are no dictionaries."""
    for key, value in values.items():
        if isinstance(value, dict):
            yield from (f"{key}.{below}" for below in _leaves(value))
        else:
            yield key


def _outs(paths: Iterable[str]) -> dict[str, list[str]]:
    paths = [path.rstrip("/") for path in paths]
    metrics = [path for path in paths if path.endswith(f"/{_METRICS}")]
    outs = {"outs": [path for path in paths if path not in metrics]}
    return outs | ({"metrics": metrics} if metrics else {})


def _paths(paths: Iterable[Path]) -> list[str]:
    return [path.as_posix() for path in paths]


def _text(what: str, file: Path, content: dict[str, Any]) -> str:
    depth = len(file.parts) - 1
    if depth:
        root = "../" * depth
        stages = content["stages"].items()
        content = content | {"stages": {name: {"wdir": root} | stage for name, stage in stages}}
    yaml = YAML()
    yaml.default_flow_style = False
    yaml.width = 10_000
    yaml.indent(mapping=2, sequence=4, offset=2)
    buffer = io.StringIO()
    yaml.dump(content, buffer)
    return _HEADER.format(what=what) + buffer.getvalue()


def main(argv: list[str] | None = None) -> int:
    parser = argparse.ArgumentParser(
        prog="python -m pipelines.drivers.dvc_yaml",
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument(
        "--check", action="store_true", help="write nothing; fail when one is stale"
    )
    parser.add_argument("--only", metavar="STUDY", help="let DVC read no other study but this one")
    parser.add_argument("--all", action="store_true", help="let DVC read all studies again")
    args = parser.parse_args(argv)

    def run() -> None:
        if args.only is not None:
            Study.load(args.only)
            _CHOICE.write_text(f"/*\n!/{args.only}\n", encoding="utf-8")
            return
        if args.all:
            _CHOICE.unlink(missing_ok=True)
            return
        if args.check:
            difference = stale()
            if difference:
                raise PipelineError(
                    f"dvc.yaml files are stale; write them with make dvc\n{difference}"
                )
            return
        for path, text in files().items():
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_text(text, encoding="utf-8", newline="\n")

    return guarded(run)


if __name__ == "__main__":
    sys.exit(main())
