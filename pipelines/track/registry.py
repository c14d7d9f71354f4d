"""Register weights as models: for each data set and model, one version for each method.

The version is that of the lowest seed that the study gives the method. The rule is fixed before any
run: the best seed, or the best on some split, would show a method better than it is. So the model
registry holds a typical result of each method, and its scores are those of one run, not the means
that the report compares.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from pipelines.study import Run, Study
from pipelines.track.view import View

if TYPE_CHECKING:
    from mlflow.entities.model_registry import ModelVersion
    from mlflow.tracking import MlflowClient

FOLDER = "model"
"""Artifact folder of a registered run: its weights and the config that they were trained with."""

_FILES = ("weights.safetensors", "config.py")
_SHA256 = "sar.weights"
_METHOD = "sar.method"


def registered_runs(study: Study) -> list[Run]:
    """Of each data set, model and method, the run with the lowest seed."""
    lowest: dict[tuple[str, str, str], Run] = {}
    for run in sorted(study.runs, key=lambda run: run.seed):
        lowest.setdefault((run.dataset.name, run.model, run.method), run)
    return [run for run in study.runs if run in lowest.values()]


def model_name(run: Run) -> str:
    return f"{run.study.name}.{run.dataset.name}.{run.model}"


def alias(method: str) -> str:
    """The method's name, unless MLflow keeps it for itself (`latest`, `v1`)."""
    reserved = method == "latest" or (method[0] == "v" and method[1:].isdigit())
    return f"method-{method}" if reserved else method


def register(client: MlflowClient, run: Run, view: View, run_id: str) -> None:
    """Make the registry hold the weights of `run`, which `run_id` shows, and no older ones of it.

    The weights go to the artifacts of that run, and only then is there a version that names them.
    """
    name, sha256 = model_name(run), view.tags[_SHA256]
    _create_model(client, run)
    versions = [
        version
        for version in client.search_model_versions(f"name = '{name}'")
        if version.tags.get(_METHOD) == run.method
    ]
    wanted = [v for v in versions if (v.run_id, v.tags.get(_SHA256)) == (run_id, sha256)]
    version = wanted[0] if wanted else _create_version(client, run, view, run_id)
    aliases = client.get_registered_model(name).aliases
    if str(aliases.get(alias(run.method))) != str(version.version):
        client.set_registered_model_alias(name, alias(run.method), version.version)
    for old in versions:
        if str(old.version) != str(version.version):
            client.delete_model_version(name, old.version)


def _create_model(client: MlflowClient, run: Run) -> None:
    from mlflow.exceptions import MlflowException
    from mlflow.protos.databricks_pb2 import RESOURCE_DOES_NOT_EXIST, ErrorCode

    try:
        client.get_registered_model(model_name(run))
    except MlflowException as error:
        if error.error_code != ErrorCode.Name(RESOURCE_DOES_NOT_EXIST):
            raise
        client.create_registered_model(
            model_name(run),
            tags={"study": run.study.name, "dataset": run.dataset.name, "model": run.model},
            description=(
                f"{run.entry.title} on {run.dataset.card.title}, study {run.study.name}. "
                "One version for each method: the run with its lowest seed, whatever its score."
            ),
        )


def _create_version(client: MlflowClient, run: Run, view: View, run_id: str) -> ModelVersion:
    for file in _FILES:
        client.log_artifact(run_id, run.output("train", file).as_posix(), FOLDER)
    artifacts = client.get_run(run_id).info.artifact_uri
    return client.create_model_version(
        model_name(run),
        source=f"{artifacts}/{FOLDER}",
        run_id=run_id,
        tags={
            _SHA256: view.tags[_SHA256],
            _METHOD: run.method,
            "sar.run": run.name,
            "sar.receipt.train": view.tags["sar.receipt.train"],
        },
        description=f"{run.spec.label}, seed {run.seed}, {run.training.iterations} iterations",
        await_creation_for=0,
    )
