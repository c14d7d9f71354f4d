"""Bring the images and labels of a data set in files into the canonical layout."""

from __future__ import annotations

from pathlib import Path

from tqdm import tqdm

from pipelines.prepare import faults as trouble
from pipelines.prepare.account import SplitAccount, of_written
from pipelines.prepare.faults import Fault
from pipelines.prepare.pairs import find_all
from pipelines.prepare.writer import Written, write_pairs
from pipelines.study import Dataset


def write_files(dataset: Dataset, folder: Path, jobs: int | None) -> dict[str, SplitAccount]:
    """Write `folder/images/` and `folder/labels/`, and account for each split.

    Raises:
        PipelineError: naming all files of all splits that cannot be used, unless the card says that
            they are to be left out.
    """
    card = dataset.card
    found = find_all(dataset.raw, card.files)
    accounts: dict[str, SplitAccount] = {}
    stopping: list[Fault] = []
    for split in card.splits:
        pairs, faults = found[split]
        results = write_pairs(pairs, card, dataset.raw, folder, split, jobs)
        progress = tqdm(results, total=len(pairs), desc=f"{dataset.name} {split}", disable=None)
        written: list[Written] = []
        for result in progress:
            if isinstance(result, Written):
                written.append(result)
            else:
                faults += result
        stopping += [fault for fault in faults if fault.fatal or card.files.faulty == "error"]
        if not written and not stopping:
            stopping.append(Fault(split, "has no image that can be used", fatal=True))
        accounts[split] = of_written(written, faults, len(card.classes))
    if not stopping and not accounts["train"].pixels.any():
        stopping.append(Fault("train", "has no labelled pixel", fatal=True))
    if stopping:
        raise trouble.error(f"{dataset.card_file}: source ({dataset.raw})", stopping)
    return accounts
