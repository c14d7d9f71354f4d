"""Pairs wherever a data set has its labels: end to end, with the right values."""

from __future__ import annotations

import json

import numpy as np
import pytest
from PIL import Image

from pipelines.base.artifacts import read_json
from pipelines.base.errors import PipelineError
from pipelines.prepare.labels import read_label
from pipelines.prepare.split_lists import write_lists
from pipelines.prepare.splits import find_split
from pipelines.prepare.stage import prepare
from tests.pipelines.prepare import raw

SPLITS = ("train", "test")


@pytest.fixture(autouse=True)
def project(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)


def dataset(labels: dict, pattern: str, images: str = "images/{}", **source):
    splits = {s: {"images": images.format(s), "labels": pattern.format(s)} for s in SPLITS}
    return raw.fetched(raw.card(splits, labels, **source))


def fill(data, count: int = 2, suffix: str = ".png") -> dict[tuple[str, str], np.ndarray]:
    """Images of both splits, and what their labels are to be."""
    wanted = {}
    for split in SPLITS:
        for index in range(count):
            picture = raw.picture(10 * index + len(split))
            raw.write(data, {f"images/{split}/{split}{index}{suffix}": picture})
            wanted[split, f"{split}{index}"] = raw.truth(index + len(split))
    return wanted


def prepared(data) -> dict[tuple[str, str], np.ndarray]:
    prepare(data, jobs=1)
    paths = sorted((data.prepared / "labels").rglob("*.png"))
    return {(p.parent.name, p.stem): raw.prepared_label(data, p.parent.name, p.stem) for p in paths}


def same(got: dict, wanted: dict) -> bool:
    return got.keys() == wanted.keys() and all((got[key] == wanted[key]).all() for key in wanted)


def coco(wanted: dict[tuple[str, str], np.ndarray], split: str) -> str:
    """Each class but the first as a run-length code; ids with gaps; one image has no annotation."""
    images, annotations = [], []
    for number, ((own, stem), ids) in enumerate(wanted.items()):
        if own != split:
            continue
        height, width = ids.shape
        images.append({"id": number, "file_name": f"{stem}.png", "height": height, "width": width})
        for index, category in ((1, 11), (2, 40)):
            flat = np.concatenate([[0], (ids == index).ravel(order="F").astype(int), [0]])
            edges = np.flatnonzero(np.diff(flat)).tolist()
            counts = np.diff([0, *edges, ids.size]).tolist()
            code = {"size": [height, width], "counts": counts}
            annotation = {"image_id": number, "category_id": category, "segmentation": code}
            annotations.append(annotation | {"id": len(annotations), "iscrowd": 1})
    named = [{"id": 11, "name": "Baum"}, {"id": 40, "name": "rare"}, {"id": 90, "name": "unused"}]
    return json.dumps({"images": images, "annotations": annotations, "categories": named})


COCO = {"encoding": "coco", "background": "ground", "names": {"Baum": "tree"}}


def test_a_coco_file_says_which_images_a_split_has():
    splits = {s: {"images": "photos", "labels": f"annotations/{s}.json"} for s in SPLITS}
    data = raw.fetched(raw.card(splits, COCO))
    wanted = {(s, f"{s}{i}"): raw.truth(i + len(s)) for s in SPLITS for i in range(2)}
    for split, stem in wanted:
        raw.write(data, {f"photos/{stem}.png": raw.picture(len(split))})
    raw.write(data, {f"annotations/{s}.json": coco(wanted, s) for s in SPLITS})
    assert same(prepared(data), wanted)
    assert "left_out" not in read_json(data.info)
    raw.write(data, {"photos/other.png": raw.picture()})
    assert same(prepared(data), wanted)
    assert read_json(data.info)["left_out"] == {"train": {"photos": {"in no file": 1}}}


def test_a_list_may_choose_among_the_images_of_a_coco_file():
    labels = "annotations/all.json"
    splits = {s: {"images": "photos", "labels": labels, "list": f"{s}.txt"} for s in SPLITS}
    data = raw.fetched(raw.card(splits, COCO))
    wanted = {(s, f"{s}{i}"): raw.truth(i) for s in SPLITS for i in range(2)}
    raw.write(data, {f"photos/{stem}.png": raw.picture(i) for i, (_, stem) in enumerate(wanted)})
    raw.write(
        data, {labels: coco({("all", stem): ids for (_, stem), ids in wanted.items()}, "all")}
    )
    raw.write(data, {f"{s}.txt": f"{s}0\n{s}1.png\n" for s in SPLITS})
    assert same(prepared(data), wanted)
    raw.write(data, {"test.txt": "gone\n"})
    with pytest.raises(PipelineError, match="gone: is not there, but test.txt, line 1 names it"):
        prepare(data, jobs=1)


def test_images_that_a_coco_file_names_and_nobody_has_are_faults():
    data = dataset(COCO, "annotations/{}.json")
    wanted = fill(data)
    raw.write(data, {f"annotations/{s}.json": coco(wanted, s) for s in SPLITS})
    (data.raw / "images/test/test1.png").unlink()
    raw.vouch(data)
    with pytest.raises(PipelineError, match="images/test/test1.png: is not there, but annotations"):
        prepare(data, jobs=1)
    raw.write(data, {"images/test/test1.png": raw.picture(size=(10, 8))})
    with pytest.raises(PipelineError, match="has 8 x 10 pixels and its label 10 x 8"):
        prepare(data, jobs=1)
    (data.raw / "annotations/test.json").unlink()
    raw.vouch(data)
    with pytest.raises(PipelineError, match="annotations/test.json: no such files"):
        prepare(data, jobs=1)


def test_a_coco_file_without_images_gives_none():
    data = dataset(COCO, "annotations/{}.json")
    wanted = fill(data)
    raw.write(data, {"annotations/train.json": coco(wanted, "train")})
    raw.write(data, {"annotations/test.json": coco({}, "test")})
    with pytest.raises(PipelineError, match="annotations/test.json: gives split test no image"):
        prepare(data, jobs=1)


def test_categories_that_the_card_does_not_know_are_faults_where_they_occur():
    data = dataset(COCO | {"names": {}}, "annotations/{}.json")
    wanted = fill(data)
    raw.write(data, {f"annotations/{s}.json": coco(wanted, s) for s in SPLITS})
    with pytest.raises(PipelineError, match=r"train.json, train0.png: has the label 'Baum'"):
        prepare(data, jobs=1)


@pytest.mark.parametrize("place", ["labels/{}", "images/{}"])
def test_labelme_files_may_lie_beside_their_images(place):
    labels = {"encoding": "labelme", "background": "ground"}
    data = dataset(labels, place, classes=("ground", "rare"))
    wanted = fill(data)
    for (split, stem), ids in wanted.items():
        ids[:] = 0
        ids[2:5, 3:7] = 1
        shape = {"label": "rare", "points": [[3, 2], [6, 4]], "shape_type": "rectangle"}
        content = {"imageHeight": 8, "imageWidth": 10, "shapes": [shape]}
        raw.write(data, {f"{place.format(split)}/{stem}.json": json.dumps(content)})
    assert same(prepared(data), wanted)
    assert "left_out" not in read_json(data.info)


@pytest.mark.parametrize("pattern", ["labels/{}", "labels/{}/*_ids.npy"])
def test_numpy_files(pattern):
    images = "images/{}/*.png" if "*" in pattern else "images/{}"
    data = dataset({"encoding": "array"}, pattern, images)
    wanted = fill(data)
    for (split, stem), ids in wanted.items():
        (data.raw / f"labels/{split}").mkdir(parents=True, exist_ok=True)
        end = "_ids" if "*" in pattern else ""
        np.save(data.raw / f"labels/{split}/{stem}{end}.npy", ids.astype(np.int64))
    raw.vouch(data)
    assert same(prepared(data), wanted)


@pytest.mark.parametrize("pattern", ["masks/{}/*_{{class}}.png", "masks/{}/{{class}}"])
def test_one_black_and_white_mask_a_class(pattern):
    """`big_tree` ends like `tree`, and is another class."""
    names = {"tree": "tree", "big_tree": "rare"}
    images = "images/{}/*.png" if "*" in pattern else "images/{}"
    data = dataset({"encoding": "class_masks", "names": names}, pattern, images)
    wanted = fill(data)
    for (split, stem), ids in wanted.items():
        for word, index in (("ground", 0), ("tree", 1), ("big_tree", 2)):
            path = pattern.format(split).replace("{class}", word).replace("*", stem)
            path = path if path.endswith(".png") else f"{path}/{stem}.png"
            raw.write(data, {path: ((ids == index) * 255).astype(np.uint8)})
    assert same(prepared(data), wanted)


CLASS_MASKS = {"encoding": "class_masks", "background": "ground"}


def class_masks(data, wanted, only=("tree", "rare")) -> None:
    for (split, stem), ids in wanted.items():
        for index, word in enumerate(raw.CLASSES):
            if word in only:
                raw.write(data, {f"masks/{split}/{stem}_{word}.png": ids == index})


def test_masks_of_classes_may_be_missing_for_an_image_and_not_for_all():
    data = dataset(CLASS_MASKS, "masks/{}/*_{{class}}.png", "images/{}/*.png")
    wanted = fill(data)
    class_masks(data, wanted)
    (data.raw / "masks/train/train0_rare.png").unlink()
    raw.vouch(data)
    wanted["train", "train0"][wanted["train", "train0"] == 2] = 0
    assert same(prepared(data), wanted)
    (data.raw / "masks/train/train1_rare.png").unlink()
    raw.vouch(data)
    with pytest.raises(PipelineError, match=r"masks/train/\*_rare.png: no such files of class"):
        prepare(data, jobs=1)


@pytest.mark.parametrize(
    ("name", "mask", "told"),
    [
        ("train0_tree", np.arange(80, dtype=np.uint8).reshape(8, 10), "has the values 0, 1, 2"),
        ("train0_tree", np.zeros((4, 4), np.uint8), "different sizes"),
        ("train0_tree", np.ones((8, 10), np.uint8), "pixels that two classes cover"),
        ("train9_tree", np.ones((8, 10), np.uint8), "is a label without an image"),
    ],
)
def test_masks_of_classes_that_contradict_each_other_are_faults(name, mask, told):
    data = dataset(CLASS_MASKS, "masks/{}/*_{{class}}.png", "images/{}/*.png")
    class_masks(data, fill(data))
    raw.write(data, {f"masks/train/{name}.png": mask})
    with pytest.raises(PipelineError, match=f"masks/train/train._.*{told}"):
        prepare(data, jobs=1)


def test_files_in_subfolders_of_a_folder_are_named_with_the_pattern_that_reads_them():
    data = dataset({}, "labels/{}")
    wanted = fill(data)
    for split in SPLITS:
        wanted[split, "deep"] = raw.truth(5)
        raw.write(data, {f"images/{split}/a/b/deep.png": raw.picture(20 + len(split))})
    for (split, stem), ids in wanted.items():
        folder = "a/b/" if stem == "deep" else ""
        raw.write(data, {f"labels/{split}/{folder}{stem}.png": ids})
    with pytest.raises(PipelineError, match="4 faults") as error:
        prepare(data, jobs=1)
    assert "images/train: has 1 files in subfolders, such as images/train/a/b/deep.png" in str(
        error.value
    )
    assert "source.splits.train.labels to be labels/train/**/*.png" in str(error.value)
    assert same(prepared(dataset({}, "labels/{}/**/*.png", "images/{}/**/*.png")), wanted)
    flat = {key: ids for key, ids in wanted.items() if key[1] != "deep"}
    assert same(prepared(dataset({}, "labels/{}/*.png", "images/{}/*.png")), flat)


def test_subfolders_of_which_the_card_speaks_are_not_forgotten():
    splits = {
        "train": {"images": "images", "labels": "images/masks"},
        "test": {"images": "images/test", "labels": "images/test/masks"},
    }
    data = raw.fetched(raw.card(splits))
    for seed, folder in enumerate(("images", "images/test")):
        picture = raw.picture(seed)
        raw.write(data, {f"{folder}/a.png": picture, f"{folder}/masks/a.png": raw.truth()})
    assert prepared(data).keys() == {("train", "a"), ("test", "a")}


def test_files_that_are_not_looked_at_are_counted(capsys):
    data = dataset({}, "labels/{}")
    for (split, stem), ids in fill(data).items():
        raw.write(data, {f"labels/{split}/{stem}.png": ids})
    raw.write(data, {"images/train/a.heic": b"", "images/train/b.heic": b"", "labels/test/x": b""})
    prepare(data, jobs=1)
    assert read_json(data.info)["left_out"] == {
        "train": {"images/train": {".heic": 2}},
        "test": {"labels/test": {"no suffix": 1}},
    }
    assert "mine train: left out of images/train: 2 .heic" in capsys.readouterr().out
    for path in (data.raw / "images/train").glob("*.png"):
        path.unlink()
    raw.vouch(data)
    with pytest.raises(PipelineError, match="expects some, of .bmp .* it has 2 .heic"):
        prepare(data, jobs=1)


@pytest.mark.parametrize("where", ["folder", "star", "list"])
def test_names_in_two_forms_of_unicode_are_one(where):
    """Composed and decomposed, as archives of macOS have them."""
    composed, decomposed = "Köln_é", "Ko\u0308ln_e\u0301"
    star = "/*.png" if where == "star" else ""
    splits = {
        s: {"images": f"images/{s}{star}", "labels": f"labels/{s}{star}"}
        | ({"list": f"{s}.txt"} if where == "list" else {})
        for s in SPLITS
    }
    data = raw.fetched(raw.card(splits))
    for split in SPLITS:
        raw.write(data, {f"images/{split}/{decomposed}.png": raw.picture(len(split))})
        raw.write(data, {f"labels/{split}/{composed}.png": raw.truth()})
        raw.write(data, {f"{split}.txt": f"images/{split}/{composed}.png\n"})
    assert same(prepared(data), {(s, composed): raw.truth() for s in SPLITS})


@pytest.mark.parametrize(
    ("pattern", "name", "hint"),
    [
        ("labels/{}", "labels/train/a.json", "it has 1 .json .*encoding may be labelme or coco"),
        ("labels/{}", "labels/train/a.npy", "it has 1 .npy .*encoding may be array"),
        ("labels/{}.json", "labels/train.json", "is a file; .*encoding: coco"),
        ("labels/{}/*.npy", "labels/train/train0.npy", "no image; .*encoding: array"),
    ],
)
def test_labels_of_another_kind_than_the_card_says_are_named_with_the_encoding(pattern, name, hint):
    data = dataset({}, pattern, "images/{}/*.png" if "*" in pattern else "images/{}")
    fill(data, count=1)
    raw.write(data, {name: "{}"})
    with pytest.raises(PipelineError, match=hint):
        prepare(data, jobs=1)


@pytest.mark.parametrize("broken", ["images/train/train0.png", "annotations/train.json"])
def test_what_cannot_be_used_when_splits_are_drawn_is_named(broken):
    data = dataset(COCO | {"names": {}}, "annotations/{}.json")
    wanted = fill(data)
    raw.write(data, {f"annotations/{s}.json": coco(wanted, s) for s in SPLITS})
    if broken.startswith("images"):
        data = dataset(COCO, "annotations/{}.json")
        raw.write(data, {broken: b"nothing"})
    with pytest.raises(PipelineError, match=broken):
        write_lists(data, {"train": 1, "test": 1}, 0, data.raw.parent / "lists")


def test_splits_can_be_drawn_from_labels_of_any_kind():
    data = dataset(COCO, "annotations/{}.json")
    wanted = fill(data, count=6)
    raw.write(data, {f"annotations/{s}.json": coco(wanted, s) for s in SPLITS})
    write_lists(data, {"train": 4, "test": 2}, 0, data.raw.parent / "lists")
    lines = (data.raw.parent / "lists/train.txt").read_text().split()
    assert len(lines) == 4 and set(lines) < {stem for _, stem in wanted}
    pairs, faults = find_split(data.raw, "train", data.card.files, data.card.classes)
    assert faults == []
    assert (read_label(data.raw, pairs[0].label, data.card) == wanted["train", "train0"]).all()


def test_images_of_other_containers_are_read_in_folders():
    data = dataset({}, "labels/{}")
    for split in SPLITS:
        for stem, suffix in (("a", "gif"), ("b", "ppm"), ("c", "jfif"), ("d", "TIF")):
            picture = Image.fromarray(raw.picture(len(split)) // 128 * 128)
            format = {"jfif": "JPEG", "TIF": "TIFF"}.get(suffix)
            path = data.raw / f"images/{split}/{stem}.{suffix}"
            path.parent.mkdir(parents=True, exist_ok=True)
            picture.save(path, format)
            raw.write(data, {f"labels/{split}/{stem}.png": raw.truth()})
    assert len(prepared(data)) == 8
    with Image.open(data.prepared / "images/train/a.png") as image:
        assert (np.asarray(image) == raw.picture(len("train")) // 128 * 128).all()
