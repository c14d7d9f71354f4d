"""Write the finished runs of a study into archives that travel: no weights, 15 MiB each at most.

What a publication keeps of a run (metrics, receipts, run-time facts, curves, `analysis.npz`) is
enough to compare, analyse, report and publish it elsewhere; the machine that computed it stays in
its `runtime.json`. There: `python -m pipelines.restore --study STUDY ARCHIVE...`.
"""

from __future__ import annotations

import shutil
import sys
import tempfile
import zipfile
from collections.abc import Iterator, Sequence
from pathlib import Path

from pipelines.base.artifacts import sha256_file
from pipelines.base.errors import PipelineError
from pipelines.publish import manifest
from pipelines.publish import runs as kept
from pipelines.running.cli import guarded, stage_parser
from pipelines.running.finished import finished
from pipelines.study import RUN_STAGES, WORK, Run, Study

LIMIT = 15 * 2**20
"""Bytes that an archive has at most."""

_MEMBER = 1024
"""Bytes for a member besides its content: its name twice, its line in the manifest, deflate's."""

_EPOCH = (1980, 1, 1, 0, 0, 0)
"""The time of every member, so that equal runs give equal archives."""


def pack(study: Study, folder: Path, limit: int = LIMIT) -> list[Path]:
    """Write archives into `folder`, each called by what it holds; returns them in order.

    So those of several machines lie side by side, and what was packed before is written again.

    Raises:
        PipelineError: when no run is finished, or one alone is beyond `limit`.
    """
    runs = [run for run in study.runs if finished(run)]
    if not runs:
        raise PipelineError(
            f"study {study.name!r}: none of its {len(study.runs)} runs is finished, so there is "
            "nothing to pack"
        )
    parts = list(_parts(study, runs, limit))
    folder.mkdir(parents=True, exist_ok=True)
    WORK.mkdir(parents=True, exist_ok=True)
    archives = []
    # Predictions do not travel; what a report showed of them does.
    gallery = study.output("report", "gallery.npz")
    for part in parts:
        with tempfile.TemporaryDirectory(prefix="pack.", dir=WORK) as scratch:
            content = Path(scratch) / "content"
            kept.copy(study, part, content)
            if part is parts[0] and gallery.is_file():
                shutil.copyfile(gallery, content / gallery.name)
            manifest.write(content)
            path = folder / f"{study.name}-{sha256_file(content / manifest.NAME)[:8]}.zip"
            _zip(content, Path(scratch) / path.name)
            shutil.move(Path(scratch) / path.name, path)
        archives.append(path)
    return archives


def _parts(study: Study, runs: Sequence[Run], limit: int) -> Iterator[list[Run]]:
    """The runs in order, as many together as surely fit, whether or not they can be compressed."""
    facts = [path for each in study.datasets.values() for path in (each.info, each.receipt)]
    facts = [path for path in (*facts, study.output("report", "gallery.npz")) if path.is_file()]
    base = 2 * _MEMBER + _bytes([study.path, *facts])
    part: list[Run] = []
    size = base
    for run in runs:
        own = _bytes([path for stage in RUN_STAGES for path in kept.files(run, stage)])
        if base + own > limit:
            raise PipelineError(
                f"{run.folder('evaluate')}: {run.name} takes {own} bytes, more than an archive of "
                f"{limit} holds"
            )
        if size + own > limit:
            yield part
            part, size = [], base
        part.append(run)
        size += own
    yield part


def _bytes(paths: Sequence[Path]) -> int:
    return sum(path.stat().st_size + _MEMBER for path in paths)


def _zip(content: Path, archive: Path) -> None:
    with zipfile.ZipFile(archive, "w", zipfile.ZIP_DEFLATED) as opened:
        for path in sorted(content.rglob("*")):
            if path.is_file():
                member = zipfile.ZipInfo(path.relative_to(content).as_posix(), _EPOCH)
                member.compress_type = zipfile.ZIP_DEFLATED
                member.external_attr = 0o100644 << 16
                opened.writestr(member, path.read_bytes())


def main(argv: list[str] | None = None) -> int:
    parser = stage_parser("pack", __doc__)
    parser.add_argument(
        *("-o", "--output"), type=Path, metavar="DIR", help="where to (default: work/STUDY/packed)"
    )
    args = parser.parse_args(argv)

    def command() -> None:
        study = Study.load(args.study)
        folder = args.output or study.work / "packed"
        if folder.exists() and not folder.is_dir():
            raise PipelineError(f"--output {folder}: expected a folder, found a file")
        for path in pack(study, folder):
            print(f"{path}  {path.stat().st_size / 2**20:.1f} MiB")
        done = sum(finished(run) for run in study.runs)
        print(f"{done} of {len(study.runs)} runs are packed")

    return guarded(command)


if __name__ == "__main__":
    sys.exit(main())
