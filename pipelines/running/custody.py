"""The chain of custody: whether a result is what its receipt, the receipts before it, the present
parameters and the bytes on the disk say.

A stage asks it about what it reads, before it works. What does not fit is an error that names the
file, both values and the command that mends it.
"""

from __future__ import annotations

import functools
import itertools
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

from pipelines.base.artifacts import TIMESTAMP, read_json, sha256_folder
from pipelines.base.errors import PipelineError
from pipelines.base.pixels import digest_on_disk, split_files
from pipelines.base.receipts import Receipt, read_receipt
from pipelines.running import digests
from pipelines.study import DATA, RUN_STAGES, Dataset, Run, Study, Weights
from pipelines.study.cards import DigitsSource

_SHOWN = 3
"""Differences of parameters that an error names, at most."""


@dataclass(frozen=True)
class Made:
    """What a stage made of a data set, of published weights, of a run or of a study."""

    stage: str
    subject: Dataset | Weights | Run | Study

    @property
    def receipt(self) -> Path:
        return self.subject.folder(self.stage) / "receipt.json"

    @property
    def title(self) -> str:
        """What the receipt calls the subject."""
        return self.subject.model if isinstance(self.subject, Weights) else self.subject.name

    @property
    def source(self) -> Path:
        """The file that says what it has to be."""
        if isinstance(self.subject, Dataset):
            return self.subject.card_file
        if isinstance(self.subject, Weights):
            return self.subject.entry_file
        return self.subject.study.path if isinstance(self.subject, Run) else self.subject.path

    @property
    def command(self) -> str:
        """What makes it (again)."""
        return self.subject.command(self.stage)

    @cached_property
    def before(self) -> list[Made]:
        """What it is made from; of a study's stages nothing, see `finished`."""
        if isinstance(self.subject, Dataset):
            return [Made("fetch", self.subject)] if self.stage == "prepare" else []
        if not isinstance(self.subject, Run):
            return []
        made = [Made("prepare", self.subject.dataset)]
        if self.stage == "evaluate":
            return [*made, Made("train", self.subject)]
        return made + ([Made("weights", self.subject.weights)] if self.subject.weights else [])

    @property
    def declared(self) -> list[Path]:
        """All files and folders that the stage writes."""
        if isinstance(self.subject, Run):
            names = (*RUN_STAGES[self.stage], "receipt.json", "runtime.json")
            return [self.subject.output(self.stage, name) for name in names]
        if isinstance(self.subject, Weights):
            paths = self.subject.outputs
        else:
            paths = self.subject.outputs(self.stage)
        return [Path(path) for path in paths]

    def faults(self) -> Iterator[str]:
        """What does not fit between its receipt, those before it and the parameters.

        A receipt before it that is gone, or data, say nothing: results are kept without the data.
        """
        for made in self.before:
            if made.receipt.is_file():
                yield from made.faults()
        if not self.receipt.is_file():
            yield f"{self.receipt}: not found; run {self.command}"
            return
        try:
            receipt = self._read_receipt()
        except PipelineError as error:
            yield str(error)
            return
        if (receipt.stage, receipt.subject) != (self.stage, self.title):
            yield (
                f"{self.receipt}: is of {receipt.stage} of {receipt.subject}, expected "
                f"{self.stage} of {self.title}; run {self.command}"
            )
        elif receipt.parameters != self.subject.parameters_hash(self.stage):
            yield f"{self.receipt}: {self._other_parameters(receipt)}; run {self.command}"
        else:
            yield from self._input_faults(receipt)

    def _read_receipt(self) -> Receipt:
        return read_receipt(self.receipt, f"run {self.command}")

    def _input_faults(self, receipt: Receipt) -> Iterator[str]:
        if not isinstance(self.subject, Study):
            expected = {made.receipt.as_posix() for made in self.before}
            if expected != receipt.inputs.keys():
                odd = sorted(expected ^ receipt.inputs.keys())[0]
                so = "is not" if odd in expected else "is"
                yield (
                    f"{self.receipt}: {odd} {so} among its inputs, expected "
                    f"{' and '.join(sorted(expected)) or 'none'}; run {self.command}"
                )
                return
        for name, digest in receipt.inputs.items():
            found = _digest_of_input(Path(name))
            if found is None and isinstance(self.subject, Study) and not _is_data(name):
                found = "none: it is gone"
            if found not in (None, digest) and not self._is_published_data(name, digest):
                yield (
                    f"{self.receipt}: was made from another {name}: sha256 {digest}, and what lies "
                    f"there has {found}; run {self.command}"
                )

    def _is_published_data(self, name: str, digest: str) -> bool:
        """Whether an input is the receipt of the data that the study was published with, and those
        that lie here have the same pixels: a later version of prepare may say more of them."""
        if not isinstance(self.subject, Run) or Path(name) != self.subject.dataset.receipt:
            return False
        published = self.subject.study.published_data(self.subject.dataset.name).receipt
        if not published.is_file() or digests.digest_of_file(published) != digest:
            return False
        then, now = read_receipt(published), read_receipt(Path(name))
        return bool(now.digests) and (then.digests, then.parameters) == (
            now.digests,
            now.parameters,
        )

    def _other_parameters(self, receipt: Receipt) -> str:
        """How the parameters differ: by name where `runtime.json` says what they were."""
        changed = f"was made with other parameters than {self.source} asks for now"
        now = self.subject.parameters(self.stage, defaults=False)
        old, new = (dict(_flat(values)) for values in (self._parameters_then(), now))
        if not old:
            expected = self.subject.parameters_hash(self.stage)
            return f"{changed} (hash {receipt.parameters}, expected {expected})"
        names = [name for name in {**old, **new} if old.get(name) != new.get(name)]
        told = [
            f"{name} was {old.get(name, 'the default')}, is {new.get(name, 'the default')}"
            for name in names[:_SHOWN]
        ]
        more = f" and {len(names) - _SHOWN} more" if len(names) > _SHOWN else ""
        return f"{changed} ({'; '.join(told)}{more})"

    def _parameters_then(self) -> Mapping[str, Any]:
        """What `runtime.json` says; nothing where an earlier version wrote it."""
        try:
            parameters = read_json(self.receipt.with_name("runtime.json"))["parameters"]
        except (PipelineError, LookupError, TypeError):
            return {}
        return parameters if isinstance(parameters, Mapping) else {}

    def byte_faults(self, files: Iterable[Path] | None = None) -> Iterator[str]:
        """Which of `files` (without it, of all that the receipt vouches for) are not as it says.

        `files` have to be there; of all, those that are gone are left out.
        """
        receipt = self._read_receipt()
        folder = self.receipt.parent
        listed = (folder / name for name in receipt.outputs)
        for path in [each for each in listed if each.is_file()] if files is None else files:
            if not path.is_file():
                yield f"{path}: not found; run {self.command}"
            elif path.name not in receipt.outputs:
                yield f"{path}: {self.receipt} does not vouch for it; run {self.command}"
            elif (found := digests.digest_of_file(path)) != receipt.outputs[path.name]:
                yield (
                    f"{path}: was changed or damaged: sha256 {found}, expected "
                    f"{receipt.outputs[path.name]}, as {self.receipt} says; run {self.command}"
                )

    def content_faults(self) -> Iterator[str]:
        """Which folders that the receipt vouches for do not hold what it says."""
        for name, expected in self._read_receipt().digests.items():
            place, files = _content(self.stage, self.receipt.parent, name)
            try:
                found = digests.remembered(place, files, functools.partial(self._digest, name))
            except (OSError, SyntaxError, ValueError) as error:  # Pillow's, for what is no image.
                found = f"none ({error})"
            if found != expected:
                yield (
                    f"{place}: was changed or damaged: digest {found}, expected {expected}, as "
                    f"{self.receipt} says; run {self.command}"
                )

    def _digest(self, name: str) -> str:
        if self.stage == "prepare" and isinstance(self.subject, Dataset):
            drawn = isinstance(self.subject.card.source, DigitsSource)
            return digest_on_disk(self.receipt.parent, name, drawn=drawn)
        return sha256_folder(self.receipt.with_name(name))


def require(made: Made, files: Iterable[Path] | None = None, *, content: bool = False) -> None:
    """Refuse what is not as it has to be.

    Args:
        files: see `byte_faults`.
        content: whether the content of its folders is read, too.

    Raises:
        PipelineError: with the first thing that does not fit.
    """
    faults = itertools.chain(
        made.faults(),
        made.byte_faults(files),
        made.content_faults() if content else (),
    )
    for fault in faults:
        raise PipelineError(fault)


def require_vouched(path: Path) -> None:
    """Refuse a file that is not as the receipt beside it says, where there is one that names it.

    Raises:
        PipelineError: naming the file and both digests.
    """
    receipt = path.with_name("receipt.json")
    if not path.is_file() or not receipt.is_file():
        return
    expected = read_receipt(receipt).outputs.get(path.name)
    if expected not in (None, found := digests.digest_of_file(path)):
        raise PipelineError(
            f"{path}: was changed or damaged: sha256 {found}, expected {expected}, as {receipt} "
            "says; make it again"
        )


def remember(stage: str, folder: Path) -> None:
    """Keep the digests of what `stage` just wrote into `folder`: nobody has to hash it again."""
    receipt = read_receipt(folder / "receipt.json")
    for name, digest in receipt.outputs.items():
        digests.remember_file(folder / name, digest)
    for name, digest in receipt.digests.items():
        digests.remember(*_content(stage, folder, name), digest)


def _content(stage: str, folder: Path, name: str) -> tuple[str, list[Path]]:
    """What a digest of the receipt is of: the place, as one says it, and its files."""
    if stage == "prepare":
        return f"{folder}/*/{name}", split_files(folder, name)
    files = [path for path in sorted((folder / name).rglob("*")) if path.is_file()]
    return f"{folder / name}", [path for path in files if path.name != TIMESTAMP]


def _digest_of_input(path: Path) -> str | None:
    """sha256 of a file; where it is gone, as after `restore`, its stage's receipt may know."""
    if path.is_file():
        return digests.digest_of_file(path)
    receipt = path.with_name("receipt.json")
    return read_receipt(receipt).outputs.get(path.name) if receipt.is_file() else None


def _is_data(name: str) -> bool:
    return Path(name).is_relative_to(DATA)


def _flat(values: Mapping[str, Any], before: str = "") -> Iterator[tuple[str, Any]]:
    """Dotted keys and values of all that is no mapping or list."""
    for key, value in values.items():
        name = f"{before}{key}"
        if isinstance(value, list):
            value = dict(enumerate(value))
        if isinstance(value, Mapping):
            yield from _flat(value, f"{name}.")
        else:
            yield name, value
