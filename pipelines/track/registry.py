"""Register weights as models: for each data set and model, one version for each method.

The version is that of the lowest seed that the study gives the method. The rule is fixed before any
run: the best seed, or the best on some split, would show a method better than it is. So the model
registry holds a typical result of each method, and its scores are those of one run, not the means
that the report compares.

Where several checkouts share a store, each has versions of its own. The alias of a method is that
of the first one; another one's has its id behind it.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from pipelines.base.errors import PipelineError
from pipelines.running.custody import Made
from pipelines.study import Run, Study
from pipelines.track.owner import OWNER_KEY, Owner
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
    # MLflow's filters know no way to write a quote.
    study = run.study.name.replace("'", "_")
    return f"{study}.{run.dataset.name}.{run.model}"


def alias(method: str) -> str:
    """The method's name, unless MLflow keeps it for itself (`latest`, `v1`)."""
    reserved = method == "latest" or (method[0] == "v" and method[1:].isdigit())
    return f"method-{method}" if reserved else method


def register(client: MlflowClient, owner: Owner, run: Run, view: View, run_id: str) -> bool:
    """Make the registry hold the weights of `run`, which `run_id` shows, and none of the owner's
    older ones.

    The weights go to the artifacts of that run, and only then is there a version that names them.

    Returns:
        False where the registry has none of them and they are not here, as those of a run that
        was restored from a publication; then nothing is changed.

    Raises:
        PipelineError: when they are not what their receipt says.
    """
    name, sha256 = model_name(run), view.tags[_SHA256]
    versions = [
        version
        for version in client.search_model_versions(f"name = '{name}'")
        if (version.tags.get(_METHOD), version.tags.get(OWNER_KEY)) == (run.method, owner.key)
    ]
    wanted = [v for v in versions if (v.run_id, v.tags.get(_SHA256)) == (run_id, sha256)]
    if not wanted and not run.output("train", "weights.safetensors").exists():
        return False
    _create_model(client, run)
    version = wanted[0] if wanted else _create_version(client, owner, run, view, run_id)
    aliases = client.get_registered_model(name).aliases
    own_alias = alias(run.method)
    known = {str(each.version) for each in (*versions, version)}
    if str(aliases.get(own_alias, version.version)) not in known:
        own_alias = f"{own_alias}-{owner.key}"
    if str(aliases.get(own_alias)) != str(version.version):
        client.set_registered_model_alias(name, own_alias, version.version)
    for old in versions:
        if str(old.version) != str(version.version):
            client.delete_model_version(name, old.version)
    return True


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


def _create_version(
    client: MlflowClient, owner: Owner, run: Run, view: View, run_id: str
) -> ModelVersion:
    files = [run.output("train", name) for name in _FILES]
    for fault in Made("train", run).byte_faults(files):
        raise PipelineError(fault)
    for file in files:
        client.log_artifact(run_id, file.as_posix(), FOLDER)
    artifacts = client.get_run(run_id).info.artifact_uri
    return client.create_model_version(
        model_name(run),
        source=f"{artifacts}/{FOLDER}",
        run_id=run_id,
        tags={
            _SHA256: view.tags[_SHA256],
            _METHOD: run.method,
            OWNER_KEY: owner.key,
            "sar.run": run.name,
            "sar.receipt.train": view.tags["sar.receipt.train"],
        },
        description=f"{run.spec.label}, seed {run.seed}, {run.training.iterations} iterations",
        await_creation_for=0,
    )
