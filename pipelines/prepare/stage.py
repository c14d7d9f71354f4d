"""Turn raw data into the one layout that training and evaluation read.

`data/prepared/<dataset>/images/<split>/<stem>.png` (RGB; `.jpg` where an RGB JPEG was copied) and
`labels/<split>/<stem>.png` (indexed, class ids, the card's ignore index for void), with
`info.json`: classes, image counts, each class's share of the labelled training pixels, head, mid
and tail classes, a digest of each split, the files that were left out, what EXIF orientations did,
and the images that are in two splits. What a reader has to know of these is printed as a warning,
and said by the report.
"""

from __future__ import annotations

from pipelines.base.artifacts import canonical_json
from pipelines.base.errors import PipelineError
from pipelines.base.remarks import remarks
from pipelines.prepare.account import describe
from pipelines.prepare.files import write_files
from pipelines.prepare.scenes import write_scenes
from pipelines.prepare.support import shared_images
from pipelines.running import custody
from pipelines.running.custody import Made
from pipelines.running.stage import only_writer, writing
from pipelines.study import Dataset
from pipelines.study.cards import FilesSource


@only_writer("prepare")
def prepare(dataset: Dataset, jobs: int | None = None) -> None:
    """Write images, labels, `info.json` and a receipt.

    Args:
        jobs: processes that read and write files; None for one a processor.

    Raises:
        PipelineError: when fetch has not run for the present card, raw files were changed or cannot
            be used, or a split differs from the digest in the card.
    """
    custody.require(Made("fetch", dataset), content=True)
    with writing("prepare", dataset, [dataset.fetched]) as outputs:
        if isinstance(dataset.card.source, FilesSource):
            accounts, exif = write_files(dataset, outputs.folder, jobs)
        else:
            accounts, exif = write_scenes(dataset, outputs.folder), None
        info = describe(dataset.card, accounts, shared_images(accounts), exif)
        _check_digests(dataset, info["digests"])
        (outputs.folder / "info.json").write_text(canonical_json(info), encoding="utf-8")
        outputs.digests |= info["digests"]
    for said in remarks(info):
        print(f"warning: {dataset.name}: {said}")


def _check_digests(dataset: Dataset, digests: dict[str, str]) -> None:
    for split, expected in dataset.card.digests.items():
        if digests[split] != expected:
            raise PipelineError(
                f"{dataset.card_file}: digests.{split}: expected {expected}, the prepared images "
                f"and labels have {digests[split]}; they are not the data of the published results"
            )
