"""Bring the images and labels of a data set in files into the canonical layout."""

from __future__ import annotations

from collections import defaultdict
from pathlib import Path

from tqdm import tqdm

from pipelines.prepare import faults as trouble
from pipelines.prepare.account import SplitAccount, of_written
from pipelines.prepare.faults import Fault
from pipelines.prepare.orientation import Rule, Tagged, rule_for
from pipelines.prepare.pairs import Pair
from pipelines.prepare.splits import find_all, not_looked_at
from pipelines.prepare.support import unsupported
from pipelines.prepare.writer import Written, write_pairs
from pipelines.study import Dataset
from pipelines.study.digits import Split


def write_files(
    dataset: Dataset, folder: Path, jobs: int | None
) -> tuple[dict[Split, SplitAccount], Rule | None]:
    """Write `folder/images/` and `folder/labels/`.

    Returns:
        The account of each split, and what EXIF orientations did, where files have some.

    Raises:
        PipelineError: naming all files of all splits that cannot be used, unless the card says that
            they are to be left out; or what the data cannot support, such as a test of images that
            are trained on.
    """
    card = dataset.card
    work = _Work(dataset, folder, jobs)
    found = find_all(dataset.raw, card.files, card.classes)
    others = not_looked_at(dataset.raw, card.files, found)
    for split, folders in others.items():
        for name, counts in folders.items():
            told = ", ".join(f"{count} {suffix}" for suffix, count in counts.items())
            print(f"{dataset.name} {split}: left out of {name}: {told}")
    rule = card.files.exif
    waiting = {split: work.write(split, found[split][0], rule) for split in card.splits}
    tagged = [pair for pairs in waiting.values() for pair in pairs.values()]
    stopping: list[Fault] = []
    if tagged:
        rule, stopping = rule_for(tagged)
        for split, pairs in waiting.items():
            work.write(split, list(pairs), rule)
    accounts: dict[Split, SplitAccount] = {}
    for split in card.splits:
        written, faults = work.written[split], found[split][1] + work.faults[split]
        stopping += [fault for fault in faults if fault.fatal or card.files.faulty == "error"]
        if not written and not stopping:
            stopping += [Fault(split, "has no image that can be used", fatal=True), *faults]
        accounts[split] = of_written(written, faults, len(card.classes), others.get(split, {}))
    stopping = stopping or unsupported(card, accounts)
    if stopping:
        raise trouble.error(f"{dataset.card_file}: source ({dataset.raw})", stopping)
    return accounts, rule


class _Work:
    """What was written and what was not, by split."""

    def __init__(self, dataset: Dataset, folder: Path, jobs: int | None) -> None:
        self.dataset, self.folder, self.jobs = dataset, folder, jobs
        self.written: dict[Split, list[Written]] = defaultdict(list)
        self.faults: dict[Split, list[Fault]] = defaultdict(list)

    def write(self, split: Split, pairs: list[Pair], rule: Rule | None) -> dict[Pair, Tagged]:
        """Write the pairs of a split, but for those that wait for a rule, which are returned."""
        dataset = self.dataset
        results = write_pairs(pairs, dataset.card, dataset.raw, self.folder, split, self.jobs, rule)
        progress = tqdm(results, total=len(pairs), desc=f"{dataset.name} {split}", disable=None)
        waiting: dict[Pair, Tagged] = {}
        for pair, result in zip(pairs, progress, strict=True):
            match result:
                case Written():
                    self.written[split].append(result)
                case Tagged():
                    waiting[pair] = result
                case _:
                    self.faults[split] += result
        return waiting
