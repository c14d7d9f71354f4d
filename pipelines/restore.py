"""Bring a published study back into `results/`, to report on it again without training it again.

Copies what `reports/<study>/` holds of the runs, of the stages before the report, and the images
that it shows. Weights and predictions are not published: what needs them (`evaluate`, other images)
stays without, and the drivers, which see that outputs are missing, would make them anew. So go on
with the commands of the stages:

    python -m pipelines.restore --study digits
    python -m pipelines.fetch --study digits && python -m pipelines.prepare --study digits
    python -m pipelines.analyse --study digits
    python -m pipelines.report --study digits
"""

from __future__ import annotations

import shutil
import sys
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

from pipelines.base.artifacts import sha256_file, staged
from pipelines.base.errors import PipelineError
from pipelines.running.cli import guarded, stage_parser
from pipelines.study import RESULTS, RUN_STAGES, STUDY_STAGES, Study


def restore(name: str) -> list[Path]:
    """Copy the published files of the study `name`; returns its declared outputs that are missing.

    Raises:
        PipelineError: when nothing is published under that name, or there are other results than
            the published ones; then nothing is copied.
    """
    published = Study.load_published(name)
    restored = replace(published, home=RESULTS)
    folders = [
        (old, new)
        for old, new in zip(_folders(published), _folders(restored), strict=True)
        if (old / "receipt.json").is_file()
    ]
    for old, new in folders:
        there = new / "receipt.json"
        if there.is_file() and sha256_file(there) != sha256_file(old / "receipt.json"):
            raise PipelineError(
                f"{there}: other results than those in {old}; move {published.name}'s results away "
                f"first: mv {restored.results} {restored.results}.mine"
            )
    for old, new in folders:
        # What is there already is the same, and may be more than was published.
        if not (new / "receipt.json").is_file():
            with staged(new) as scratch:
                shutil.copytree(old, scratch, dirs_exist_ok=True)
    shown, gallery = published.results / "gallery.npz", restored.output("report", "gallery.npz")
    if shown.is_file() and not gallery.exists():
        # The next report takes its images from there.
        gallery.parent.mkdir(parents=True, exist_ok=True)
        shutil.copyfile(shown, gallery)
    return [path for path in _outputs(restored) if not path.exists()]


def _folders(study: Study) -> Iterator[Path]:
    """Where the stages before the report write."""
    for run in study.runs:
        yield from (run.folder(stage) for stage in RUN_STAGES)
    yield from (study.folder(stage) for stage in STUDY_STAGES if stage != "report")


def _outputs(study: Study) -> Iterator[Path]:
    for run in study.runs:
        for stage, names in RUN_STAGES.items():
            yield from (run.output(stage, name) for name in names)
    for stage, names in STUDY_STAGES.items():
        if stage != "report":
            yield from (study.output(stage, name) for name in names)


def main(argv: list[str] | None = None) -> int:
    args = stage_parser("restore", __doc__).parse_args(argv)

    def command() -> None:
        study = Study.load(args.study)
        missing = restore(study.name)
        print(f"restored {study.results} from {study.published}")
        names = list(dict.fromkeys(path.name for path in missing))
        for name in names:
            count = sum(path.name == name for path in missing)
            print(f"not published: {name} ({count})")
        then = Study.load_published(study.name)
        if study.parameters_hash("report") != then.parameters_hash("report"):
            print(
                f"{study.path} has changed since it was published: stages will ask for other runs",
                file=sys.stderr,
            )

    return guarded(command)


if __name__ == "__main__":
    sys.exit(main())
