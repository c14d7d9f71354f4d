"""Turn raw data into the one layout that training and evaluation read.

`data/prepared/<dataset>/images/<split>/<stem>.png` (RGB; `.jpg` where an RGB JPEG was copied) and
`labels/<split>/<stem>.png` (indexed, class ids, the card's ignore index for void), with
`info.json`: classes, image counts, each class's share of the labelled training pixels, head, mid
and tail classes, a digest of each split, and the files that were left out.
"""

from __future__ import annotations

import sys

from pipelines.artifacts import Stopwatch, canonical_json, staged, write_receipt
from pipelines.cards import FilesSource
from pipelines.cli import chosen_datasets, guarded, stage_parser
from pipelines.errors import PipelineError
from pipelines.preparing.account import describe
from pipelines.preparing.files import write_files
from pipelines.preparing.scenes import write_scenes
from pipelines.study import Dataset


def prepare(dataset: Dataset, jobs: int | None = None) -> None:
    """Write images, labels, `info.json` and a receipt.

    Args:
        jobs: processes that read and write files; None for one a processor.

    Raises:
        PipelineError: when fetch has not run, raw files cannot be used, or a split differs from the
            digest in the card.
    """
    watch, card = Stopwatch(), dataset.card
    if not dataset.fetched.is_file():
        raise PipelineError(
            f"{dataset.fetched}: not found; run python -m pipelines.fetch --dataset {dataset.name}"
        )
    with staged(dataset.prepared) as scratch:
        if isinstance(card.source, FilesSource):
            accounts = write_files(dataset, scratch, jobs)
        else:
            accounts = write_scenes(dataset, scratch)
        info = describe(card, accounts)
        _check_digests(dataset, info["digests"])
        (scratch / "info.json").write_text(canonical_json(info), encoding="utf-8")
        write_receipt(
            scratch,
            stage="prepare",
            subject=dataset.name,
            parameters=dataset.parameters_hash("prepare"),
            inputs=[dataset.fetched],
            digests=info["digests"],
        )
        watch.write(scratch)


def _check_digests(dataset: Dataset, digests: dict[str, str]) -> None:
    for split, expected in dataset.card.digests.items():
        if digests[split] != expected:
            raise PipelineError(
                f"{dataset.card_file}: digests.{split}: expected {expected}, the prepared images "
                f"and labels have {digests[split]}; they are not the data of the published results"
            )


def main(argv: list[str] | None = None) -> int:
    parser = stage_parser(__doc__, datasets=True)
    parser.add_argument(
        "--jobs", type=int, metavar="N", help="processes that read and write (default: all CPUs)"
    )
    args = parser.parse_args(argv)

    def command() -> None:
        if args.jobs is not None and args.jobs < 1:
            raise PipelineError(f"--jobs {args.jobs}: expected 1 or more")
        for dataset in chosen_datasets(args):
            prepare(dataset, args.jobs)
            print(f"prepared {dataset.name} in {dataset.prepared}")

    return guarded(command)


if __name__ == "__main__":
    sys.exit(main())
