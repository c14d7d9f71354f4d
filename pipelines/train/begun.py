"""What a training left to its machine when it began, and that it goes on in the same way."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from pipelines.base.artifacts import canonical_json, write_whole
from pipelines.base.errors import PipelineError
from pipelines.base.reading import read_json
from pipelines.running.curves import from_the_start
from pipelines.running.processes import rank
from pipelines.study import Run, params_file

CHOSEN = "chosen.json"


def as_begun(run: Run, work: Path, computed: dict[str, Any]) -> dict[str, Any]:
    """Of how `run` is computed here, what its model entry leaves to the machine (`auto`).

    Noted in the work folder when the training begins there. A training that goes on where another
    choice is made would end with the weights of neither.

    Raises:
        PipelineError: when the training in `work` was begun in another way.
    """
    chosen = {key: value for key, value in computed.items() if getattr(run.entry, key) == "auto"}
    if not chosen or rank() > 0:
        return chosen
    path = work / CHOSEN
    if not path.is_file():
        write_whole(path, canonical_json(chosen))
        return chosen
    begun = read_json(path, dict[str, str | bool], from_the_start(work))
    for key, value in chosen.items():
        if begun.get(key) != value:
            raise PipelineError(
                f"{path}: {run.name} was begun with {key} {begun.get(key)}, and this machine "
                f"chooses {value} ({params_file('models', run.model)}: {key}: auto); go on where "
                f"it was begun, or {from_the_start(work)}"
            )
    return chosen
