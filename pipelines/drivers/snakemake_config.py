"""What `snakemake --config` says of the study."""

from __future__ import annotations

import difflib
from collections.abc import Mapping
from typing import Any

from pipelines.base.errors import PipelineError

_KEYS = ("study",)
_DEFAULT = "default"


def named_study(config: Mapping[str, Any]) -> str:
    """The name or path of the study that `--config study=NAME` asks for.

    Raises:
        PipelineError: for another key, and for a value that is not a name.
    """
    for key in config:
        if key not in _KEYS:
            close = difflib.get_close_matches(key.lower(), _KEYS)
            meant = f"; did you mean {close[0]}={config[key]}?" if close else ""
            raise PipelineError(f"--config {key}: no such key; expected study=NAME{meant}")
    study = config.get("study", _DEFAULT)
    if study is None:
        raise PipelineError("--config study=: is empty; expected study=NAME")
    if not isinstance(study, str):
        # Snakemake makes numbers and truth values of what looks like one: 007 is a 7.
        raise PipelineError(
            f"--config study={study}: was read as a {type(study).__name__}; expected a name, or "
            "the path params/studies/NAME.yaml where the name looks like a number"
        )
    return study
