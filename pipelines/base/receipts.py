"""A receipt as it is read: what a stage says of its outputs and of what they were made from."""

from __future__ import annotations

from pathlib import Path

from pydantic import BaseModel, ConfigDict, Field

from pipelines.base.reading import read_json


class Receipt(BaseModel):
    """What `write_receipt` wrote; digests are sha256."""

    model_config = ConfigDict(extra="forbid", frozen=True, strict=True)

    stage: str
    subject: str
    """What the stage worked on: the name of a run, a data set, a model or a study."""
    parameters: str
    """Hash of the parameters that it was made with."""
    inputs: dict[str, str]
    """By path, relative to the project's root."""
    outputs: dict[str, str]
    """By name, of the files beside the receipt."""
    digests: dict[str, str] = Field(default_factory=dict)
    """Of what lies in folders beside it."""
    chosen: dict[str, str | bool] = Field(default_factory=dict)
    """What the parameters leave to the machine, as it was."""


def read_receipt(path: Path, remedy: str | None = None) -> Receipt:
    """The receipt at `path`.

    Raises:
        PipelineError: when it is missing, or no receipt; naming the first thing that is wrong.
    """
    content = read_json(path, Receipt, remedy)
    return Receipt.model_validate(content)
