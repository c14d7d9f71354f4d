"""Preparing data in files: what is written, what is told, and what stops it."""

from __future__ import annotations

import io
import os
import re
import subprocess
import sys

import numpy as np
import pytest
from PIL import ExifTags, Image

from pipelines.base.artifacts import read_json
from pipelines.base.errors import PipelineError
from pipelines.prepare.__main__ import main
from pipelines.prepare.orientation import turned
from pipelines.prepare.stage import prepare
from tests.pipelines import mini
from tests.pipelines.prepare import raw


@pytest.fixture(autouse=True)
def project(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    return tmp_path


def outputs(dataset) -> dict[str, bytes]:
    folder = dataset.prepared
    return {n: (folder / n).read_bytes() for n in raw.below(folder) if n != "runtime.json"}


def test_it_writes_the_canonical_layout():
    dataset = raw.fetched(raw.card(labels={"ignore": [9]}))
    raw.two_splits(dataset)
    void = raw.truth()
    void[0, 0] = 9
    raw.write(dataset, {"images/train/0.png": raw.picture(5), "labels/train/0.png": void})
    prepare(dataset, jobs=1)
    assert raw.below(dataset.prepared) == sorted(
        ["info.json", "receipt.json", "runtime.json"]
        + [f"images/{split}/{stem}.png" for split in ("train", "test") for stem in "012"]
        + [f"labels/{split}/{stem}.png" for split in ("train", "test") for stem in "012"]
    )
    with Image.open(dataset.prepared / "images/train/0.png") as image:
        assert image.mode == "RGB"
        assert (np.asarray(image) == raw.picture(5)).all()
    label = raw.prepared_label(dataset, "train", "0")
    assert (label == np.where(void == 9, 255, void)).all()
    info = read_json(dataset.info)
    assert info.keys() == {
        *("classes", "palette", "ignore_index", "counts", "digests", "pixel_share", "groups"),
        *("image_count", "labelled_pixels"),
    }
    assert info["counts"] == {"train": 3, "test": 3}
    assert info["digests"].keys() == {"train", "test"}
    trees = sum((raw.prepared_label(dataset, "train", stem) == 1).sum() for stem in "012")
    assert info["pixel_share"]["tree"] == pytest.approx(trees / (3 * 80 - 1))
    assert sum(info["pixel_share"].values()) == pytest.approx(1)


def test_the_number_of_processes_changes_nothing():
    dataset = raw.fetched(raw.card())
    raw.two_splits(dataset, count=5)
    prepare(dataset, jobs=1)
    alone = outputs(dataset)
    prepare(dataset, jobs=2)
    assert outputs(dataset) == alone


def test_a_digest_is_that_of_pixels_and_names_not_of_compression():
    digests = []
    for level, name in ((1, "0"), (9, "0"), (9, "zero")):
        dataset = raw.fetched(raw.card(), name=f"mine{level}{name}")
        raw.two_splits(dataset, count=1)
        image = dataset.raw / "images/train/0.png"
        Image.open(image).save(image, compress_level=level)
        for kind in ("images", "labels"):
            path = dataset.raw / kind / "train/0.png"
            path.rename(path.with_stem(name))
        raw.vouch(dataset)
        prepare(dataset, jobs=1)
        digests.append(read_json(dataset.info)["digests"]["train"])
    assert digests[0] == digests[1] != digests[2]


def test_jpeg_images_are_copied_and_others_become_rgb():
    dataset = raw.fetched(raw.card())
    raw.two_splits(dataset, count=1)
    size = (12, 10)
    pictures = {
        "images/train/a.JPEG": Image.fromarray(raw.picture(1, size)),
        "images/train/b.jpg": Image.fromarray(raw.picture(2, size)).convert("L"),
        "images/train/c.png": Image.fromarray(raw.picture(3, size)).convert("RGBA"),
    }
    labels = {f"labels/train/{stem}.png": raw.truth(1, size) for stem in "abc"}
    raw.write(dataset, pictures | labels)
    prepare(dataset, jobs=1)
    copied = dataset.prepared / "images/train/a.jpg"
    assert copied.read_bytes() == (dataset.raw / "images/train/a.JPEG").read_bytes()
    for stem in "bc":
        with Image.open(dataset.prepared / f"images/train/{stem}.png") as image:
            assert image.mode == "RGB"
    info = read_json(dataset.info)
    assert info["suffixes"] == {"train": {".jpg": 1, ".png": 3}}
    assert info["unequal_sizes"] == ["train"]


def test_all_faults_of_all_splits_are_told_at_once():
    dataset = raw.fetched(raw.card())
    raw.two_splits(dataset)
    whole = (dataset.raw / "images/train/1.png").read_bytes()
    raw.write(
        dataset,
        {
            "images/train/1.png": whole[: len(whole) // 2],
            "labels/train/2.png": np.full((8, 10), 77, np.uint8),
            "images/test/0.png": raw.picture(1, (9, 10)),
            "images/test/lonely.png": raw.picture(),
            "labels/test/lost.png": raw.truth(),
            "images/test/both.png": b"",
            "labels/test/both.png": b"",
        },
    )
    with pytest.raises(PipelineError) as error:
        prepare(dataset, jobs=1)
    text = str(error.value)
    assert "params/datasets/mine.yaml: source (data/raw/mine/files): 7 faults" in text
    for told in (
        "images/train/1.png: cannot be read",
        "labels/train/2.png: holds raw ids that the card does not know: 77 (80 pixels)",
        "images/test/0.png: has 10 x 9 pixels and its label 10 x 8",
        "images/test/lonely.png: is an image without a label; expected labels/test/lonely.png",
        "labels/test/lost.png: is a label without an image",
        "images/test/both.png: cannot be read",
        "labels/test/both.png: cannot be read",
        "source.faulty: skip",
    ):
        assert told in text
    assert not dataset.prepared.exists()
    assert [path.name for path in dataset.prepared.parent.iterdir()] == []


def test_many_faults_are_counted_and_twenty_are_named():
    dataset = raw.fetched(raw.card())
    raw.two_splits(dataset)
    raw.write(dataset, {f"images/train/no{i:02d}.png": raw.picture() for i in range(30)})
    with pytest.raises(PipelineError, match="30 faults") as error:
        prepare(dataset, jobs=1)
    lines = str(error.value).splitlines()
    assert len(re.findall("without a label", str(error.value))) == 20
    assert lines[-2].strip() == "and 10 more"


def test_faulty_pairs_may_be_left_out_and_are_named():
    dataset = raw.fetched(raw.card(faulty="skip"))
    raw.two_splits(dataset)
    raw.write(dataset, {"images/train/1.png": b"nothing", "labels/test/lost.png": raw.truth()})
    prepare(dataset, jobs=1)
    info = read_json(dataset.info)
    assert info["counts"] == {"train": 2, "test": 3}
    assert [one["file"] for one in info["skipped"]["train"]] == ["images/train/1.png"]
    assert "without an image" in info["skipped"]["test"][0]["reason"]
    assert raw.below(dataset.prepared / "labels/train") == ["0.png", "2.png"]


def test_a_split_without_an_image_stops_it_whatever_the_card_says():
    splits = {
        "train": {"images": "images/train", "labels": "labels/train"},
        "val": {"images": "images/val", "labels": "labels/val"},
        "test": {"images": "images/test", "labels": "labels/test", "list": "none.txt"},
    }
    dataset = raw.fetched(raw.card(splits, faulty="skip"))
    raw.two_splits(dataset)
    raw.write(dataset, {"none.txt": "\n"})
    with pytest.raises(PipelineError, match=r"images/val: no such files") as error:
        prepare(dataset, jobs=1)
    assert "none.txt: gives split test no image" in str(error.value)
    assert "faulty" not in str(error.value)


def test_a_split_of_which_no_image_can_be_used_stops_it():
    dataset = raw.fetched(raw.card(faulty="skip"))
    raw.two_splits(dataset, count=1)
    raw.write(dataset, {"images/test/0.png": b"nothing"})
    with pytest.raises(PipelineError, match="test: has no image that can be used"):
        prepare(dataset, jobs=1)


def test_training_data_without_a_labelled_pixel_stops_it():
    dataset = raw.fetched(raw.card(labels={"ignore": [9]}))
    raw.two_splits(dataset, count=1)
    raw.write(dataset, {"labels/train/0.png": np.full((8, 10), 9, np.uint8)})
    with pytest.raises(PipelineError, match="train: has no labelled pixel"):
        prepare(dataset, jobs=1)


def test_colours_become_class_ids():
    dataset = raw.fetched(raw.card(labels={"encoding": "colour"}))
    raw.two_splits(dataset, count=2)
    colours = np.array(raw.PALETTE, np.uint8)
    for path in (dataset.raw / "labels").rglob("*.png"):
        Image.fromarray(colours[np.asarray(Image.open(path))]).save(path)
    raw.vouch(dataset)
    prepare(dataset, jobs=1)
    assert (raw.prepared_label(dataset, "train", "1") == raw.truth(15)).all()


def test_the_command_takes_a_number_of_processes(project, capsys):
    import json

    dataset = raw.fetched(raw.card())
    raw.two_splits(dataset, count=1)
    dataset.card_file.parent.mkdir(parents=True)
    dataset.card_file.write_text(json.dumps(dataset.card.model_dump(exclude_defaults=True)))
    assert main(["--dataset", "mine", "--jobs", "1"]) == 0
    assert dataset.receipt.is_file()
    assert main(["--dataset", "mine", "--jobs", "0"]) == 2
    assert "--jobs 0: expected 1 or more" in capsys.readouterr().err


def stripes(seed: int, shape: tuple[int, int]) -> np.ndarray:
    return np.kron(raw.truth(seed, shape, classes=2), np.ones((16, 16), np.uint8))


def camera(ids: np.ndarray, orientation: int) -> bytes:
    """A photo of `ids` as a camera stores it that was held in another way."""
    exif = Image.Exif()
    exif[ExifTags.Base.Orientation] = orientation
    buffer = io.BytesIO()
    picture = Image.fromarray(np.repeat(ids[..., None] * 200 + 20, 3, -1))
    picture.save(buffer, "JPEG", exif=exif, quality=100, subsampling=0)
    return buffer.getvalue()


def agree(dataset, stem: str) -> bool:
    with Image.open(dataset.prepared / f"images/test/{stem}.png") as image:
        light = np.asarray(image)[..., 0] > 120
    return bool((light == (raw.prepared_label(dataset, "test", stem) == 1)).all())


CASES = {"side": (6, (3, 4)), "half": (3, (3, 4)), "mirror": (2, (3, 4)), "square": (6, (4, 4))}


@pytest.mark.parametrize("drawn_on", ["stored", "turned"])
def test_orientations_follow_one_rule_that_the_sizes_tell(drawn_on):
    dataset = raw.fetched(raw.card(classes=raw.CLASSES[:2]))
    for split in ("train", "test"):
        for stem, (orientation, shape) in CASES.items():
            ids = stripes(orientation + 10 * (split == "train"), shape)
            photo = camera(ids, orientation)
            with Image.open(io.BytesIO(photo)) as picture:
                tag = picture.getexif()[ExifTags.Base.Orientation]
            label = Image.fromarray(ids)
            if drawn_on == "turned":
                label = turned(label, tag)
            raw.write(dataset, {f"images/{split}/{stem}.jpg": photo})
            raw.write(dataset, {f"labels/{split}/{stem}.png": label})
    prepare(dataset, jobs=1)
    assert all(agree(dataset, stem) for stem in CASES)
    info = read_json(dataset.info)
    assert info["exif"] == {
        "rule": "ignore" if drawn_on == "stored" else "turn",
        "images": {"train": 4, "test": 4},
        "labels": {"train": 0, "test": 0},
    }
    assert info["counts"] == {"train": 4, "test": 4}


def test_where_no_size_tells_the_card_says_what_orientations_do():
    dataset = raw.fetched(raw.card())
    raw.two_splits(dataset, count=1)
    ids = stripes(0, (3, 4))
    raw.write(dataset, {"images/test/0.png": b"", "labels/test/0.png": ids})
    (dataset.raw / "images/test/0.png").unlink()
    raw.write(dataset, {"images/test/0.jpg": camera(ids, 3)})
    with pytest.raises(
        PipelineError, match="images/test/0.jpg: .*expected source.exif in the card"
    ):
        prepare(dataset, jobs=1)
    for rule in ("ignore", "turn"):
        chosen = raw.fetched(raw.card(exif=rule))
        prepare(chosen, jobs=1)
        assert agree(chosen, "0") == (rule == "ignore")
        assert read_json(chosen.info)["exif"]["rule"] == rule


def test_a_label_that_fits_neither_way_is_told_with_the_orientation():
    dataset = raw.fetched(raw.card())
    raw.two_splits(dataset, count=1)
    (dataset.raw / "images/test/0.png").unlink()
    raw.write(dataset, {"images/test/0.jpg": camera(stripes(0, (3, 4)), 6)})
    told = r"48 x 64 pixels and its label 10 x 8.*orientation 6 and 1, source.exif: turn"
    with pytest.raises(PipelineError, match=told):
        prepare(dataset, jobs=1)


def test_a_label_with_the_orientation_of_its_image_is_turned_with_it():
    dataset = raw.fetched(raw.card())
    raw.two_splits(dataset, count=1)
    (dataset.raw / "images/test/0.png").unlink()
    ids = stripes(0, (3, 4))
    exif = Image.Exif()
    exif[ExifTags.Base.Orientation] = 6
    raw.write(dataset, {"images/test/0.jpg": camera(ids, 6)})
    Image.fromarray(ids).save(dataset.raw / "labels/test/0.png", exif=exif)
    raw.vouch(dataset)
    prepare(dataset, jobs=1)
    assert agree(dataset, "0")
    assert (raw.prepared_label(dataset, "test", "0") == np.rot90(ids, -1)).all()
    assert read_json(dataset.info)["exif"]["labels"] == {"test": 1}


def test_the_card_may_raise_or_lower_the_limit_of_pixels():
    dataset = raw.fetched(raw.card(max_pixels=79))
    raw.two_splits(dataset, count=1)
    with pytest.raises(PipelineError, match="8 pixels, more than 79 in all; source.max_pixels"):
        prepare(dataset, jobs=1)
    dataset = raw.fetched(raw.card(max_pixels=80))
    prepare(dataset, jobs=1)
    assert read_json(dataset.info)["counts"] == {"train": 1, "test": 1}


def test_what_a_file_says_beside_its_pixels_is_not_written():
    dataset = raw.fetched(raw.card())
    raw.two_splits(dataset, count=1)
    image, other = (Image.fromarray(raw.picture(seed)) for seed in range(2))
    image.save(dataset.raw / "images/train/0.png", icc_profile=b"profile" * 20, dpi=(72, 72))
    other.convert("RGBA").save(dataset.raw / "images/test/0.png", icc_profile=b"profile" * 20)
    raw.vouch(dataset)
    prepare(dataset, jobs=1)
    assert b"iCCP" not in (dataset.prepared / "images/test/0.png").read_bytes()


PEAK = """
import re
from pathlib import Path
from pipelines.prepare.pairs import Pair
from pipelines.prepare.writer import _write_raw
from tests.pipelines.prepare import raw
def peak():
    return int(re.search(r"VmHWM:\\s+(\\d+) kB", Path("/proc/self/status").read_text())[1])

# Both, so that what is imported late does not count.
for stem in ("small", "large"):
    before = peak()
    pair = Pair(stem, f"{stem}.png", f"{stem}_ids.png")
    _write_raw(pair, raw.card(), Path(), Path("out"), "train", None)
print((peak() - before) * 1024)
"""


@pytest.mark.skipif(sys.platform != "linux", reason="reads the peak from /proc")
def test_a_large_pair_takes_twice_the_memory_of_its_arrays_at_most(project):
    """1.5 times, and 3.8 with a copy more at each step."""
    for kind in ("images", "labels"):
        (project / "out" / kind / "train").mkdir(parents=True)
    for stem, side in (("small", 64), ("large", 4000)):
        ids = np.kron(raw.truth(size=(4, 4)), np.ones((side // 4, side // 4), np.uint8))
        Image.fromarray(ids).save(f"{stem}_ids.png", compress_level=1)
        Image.fromarray(np.repeat(ids[..., None], 3, -1)).save(f"{stem}.png", compress_level=1)
    done = subprocess.run(
        [sys.executable, "-c", PEAK],
        env=os.environ | {"PYTHONPATH": str(mini.ROOT)},
        capture_output=True,
        text=True,
    )
    assert done.returncode == 0, done.stderr
    arrays = (3 + 1) * 4000 * 4000  # bytes of image and label
    assert arrays < int(done.stdout) < 2 * arrays
