"""The folders and files of the project, and what each stage writes."""

from __future__ import annotations

from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
"""The checkout that this package lies in, or the folder that it is installed into."""

PARAMS = Path("params")
DATA = Path("data")
RESULTS = Path("results")
WORK = Path("work")
REPORTS = Path("reports")
CHECKED = WORK / ".checked"
"""What `check` has tried and found good: an empty file each."""
COMPILED = "compiled"
"""In the work folder of a study: what torch.compile made for its runs."""
REFERENCE = PARAMS / "reference.yaml"
"""Published results of others; a project may do without."""
DOWNLOADS = DATA / "downloads"
CHECKSUMS = PARAMS / "datasets" / "checksums.json"
"""What downloads were, whose publishers name no checksum; written by fetch."""
COMMANDS = PARAMS / "datasets" / "commands.json"
"""The programs of data cards that whoever keeps this project has looked at: lists of words."""

DESCRIPTION = {
    *("title", "licence", "citation", "homepage", "digests"),
    *("withheld_images", "subsets"),
}
"""Keys of a data card that do not determine the data."""

WEIGHTS_DECIDED_BY = {"sha256", "prefix", "rename"}
"""Keys of a model entry's `pretrained` that determine the weights; the others say where they are
had."""

WEIGHTS_SHOWN = {"file", "sha256"}
"""Keys of it that a report shows."""

ENTRY_OF_TRAINING = {"pretrained", "precision", "accumulate", "compile"}
"""Keys of a model entry that training alone asks: evaluation only sees what came of them."""

DATASET_STAGES: dict[str, tuple[Path, tuple[str, ...]]] = {
    "fetch": (DATA / "raw", ("files/",)),
    "prepare": (DATA / "prepared", ("images/", "labels/", "info.json")),
}
"""Where each stage of a data set writes, and what, besides receipt.json and runtime.json.

A name that ends in a slash is a folder.
"""

MODEL_STAGES: dict[str, tuple[Path, tuple[str, ...]]] = {
    "weights": (DATA / "weights", ("backbone.safetensors",))
}
"""Where the stage of a model with published weights writes and what, as above."""

RUN_STAGES: dict[str, tuple[str, ...]] = {
    "train": (
        *("weights.safetensors", "plugin.safetensors", "diagnostics.safetensors"),
        *("curves.csv", "config.py"),
    ),
    "evaluate": (
        *("metrics.json", "scores.json", "confusion.csv"),
        *("predictions.npz", "analysis.npz"),
    ),
}
"""What each stage of a run writes, besides receipt.json and runtime.json."""

SUMMARY = "summary.json"
"""Of compare: the mean mIoU of each method, for `dvc metrics` and `dvc exp show`. The same as in
`summary.csv`, which the receipt vouches for."""

STUDY_STAGES: dict[str, tuple[str, ...]] = {
    "compare": (
        *("runs.csv", "summary.csv", "paired.csv", "claims.csv"),
        *("curves.csv", "confusion.csv", SUMMARY),
    ),
    "analyse": (
        *("measures.csv", "summary.csv", "paired.csv", "classes.csv", "long_tail.csv"),
        *("drift.csv", "drift_compared.csv", "anchors.csv", "left_out.csv"),
    ),
    "report": (
        *("report.md", "index.html", "tables/", "figures/", "runtime/", "gallery.npz"),
        *("table.md", "table.csv", "table.tex", "per_class.csv", "claims.csv"),
    ),
}
"""What each stage of a whole study writes, besides receipt.json and runtime.json.

A name that ends in a slash is a folder.
"""

STAGES = (*DATASET_STAGES, *RUN_STAGES, *STUDY_STAGES)
"""All that are commands of their own: `python -m pipelines.STAGE`."""

VIEWS = ("index.html",)
"""Outputs of report that show run-time facts (time, memory, commits): published, but no receipt
vouches for them, since they differ between replays."""

SEEN_IN_TRAINING = {"mode", "crop_size", "stride", "base_size"}
"""Keys of `evaluation` that the looks at the val split during training depend on."""


def stage_outputs(folder: Path, names: tuple[str, ...]) -> list[str]:
    """What a stage that writes into `folder` leaves there; a folder ends in a slash."""
    return [f"{folder.as_posix()}/{name}" for name in (*names, "receipt.json", "runtime.json")]
