"""Each layout that people have becomes a card with which fetch and prepare succeed, by hand of
nobody."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
from PIL import Image, ImageFilter

from pipelines.base.errors import PipelineError
from pipelines.card.__main__ import main, write_card
from pipelines.fetch.stage import fetch
from pipelines.prepare.stage import prepare
from pipelines.study import Dataset
from tests.pipelines.card import layouts
from tests.pipelines.card.layouts import COLOURS, ids, indexed, names, photos, save


@pytest.fixture(autouse=True)
def project(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    return tmp_path


def carded(images: str, labels: str | None = None, **options) -> Dataset:
    """The data set of the card that is written, fetched and prepared."""
    card, sheet = write_card(Path(images), Path(labels or images), "mine", jobs=1, **options)
    assert Image.open(sheet).width > 400
    dataset = Dataset.load("mine")
    assert dataset.card_file == card
    fetch(dataset)
    prepare(dataset, jobs=1)
    return dataset


def prepared(dataset: Dataset) -> dict[str, np.ndarray]:
    """Labels by stem, of all splits."""
    paths = sorted((dataset.prepared / "labels").glob("*/*.png"))
    return {path.stem: np.asarray(Image.open(path)) for path in paths}


def counts(dataset: Dataset) -> dict[str, int]:
    return json.loads(dataset.info.read_text())["counts"]


def test_two_folders_of_equal_names_with_ids():
    photos(Path("a/images"), names(8, "{}.png"))
    for seed in range(8):
        save(Path(f"a/masks/{seed + 1}.png"), ids(seed))
    dataset = carded("a/images", "a/masks")
    assert counts(dataset) == {"train": 6, "test": 2}
    assert dataset.card.classes == ["class 0", "class 1", "class 2"]
    for seed in range(8):
        assert (prepared(dataset)[str(seed + 1)] == ids(seed)).all()


def test_black_and_white_masks_with_a_suffix_beside_jpegs():
    photos(Path("p"), names(6))
    for seed, name in enumerate(names(6, "{:03d}_mask.png")):
        save(Path("m") / name, ids(seed, 2) * 255)
    dataset = carded("p", "m")
    assert dataset.card.files.labels.mapping == {0: 0, 255: 1}
    assert dataset.card.classes == ["background", "foreground"]
    assert (prepared(dataset)["001"] == ids(0, 2)).all()
    assert "masks are 0 and 255" in dataset.card_file.read_text()


@pytest.mark.parametrize("form", ["label_{:03d}.png", "{:03d}-gt.png", "GT_{:03d}_seg.tif"])
def test_names_of_images_have_affixes_too(form):
    photos(Path("p"), names(5, "img_{:03d}_rgb.png"))
    for seed, name in enumerate(names(5, form)):
        save(Path("m") / name, ids(seed))
    assert sum(counts(carded("p", "m")).values()) == 5


def test_one_folder_holds_images_and_masks():
    photos(Path("all"), names(5, "{}_sat.jpg"))
    for seed, name in enumerate(names(5, "{}_mask.png")):
        save(Path("all") / name, COLOURS[ids(seed)])
    dataset = carded("all")
    assert (prepared(dataset)["1_sat"] == ids(0)).all()


def test_one_folder_of_jpegs_and_masks_of_the_same_stems():
    photos(Path("all"), names(5))
    for seed, name in enumerate(names(5, "{:03d}.png")):
        save(Path("all") / name, ids(seed))
    assert sum(counts(carded("all")).values()) == 5


def test_colours_get_names_from_a_file_beside_them():
    photos(Path("c/images"), names(5, "{:03d}.png"))
    for seed, name in enumerate(names(5, "{:03d}_L.png")):
        save(Path("c/labels") / name, COLOURS[ids(seed, 4)])
    save(
        Path("c/label_colors.txt"),
        "0 0 0\tVoid\n0 128 0\tTree\n200 30 30\tCar\n255 255 255 Sky\n1 2 3 Moon\n",
    )
    dataset = carded("c/images", "c/labels")
    assert dataset.card.classes == ["Tree", "Car", "Sky"]
    assert dataset.card.palette == COLOURS[1:].tolist()
    assert dataset.card.files.labels.ignore_colours == [[0, 0, 0]]
    wanted = np.array([255, 0, 1, 2], np.uint8)[ids(0, 4)]
    assert (prepared(dataset)["001"] == wanted).all()
    assert "Moon" in dataset.card_file.read_text()


def test_indexed_masks_keep_their_palette_and_void():
    photos(Path("p"), names(6, "{}.png"))
    for seed, name in enumerate(names(6, "{}.png")):
        values = ids(seed)
        values[0, 0] = 255
        save(Path("m") / name, indexed(values))
    dataset = carded("p", "m")
    assert dataset.card.palette == COLOURS[:3].tolist()
    assert dataset.card.files.labels.ignore == [255]
    assert prepared(dataset)["1"][0, 0] == 255


def test_indices_in_another_order_in_each_file_are_read_as_colours():
    photos(Path("p"), names(6, "{}.png"))
    for seed, name in enumerate(names(6, "{}.png")):
        order = np.random.default_rng(seed).permutation(3)
        save(
            Path("m") / name, indexed(np.argsort(order)[ids(seed)].astype(np.uint8), COLOURS[order])
        )
    dataset = carded("p", "m")
    assert dataset.card.files.labels.encoding == "colour"
    assert (prepared(dataset)["1"] == ids(0)).all()


def test_nested_split_folders_of_another_order():
    seed = 0
    for split, number in (("training", 5), ("valid", 2), ("testing", 3)):
        for name in names(number, "{:03d}.jpg"):
            save(Path("d") / split / "images" / name, layouts.photo(seed))
            save(Path("d") / split / "masks" / name.replace(".jpg", ".png"), ids(seed))
            seed += 1
    dataset = carded("d")
    assert counts(dataset) == {"train": 5, "val": 2, "test": 3}
    assert not any(pairs.list for pairs in dataset.card.files.splits.values())


def test_split_folders_below_images_and_labels_with_images_of_both_suffixes():
    seed = 0
    for split, number in (("train2017", 4), ("val2017", 2)):
        for name in names(number, "{:03d}.png"):
            image = name if seed % 2 else name.replace(".png", ".jpg")
            save(Path("images") / split / "in" / image, layouts.photo(seed))
            save(Path("annotations") / split / name, ids(seed))
            seed += 1
    dataset = carded("images", "annotations")
    assert counts(dataset) == {"train": 4, "val": 2}


def test_a_copy_in_train_of_a_tested_image_is_left_out():
    for split, seeds in (("train", (0, 1, 2, 7)), ("test", (7, 8))):
        for seed in seeds:
            save(Path(f"i/{split}/{split}{seed}.png"), layouts.photo(seed))
            save(Path(f"m/{split}/{split}{seed}.png"), ids(seed))
    dataset = carded("i", "m")
    assert counts(dataset) == {"train": 3, "test": 2}
    assert "train7" not in prepared(dataset)


def test_cityscapes():
    for split, number, first in (("train", 4, 0), ("val", 2, 10), ("test", 2, 20)):
        for seed, city in enumerate(names(number, "ulm_{:06d}_000019_"), start=first):
            stem = f"{split}/ulm/{city}"
            save(Path(f"leftImg8bit/{stem}leftImg8bit.png"), layouts.photo(seed))
            ground = np.array([7, 8, 26, 0], np.uint8)[ids(seed, 4)]
            save(
                Path(f"gtFine/{stem}gtFine_labelIds.png"), ground if split != "test" else ground * 0
            )
            save(Path(f"gtFine/{stem}gtFine_color.png"), COLOURS[ids(seed)])
            save(Path(f"gtFine/{stem}gtFine_instanceIds.png"), ids(seed))
            save(Path(f"gtFine/{stem}gtFine_polygons.json"), {"objects": []})
    source = Path(__file__).parents[3] / "params/datasets/cityscapes.yaml"
    save(Path("params/datasets/cityscapes.yaml"), source.read_text())
    dataset = carded("leftImg8bit", "gtFine")
    assert dataset.card.classes == ["road", "sidewalk", "car"]
    assert dataset.card.palette[0] == [128, 64, 128]
    assert counts(dataset) == {"train": 4, "val": 2}


def test_voc_with_its_lists():
    stems = names(8, "2007_{:06d}")
    photos(Path("V/JPEGImages"), [f"{stem}.jpg" for stem in [*stems, "2008_1"]])
    voc = np.array([[0, 0, 0], [128, 0, 0], [0, 128, 0]] + [[9, 9, 9]] * 252 + [[224, 224, 192]])
    for seed, stem in enumerate(stems):
        values = ids(seed)
        values[0, :5] = 255
        save(Path(f"V/SegmentationClass/{stem}.png"), indexed(values, voc))
        save(Path(f"V/SegmentationObject/{stem}.png"), indexed(ids(seed + 1), voc))
    for split, own in (("train", stems[:5]), ("val", stems[5:]), ("trainval", stems)):
        save(Path(f"V/ImageSets/Segmentation/{split}.txt"), "\n".join(own))
    for labels in ("V/SegmentationClass", "V"):
        dataset = carded("V/JPEGImages", labels, force=True)
        assert dataset.card.classes == ["background", "aeroplane", "bicycle"]
        assert counts(dataset) == {"train": 5, "val": 3}
    text = dataset.card_file.read_text()
    assert "images without a label: 1 (data/JPEGImages/2008_1.jpg)" in text


def test_lists_of_trainval_and_test_with_more_words_a_line():
    stems = names(6, "cat_{:d}")
    photos(Path("images"), [f"{stem}.jpg" for stem in stems])
    for seed, stem in enumerate(stems):
        save(Path(f"annotations/trimaps/{stem}.png"), ids(seed) + 1)
    save(Path("annotations/trainval.txt"), "".join(f"{stem} 1 1 1\n" for stem in stems[:4]))
    save(Path("annotations/test.txt"), "".join(f"{stem} 1 1 1\n" for stem in [*stems[4:], "gone"]))
    dataset = carded("images", "annotations")
    assert counts(dataset) == {"train": 4, "test": 2}
    assert {path.stem for path in (dataset.prepared / "images/test").iterdir()} == set(stems[4:])
    assert "whose other 1 lines name no image" in dataset.card_file.read_text()


def test_a_coco_file_in_place_of_masks():
    photos(Path("p"), names(6))
    save(Path("all.json"), layouts.coco(names(7)))
    dataset = carded("p", "all.json")
    assert dataset.card.classes == ["background", "big dog", "cat"]
    assert dataset.card.files.faulty == "skip"  # The file names a seventh image.
    assert sum(counts(dataset).values()) == 6


def test_coco_files_of_splits_beside_their_images():
    for split, number in (("train", 4), ("valid", 2)):
        photos(Path("r") / split, names(number, split + "{}.jpg"))
        file = layouts.coco(names(number, split + "{}.jpg"))
        save(Path("r") / split / "_annotations.coco.json", file)
    for seed, path in enumerate(sorted(Path("r").glob("*/*.jpg"))):
        save(path, layouts.photo(seed))
    dataset = carded("r")
    assert counts(dataset) == {"train": 4, "val": 2}
    assert set(np.unique(prepared(dataset)["train1"])) == {0, 1, 2}


def test_a_coco_file_of_train_alone_is_divided():
    photos(Path("p/train2017"), names(6))
    save(Path("a/instances_train2017.json"), layouts.coco(names(6)))
    save(Path("a/captions_train2017.json"), {"images": [], "annotations": []})
    dataset = carded("p", "a")
    assert counts(dataset) == {"train": 4, "test": 2}


def test_coco_files_without_train_are_refused():
    photos(Path("p"), names(6))
    save(Path("a/val.json"), layouts.coco(names(6)[:3]))
    save(Path("a/test.json"), layouts.coco(names(6)[3:]))
    fails("expected a COCO file of train", "p", "a")


def test_labelme_files_beside_images():
    photos(Path("l"), names(5))
    for name in names(5):
        save(Path("l") / name.replace(".jpg", ".json"), layouts.labelme(name))
    dataset = carded("l")
    assert dataset.card.classes == ["background", "cat", "dog"]
    assert set(np.unique(prepared(dataset)["001"])) == {0, 1, 2, 255}


@pytest.mark.parametrize("shape", [layouts.SIZE, (*layouts.SIZE, 1)])
def test_arrays(shape):
    photos(Path("p"), names(4))
    for seed, name in enumerate(names(4, "{:03d}.npy")):
        save(Path("m") / name, ids(seed).astype(np.int64).reshape(shape))
    assert (prepared(carded("p", "m"))["001"] == ids(0)).all()


@pytest.mark.parametrize("structure", [False, True])
def test_matrices(structure):
    photos(Path("p"), names(4))
    for seed, name in enumerate(names(4, "{:03d}.mat")):
        matrix = ids(seed).astype(np.float64)
        inner = {"GTcls": {"Segmentation": matrix, "Parts": np.ones((1, 3))}}
        layouts.matlab(Path("m") / name, inner if structure else {"gt": matrix, "n": 3})
    dataset = carded("p", "m")
    assert dataset.card.files.labels.key == ("GTcls.Segmentation" if structure else "gt")
    assert (prepared(dataset)["001"] == ids(0)).all()


def test_a_folder_of_masks_a_class():
    photos(Path("p"), names(5))
    for seed, name in enumerate(names(5, "{:03d}.png")):
        for value, label in ((1, "tree"), (2, "car")):
            save(Path("m") / label / name, (ids(seed) == value).astype(np.uint8) * 255)
    dataset = carded("p", "m")
    assert dataset.card.files.labels.encoding == "class_masks"
    assert sorted(dataset.card.classes) == ["background", "car", "tree"]
    tree = dataset.card.classes.index("tree")
    assert ((prepared(dataset)["001"] == tree) == (ids(0) == 1)).all()


def test_a_mask_a_class_by_the_ends_of_names():
    photos(Path("p"), names(5))
    for seed in range(5):
        for value, label in ((1, "tree"), (2, "car")):
            save(Path(f"m/{seed + 1:03d}_{label}.png"), (ids(seed) == value).astype(np.uint8) * 255)
    dataset = carded("p", "m")
    assert sorted(dataset.card.classes) == ["background", "car", "tree"]
    car = dataset.card.classes.index("car")
    assert ((prepared(dataset)["001"] == car) == (ids(0) == 2)).all()


def test_other_files_beside_the_masks_are_told():
    photos(Path("p"), names(5))
    for seed, name in enumerate(names(5, "{:03d}")):
        save(Path(f"m/{name}_mask.png"), ids(seed))
        save(Path(f"m/{name}_overlay.png"), layouts.photo(seed))
    text = carded("p", "m").card_file.read_text()
    assert "files of other names among the labels: 5 (labels/001_overlay.png" in text


def test_class_names_by_their_order():
    photos(Path("o/images"), names(4))
    for seed, name in enumerate(names(4, "{:03d}.png")):
        save(Path("o/masks") / name, ids(seed) + 1)
    save(Path("o/classes.txt"), "ground\nbig tree\nlake\n")
    dataset = carded("o/images", "o/masks")
    assert dataset.card.classes == ["ground", "big tree", "lake"]
    assert (prepared(dataset)["001"] == ids(0)).all()


def test_matrices_with_a_list_of_names_as_in_clothing_co_parsing():
    photos(Path("ccp/photos"), names(4))
    for seed, name in enumerate(names(4, "{:03d}.mat")):
        layouts.matlab(Path("ccp/annotations/pixel-level") / name, {"groundtruth": ids(seed)})
    cells = np.array([["null", "bag", "tie", "belt"]], object)
    layouts.matlab(Path("ccp/label_list.mat"), {"label_list": cells})
    dataset = carded("ccp/photos", "ccp/annotations/pixel-level")
    assert dataset.card.classes == ["null", "bag", "tie"]
    assert "so no classes: belt" in dataset.card_file.read_text()


def test_names_in_the_folder_of_a_split():
    for split, number in (("train", 4), ("valid", 2)):
        for seed, name in enumerate(names(number, split + "{}.jpg")):
            save(Path("r") / split / name, layouts.photo(seed + len(split)))
            save(Path("r") / split / name.replace(".jpg", "_mask.png"), ids(seed))
        save(Path("r") / split / "_classes.csv", "Pixel Value, Class\n0, ground\n1, ox\n2, cow\n")
    assert carded("r").card.classes == ["ground", "ox", "cow"]


def test_an_id_0_that_a_file_of_names_leaves_out_is_the_background():
    photos(Path("a/images"), names(4))
    for seed, name in enumerate(names(4, "{:03d}.png")):
        save(Path("a/masks") / name, ids(seed))
    save(Path("a/objectInfo.txt"), "Idx\tRatio\tName\n1\t0.2\twall\n2\t0.1\tbuilding, edifice\n")
    dataset = carded("a/images", "a/masks")
    assert dataset.card.classes == ["background", "wall", "building, edifice"]


@pytest.mark.parametrize("kind", ["ids", "colours"])
def test_a_class_in_one_file_alone_is_told_and_can_be_made_void_as_the_card_says(kind):
    photos(Path("p"), names(6))
    for seed, name in enumerate(names(6, "{:03d}.png")):
        values = ids(seed)
        values[0, :2] = 3 * (seed == 2)
        save(Path("m") / name, values if kind == "ids" else COLOURS[values])
    dataset = carded("p", "m")
    text = dataset.card_file.read_text()
    what = "class 3" if kind == "ids" else "colour 255-255-255"
    said = " ".join(text.split("\n# "))
    assert f"in a single image of 6: {what} (labels/003.png); if by mistake" in said
    lines = [line for line in text.splitlines() if f"- {what}" not in line]
    palette = [line for line in lines if line.startswith("  - [")]
    lines.remove(palette[-1])
    text = "\n".join(lines)
    if kind == "ids":
        text = text.replace("  splits:", "  labels: {others: ignore}\n  splits:")
    else:
        text = text.replace("    encoding: colour", "    encoding: colour\n    others: ignore")
    dataset.card_file.write_text(text)
    dataset = Dataset.load("mine")
    prepare(dataset, jobs=1)
    assert (prepared(dataset)["003"][0, :2] == 255).all()
    assert len(dataset.card.classes) == 3


def test_ids_of_instances_are_asked_about():
    photos(Path("p"), names(5))
    for seed, name in enumerate(names(5, "{:03d}.png")):
        save(Path("m") / name, (ids(seed, 4) + 4 * seed).astype(np.uint16))
    text = carded("p", "m").card_file.read_text()
    assert "are the labels ids of instances, and not of classes?" in " ".join(text.split("\n# "))


def test_lists_that_windows_wrote():
    photos(Path("w/images"), names(8, "{}.jpg"))
    for seed, name in enumerate(names(8, "{}.png")):
        save(Path("w/masks") / name, ids(seed))
    for split, own in (("train", (2, 4, 5, 7, 8)), ("test", (1, 3, 6))):
        lines = "".join(f"images\\{number}.jpg\r\n" for number in own)
        Path(f"w/{split}.txt").write_bytes(lines.encode("utf-8-sig"))
    dataset = carded("w/images", "w/masks")
    assert {path.stem for path in (dataset.prepared / "images/test").iterdir()} == {"1", "3", "6"}


def test_lists_that_name_other_files_are_told():
    photos(Path("w/images"), names(5, "{}.jpg"))
    for seed, name in enumerate(names(5, "{}.png")):
        save(Path("w/masks") / name, ids(seed))
    save(Path("w/train.txt"), "img_1\nimg_2\n")
    save(Path("w/test.txt"), "3\n4\n")
    said = " ".join(carded("w/images", "w/masks").card_file.read_text().split("\n  # "))
    assert "w/train.txt was not used: its lines, such as img_1, name no image" in said
    assert "test: 2 images of test.txt: not used, since no other list divides them" in said


def test_a_folder_an_image_with_its_mask():
    for seed in range(4):
        save(Path(f"d/{seed}/img.png"), layouts.photo(seed))
        save(Path(f"d/{seed}/label.png"), ids(seed))
    dataset = carded("d")
    assert (prepared(dataset)["2__img"] == ids(2)).all()


def test_masks_with_blurred_edges():
    photos(Path("p"), names(4))
    rng = np.random.default_rng(0)
    for seed, name in enumerate(names(4, "{:03d}.png")):
        mask = ids(seed, 2) * 255
        mask[0] = rng.integers(1, 255, mask.shape[1])
        save(Path("m") / name, mask)
    dataset = carded("p", "m")
    assert dataset.card.classes == ["background", "foreground"]
    assert (prepared(dataset)["001"][0] == 255).all()


def test_masks_that_are_blurred_throughout_are_refused():
    photos(Path("p"), names(4, "{}.png"))
    for seed, name in enumerate(names(4, "{}.png")):
        mask = Image.fromarray(COLOURS[ids(seed)].repeat(4, 0).repeat(4, 1))
        save(Path("p") / name, layouts.photo(seed).resize(mask.size))
        save(Path("m") / name, mask.filter(ImageFilter.GaussianBlur(2)))
    fails("of their pixels are in no area of one value", "p", "m")


def test_names_of_files_with_spaces_and_accents():
    for seed, name in enumerate(("Foto (1).JPG", "über all.JPG", "c.d e.JPG", "4 .JPG")):
        save(Path("my photos") / name, layouts.photo(seed))
        save(Path("my masks") / name.replace(".JPG", " Mask.PNG"), ids(seed))
    assert sum(counts(carded("my photos", "my masks")).values()) == 4


def test_one_split_of_several_is_told_of_the_others():
    for split in ("train", "trainannot", "val", "valannot"):
        for seed in range(4):
            content = ids(seed) if "annot" in split else layouts.photo(seed + 9 * len(split))
            save(Path(f"c/{split}/{seed}.png"), content)
    text = carded("c/train", "c/trainannot").card_file.read_text()
    assert "beside it lie val, valannot: give the folder above" in " ".join(text.split("\n  # "))
    dataset = carded("c", force=True)
    assert counts(dataset) == {"train": 4, "val": 4}


def test_a_damaged_photo_in_many_is_left_out_and_told():
    photos(Path("p"), names(12, "{}.png"))
    for seed, name in enumerate(names(12, "{}.png")):
        save(Path("m") / name, ids(seed))
    Path("p/3.png").write_bytes(Path("p/3.png").read_bytes()[:200])
    dataset = carded("p", "m")
    assert sum(counts(dataset).values()) == 11
    assert "images/3.png cannot be read" in dataset.card_file.read_text()


def test_sequences_stay_in_one_split():
    for sequence in range(6):
        for frame in range(4):
            seed = 10 * sequence + frame
            save(Path(f"p/seq{sequence}_{frame:04d}.png"), layouts.photo(seed))
            save(Path(f"m/seq{sequence}_{frame:04d}.png"), ids(seed))
    dataset = carded("p", "m")
    splits = {path.stem[:4]: path.parent.name for path in (dataset.prepared / "images").glob("*/*")}
    for path in (dataset.prepared / "images").glob("*/*"):
        assert splits[path.stem[:4]] == path.parent.name
    assert set(splits.values()) == {"train", "test"}


def test_a_data_set_is_called_like_its_folder_without_accents(capsys):
    photos(Path("Été à Zürich/images"), names(4))
    for seed, name in enumerate(names(4, "{:03d}.png")):
        save(Path("Été à Zürich/masks") / name, ids(seed))
    assert main(["Été à Zürich/images", "Été à Zürich/masks", "--jobs", "1"]) == 0
    assert "params/datasets/ete_a_zurich.yaml" in capsys.readouterr().out


def test_the_command_prints_the_paths_and_what_comes_next(capsys):
    photos(Path("my Photos/images"), names(4))
    for seed, name in enumerate(names(4, "{:03d}.png")):
        save(Path("my Photos/masks") / name, ids(seed))
    words = ["my Photos/images", "my Photos/masks", "--jobs", "1"]
    assert main(words) == 0
    said = capsys.readouterr().out
    assert "params/datasets/my_photos.yaml" in said
    assert "work/cards/my_photos.png" in said
    assert "pipelines.fetch --dataset my_photos" in said
    assert main(words) == 2
    assert "is there already" in capsys.readouterr().err
    assert main([*words, "--force"]) == 0


def fails(match: str, *words: str) -> None:
    with pytest.raises(PipelineError, match=f"(?s){match}"):
        write_card(Path(words[0]), Path(words[-1]), "mine", jobs=1)
    assert not Path("params/datasets/mine.yaml").exists()
    assert not Path("params/datasets/splits").exists()


def test_folders_that_are_not_there():
    Path("p").mkdir()
    fails("IMAGES: nowhere: no such folder", "nowhere", "p")
    fails("MASKS: nowhere: no such folder", "p", "nowhere")
    fails("holds no image", "p", "p")


def test_names_that_do_not_fit():
    photos(Path("p"), names(3))
    for seed in range(3):
        save(Path("m") / f"{'abc'[seed]}.png", ids(seed))
    fails("no image has a label: images are called images/001.jpg", "p", "m")


def test_photographs_in_the_place_of_masks():
    photos(Path("p"), names(3, "{}.png"))
    photos(Path("m"), names(3, "{}.png"))
    fails("masks hold .* colours .*IMAGES and MASKS the other way round", "p", "m")


def test_masks_of_one_value():
    photos(Path("p"), names(3, "{}.png"))
    for name in names(3, "{}.png"):
        save(Path("m") / name, ids(0) * 0)
    fails("all labels hold 0, so 1 class: expected two", "p", "m")


def test_pictures_of_which_none_is_called_a_label():
    photos(Path("k"), names(3, "image_2/{}.png"))
    photos(Path("k"), names(3, "semantic/{}.png"))
    fails("IMAGES: k: holds 6 pictures, such as .*expected MASKS as second argument", "k", "k")


def test_photos_of_a_kind_that_is_not_read():
    save(Path("m/1.png"), ids(0))
    for number in (1, 2):
        Path("p").mkdir(exist_ok=True)
        Path(f"p/IMG_{number}.HEIC").write_bytes(b"ftypheic")
    fails("IMAGES: p: holds no image; expected .* and it has 2 .heic", "p", "m")


def test_two_images_of_one_name():
    for seed, name in enumerate(("1.png", "1.jpg", "2.png")):
        save(Path("p") / name, layouts.photo(seed))
    save(Path("m/1.png"), ids(0))
    save(Path("m/2.png"), ids(1))
    fails("images/1.jpg: and images/1.png may both have the label labels/1.png", "p", "m")


def test_json_of_another_kind():
    photos(Path("p"), names(3))
    for name in names(3, "{:03d}.jpg.json"):
        save(Path("m") / name, {"description": "", "size": {}, "objects": []})
    fails("holds 3 .json; .*neither LabelMe's nor COCO's", "p", "m")


def test_one_image_only():
    photos(Path("p"), ["1.png"])
    save(Path("m/1.png"), ids(0))
    fails("the only image with a label", "p", "m")


def test_masks_as_jpeg():
    photos(Path("p"), names(3))
    for seed, name in enumerate(names(3)):
        save(Path("m") / name, ids(seed) * 100)
    fails("labels/001.jpg, as all 3 labels, is a JPEG.*expected PNG.*other way round", "p", "m")


def test_errors_say_what_the_users_folders_are_called():
    photos(Path("my/p"), names(3, "{}.png"))
    photos(Path("my/m"), names(3, "{}.png"))
    fails(r"labels/1.png: .*\(labels is my/m\)$", "my/p", "my/m")
    save(Path("my/c.json"), {"images": [], "annotations": [], "categories": []})
    fails("^annotations/c.json: describes no categories", "my/p", "my/c.json")


def test_boxes_of_a_coco_file_are_no_labels():
    photos(Path("p"), names(2))
    file = layouts.coco(names(2))
    for each in file["annotations"]:
        each["segmentation"] = []
    save(Path("c.json"), file)
    fails(
        "has no image that can be used.*2 faults.*neither polygons nor run-lengths", "p", "c.json"
    )


def test_boxes_are_no_labels():
    photos(Path("p"), names(3))
    for name in names(3, "{:03d}.txt"):
        save(Path("m") / name, "0 0.5 0.5 0.1 0.1")
    fails("holds 3 .txt.*YOLO", "p", "m")


def test_masks_of_another_size():
    photos(Path("p"), names(3, "{}.png"))
    for seed, name in enumerate(names(3, "{}.png")):
        save(Path("m") / name, ids(seed)[:16])
    fails("has 32 x 24 pixels and its label 32 x 16", "p", "m")
