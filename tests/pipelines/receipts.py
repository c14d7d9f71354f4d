"""Receipts of made-up results."""

from __future__ import annotations

from pathlib import Path

from pipelines.base.artifacts import canonical_json, read_json, sha256_file
from pipelines.base.pixels import digest_on_disk
from pipelines.study import Dataset


def vouch(path: Path) -> None:
    """Let the receipt beside `path` vouch for what it holds now."""
    receipt = path.with_name("receipt.json")
    content = read_json(receipt)
    content["outputs"][path.name] = sha256_file(path)
    receipt.write_text(canonical_json(content))


def vouch_drawn(dataset: Dataset) -> None:
    """Let the receipt of drawn scenes vouch for the images and labels that lie there now."""
    content = read_json(dataset.receipt)
    content["digests"] = {
        split: digest_on_disk(dataset.prepared, split, drawn=True) for split in content["digests"]
    }
    dataset.receipt.write_text(canonical_json(content))
