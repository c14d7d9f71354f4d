"""Whatever is read may be broken: each reader gives the value that was written, or an error that
names the file; none raises anything else, goes on for ever or takes a changed number for it."""

from __future__ import annotations

import contextlib
import json
import os
import random
import signal
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import scipy.io
import torch
from matplotlib.figure import Figure
from PIL import Image
from safetensors.torch import save_file

from pipelines.analyse.analyses import Analyses
from pipelines.analyse.stage import analyse
from pipelines.base.artifacts import write_whole
from pipelines.base.errors import PipelineError
from pipelines.base.frames import read_confusion, read_csv
from pipelines.base.reading import read_npz, read_tensors, read_text
from pipelines.base.receipts import read_receipt
from pipelines.compare.comparison import Comparison
from pipelines.compare.stage import compare
from pipelines.evaluate import kept
from pipelines.fetch import checksums, glyphs
from pipelines.prepare.arrays import read_array
from pipelines.prepare.coco import read_coco
from pipelines.prepare.faults import Unusable
from pipelines.prepare.labelme import drawn, read_labelme
from pipelines.prepare.lists import lines
from pipelines.prepare.masks import decode
from pipelines.prepare.matlab import read_matrix
from pipelines.prepare.raster import read_image, read_index
from pipelines.publish import manifest, verify
from pipelines.publish.stage import publish
from pipelines.rendering import style
from pipelines.report import gallery
from pipelines.report.stage import report
from pipelines.running.curves import read_log
from pipelines.running.finished import to_make
from pipelines.running.progress import read_times
from pipelines.study import CHECKSUMS, Dataset, Study, made
from pipelines.study.model_entry import ModelEntry
from pipelines.study.parameters import read_params
from pipelines.train.checkpoints import newest_whole
from pipelines.train.hooks import read_diagnostics
from sar.errors import SarError
from sar.trained.bundle import read_tensors as read_bundle
from sar.trained.bundle import unpack
from tests.pipelines import broken

SEED, CASES, PATIENCE = 14, 50, 5  # cases a reader; seconds of CPU


@pytest.fixture(scope="module")
def study(tmp_path_factory, fabricate_here):
    """A whole study, reported and published, in a folder that is the working directory."""
    before = Path.cwd()
    os.chdir(tmp_path_factory.mktemp("broken"))
    with pytest.MonkeyPatch.context() as patch:
        save = style.save
        patch.setattr(style, "save", lambda _, *place: save(Figure(figsize=(0.1, 0.1)), *place))
        study = fabricate_here()
        Path("README.md").write_text("# Mine\n")
        for stage in (compare, analyse, report, publish):
            stage(study)
    yield study
    os.chdir(before)


def _checkpoint(path: Path) -> None:
    torch.save({"state_dict": {"a": torch.arange(50.0)}, "meta": {"iter": 4}}, path)


def _weights(path: Path) -> None:
    save_file({"a": torch.arange(20.0), "b.c": torch.ones(3, 4)}, path)


def _logs(path: Path) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    lines = [{"loss": 1 / step, "step": step} for step in range(1, 6)]
    path.write_text("".join(json.dumps(line) + "\n" for line in lines))


def _diagnostics(path: Path) -> None:
    lines = [{"iteration": step, "values": {"gate": [0.5, step]}} for step in range(1, 6)]
    path.write_text("".join(json.dumps(line) + "\n" for line in lines))


def _bundle(path: Path) -> None:
    about = {"format": 1, "model": "{'type': 'A'}", "classes": ["a"], "palette": [[0, 0, 0]]}
    about |= {"imports": [], "image_steps": "[]", "source": {}, "notes": {}}
    save_file({"a": torch.ones(3)}, path, metadata={"semantic_anchors": json.dumps(about)})


def _glyphs(path: Path) -> None:
    glyphs.save_glyphs(path, np.arange(640).reshape(10, 8, 8) % 17, np.arange(10))


def _checksums(path: Path) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    write_whole(path, json.dumps({"mine": {"a.zip": {"bytes": 3, "sha256": "0" * 64}}}))


def _run(study):
    return study.runs[0]


def _of_evaluate(name):
    return lambda study: _run(study).output("evaluate", name)


def _times(path: Path) -> None:
    path.write_text("0,1000\n1,2000\n2,3000\n")


def _image(mode: str, **options) -> Callable[[Path], None]:
    def write(path: Path) -> None:
        shape = (20, 30, 3) if mode == "RGB" else (20, 30)
        values = np.random.default_rng(0).integers(0, 4, shape).astype(np.uint8)
        Image.fromarray(values).convert(mode).save(path, **options)

    return write


def _ids(path: Path) -> None:
    np.save(path, np.arange(600).reshape(20, 30) % 5)


def _matrix(path: Path) -> None:
    scipy.io.savemat(path, {"a": {"ids": np.arange(600).reshape(20, 30) % 5}})


def _labelme(path: Path) -> None:
    shape = {"label": "ground", "points": [[1, 1], [9, 1], [5, 9]], "shape_type": "polygon"}
    path.write_text(json.dumps({"shapes": [shape], "imageHeight": 20, "imageWidth": 30}))


def _drawn(path: Path) -> list:
    size, shapes = read_labelme(path, 10**6)
    return list(drawn(size, list(enumerate(shape for _, shape in shapes))))


def _coco(path: Path) -> None:
    polygon = {"segmentation": [[1, 1, 9, 1, 5, 9]], "iscrowd": 0}
    runs = {"segmentation": {"counts": [100, 20, 480], "size": [20, 30]}, "iscrowd": 1}
    content = {
        "images": [{"id": 1, "file_name": "a.png", "height": 20, "width": 30}],
        "categories": [{"id": 7, "name": "ground"}],
        "annotations": [
            {"id": number, "image_id": 1, "category_id": 7, **part}
            for number, part in enumerate((polygon, runs))
        ],
    }
    path.write_text(json.dumps(content))


def _masks(path: Path) -> list:
    found, _ = read_coco(path.parent, path.name)
    return [list(decode(each)) for each in found.values()]


def _list(path: Path) -> None:
    path.write_text("images/a.png masks/a.png\nimages/é.png masks/é.png\n", encoding="utf-8")


RAW: dict[str, tuple[Callable, Callable]] = {
    # Raw data: what writes a file, and what prepare reads it with.
    "image.png": (_image("RGB"), lambda s, p: read_image(p)),
    "image.jpg": (_image("RGB", quality=90), lambda s, p: read_image(p)),
    "image.tif": (_image("RGB", compression="tiff_lzw"), lambda s, p: read_image(p)),
    "image.bmp": (_image("RGB"), lambda s, p: read_image(p)),
    "image.webp": (_image("RGB", lossless=True), lambda s, p: read_image(p)),
    "grey.png": (_image("L"), lambda s, p: read_index(p)),
    "indexed.png": (_image("P"), lambda s, p: read_index(p)),
    "grey.tif": (_image("L"), lambda s, p: read_index(p)),
    "ids.npy": (_ids, lambda s, p: read_array(p, 10**6)),
    "ids.mat": (_matrix, lambda s, p: read_matrix(p, "a.ids")),
    "labelme.json": (_labelme, lambda s, p: _drawn(p)),
    "coco.json": (_coco, lambda s, p: _masks(p)),
    "train.txt": (_list, lambda s, p: list(lines(p.parent, p.name, None, bool))),
}
MADE: dict[str, tuple[Callable, Callable]] = {
    # What writes a file, and what reads it.
    "checksums.json": (_checksums, lambda s, p: checksums._recorded()),
    "glyphs.npy": (_glyphs, lambda s, p: glyphs.read_glyphs(p)),
    "weights.safetensors": (_weights, lambda s, p: read_tensors(p)),
    "bundle.safetensors": (_bundle, lambda s, p: unpack(*read_bundle(p), p)),
    "iter_4.pth": (_checkpoint, lambda s, p: newest_whole(p.parent, lambda warning: None)),
    "1/vis_data/scalars.json": (_logs, lambda s, p: list(read_log(p.parents[2]))),
    "diagnostics.jsonl": (_diagnostics, lambda s, p: read_diagnostics(p.parent)),
    "times.csv": (_times, lambda s, p: read_times(p)),
}
OF_A_STUDY: dict[str, tuple[Callable, Callable]] = {
    # Which file of a study it is, and what reads it.
    "study.yaml": (lambda s: s.path, lambda s, p: Study.load("mini")),
    "card.yaml": (lambda s: s.datasets["shapes"].card_file, lambda s, p: Dataset.load("shapes")),
    "model.yaml": (
        lambda s: Path("params/models/tiny_net.yaml"),
        lambda s, p: read_params(p, ModelEntry),
    ),
    "info.json": (lambda s: _run(s).dataset.info, lambda s, p: made.info(_run(s).dataset)),
    "metrics.json": (_of_evaluate("metrics.json"), lambda s, p: made.metrics(_run(s))),
    "runtime.json": (_of_evaluate("runtime.json"), lambda s, p: made.runtime(_run(s), "evaluate")),
    "receipt.json": (_of_evaluate("receipt.json"), lambda s, p: read_receipt(p)),
    "manifest.json": (
        lambda s: s.published / "manifest.json",
        lambda s, p: manifest.faults(s.published),
    ),
    "runs.csv": (lambda s: s.output("compare", "runs.csv"), lambda s, p: Comparison.read(s)),
    "classes.csv": (lambda s: s.output("analyse", "classes.csv"), lambda s, p: Analyses.read(s)),
    "curves.csv": (lambda s: _run(s).output("train", "curves.csv"), lambda s, p: read_csv(p, ())),
    "confusion.csv": (
        _of_evaluate("confusion.csv"),
        lambda s, p: read_confusion(p, _run(s).dataset.card.classes),
    ),
    "comparison.parquet": (
        lambda s: s.published / "tables/comparison.parquet",
        lambda s, p: list(verify._shown_faults(s.published)),
    ),
    "table.md": (lambda s: s.published / "table.md", lambda s, p: read_text(p)),
    "analysis.npz": (_of_evaluate("analysis.npz"), lambda s, p: kept.of(_run(s))),
    "predictions.npz": (_of_evaluate("predictions.npz"), lambda s, p: read_npz(p)),
    "gallery.npz": (lambda s: s.output("report", "gallery.npz"), lambda s, p: gallery.read(p)),
}
READERS = {name: read for name, (_, read) in (RAW | MADE | OF_A_STUDY).items()}
OWN_CHECKSUM = ("analysis.npz", "predictions.npz", "gallery.npz")
VOUCHED = ("metrics.json", "confusion.csv", "curves.csv", "runs.csv", "classes.csv", "info.json")


class ForEver(BaseException):
    """Goes on for ever: no Exception, which a reader might take for the file's fault."""


@contextlib.contextmanager
def patience():
    """Raise ForEver after `PATIENCE` seconds of CPU, however busy the machine is."""

    def give_up(*_):
        raise ForEver

    before = signal.signal(signal.SIGVTALRM, give_up)
    signal.setitimer(signal.ITIMER_VIRTUAL, PATIENCE)
    try:
        yield
    finally:
        signal.setitimer(signal.ITIMER_VIRTUAL, 0)
        signal.signal(signal.SIGVTALRM, before)


def place(name, study, tmp_path) -> Path:
    if name in OF_A_STUDY:
        return OF_A_STUDY[name][0](study)
    path = CHECKSUMS if name == "checksums.json" else tmp_path / name
    (RAW | MADE)[name][0](path)
    return path


def as_bytes(value) -> bytes:
    """Equal for equal values."""
    if isinstance(value, np.ndarray):
        return f"{value.dtype}{value.shape}".encode() + value.tobytes()
    if isinstance(value, dict):
        return b"".join(str(key).encode() + as_bytes(item) for key, item in value.items())
    if isinstance(value, list | tuple):
        return b"".join(map(as_bytes, value))
    return as_bytes(vars(value)) if hasattr(value, "__dict__") else repr(value).encode()


@pytest.mark.filterwarnings("ignore::UserWarning")  # of Pillow, about what it reads
@pytest.mark.parametrize("name", READERS)
def test_a_broken_file_is_read_as_it_was_or_named(study, tmp_path, name):
    path, read = place(name, study, tmp_path), READERS[name]
    content, rng = path.read_bytes(), random.Random(f"{SEED} {name}")
    whole = as_bytes(read(study, path)) if name in OWN_CHECKSUM else None
    one_value = path.suffix == ".json" and path.name != "scalars.json"
    kinds = [broken.damaged, broken.retyped] if one_value else [broken.damaged]
    refused = 0
    try:
        for case in range(CASES):
            path.write_bytes(kinds[case % len(kinds)](content, rng))
            with patience():
                try:
                    value = read(study, path)
                except Unusable:  # What prepare knows of a file whose name it adds.
                    refused += 1
                    continue
                except (PipelineError, SarError) as error:
                    refused += 1
                    text = str(error)
                    assert str(path) in text or name in text or path.stem in text, (case, text)
                    assert len(text) < 3000, case
                    continue
            assert whole is None or as_bytes(value) == whole, case
    finally:
        path.write_bytes(content)
    assert refused or name == "iter_4.pth"


@pytest.mark.parametrize("damage", [lambda content: b"", lambda content: content[:-9]])
@pytest.mark.parametrize(
    ("stage", "name"),
    [
        *(("train", name) for name in ("curves.csv", "receipt.json")),
        *(("evaluate", name) for name in ("metrics.json", "confusion.csv", "receipt.json")),
        ("evaluate", "analysis.npz"),
        *(("compare", name) for name in ("runs.csv", "receipt.json")),
        *(("analyse", name) for name in ("classes.csv", "receipt.json")),
    ],
)
def test_a_result_that_is_empty_or_cut_off_is_named_with_the_command_that_makes_it(
    study, stage, name, damage
):
    run = study.runs[0]
    of_run = stage in ("train", "evaluate")
    path = (run if of_run else study).output(stage, name)
    command = f"python -m pipelines.{stage} --study mini" + f" --run {run.name}" * of_run
    content = path.read_bytes()
    path.write_bytes(damage(content))
    try:
        with pytest.raises(PipelineError, match=f"{path}.*run {command}"):
            (compare if of_run else report)(study)
        assert any(command == made.command for made, _ in to_make(study)), "a driver knows, too"
    finally:
        path.write_bytes(content)


@pytest.mark.parametrize("name", VOUCHED)
def test_a_changed_number_is_refused_by_who_publishes(study, tmp_path, name):
    """What no reader can see, since it is well-formed, the receipts do."""
    path = place(name, study, tmp_path)
    content = path.read_bytes()
    digits = [at for at, byte in enumerate(content) if chr(byte) in "12345678"]
    at = random.Random(SEED).choice(digits)
    try:
        path.write_bytes(content[:at] + bytes([content[at] + 1]) + content[at + 1 :])
        with pytest.raises(PipelineError, match=rf"{path.name}|parameters"):
            publish(study)
    finally:
        path.write_bytes(content)
