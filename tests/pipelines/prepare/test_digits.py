"""The embedded data set: deterministic, disjoint, long-tailed in training, balanced elsewhere."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import yaml
from pydantic import ValidationError

from pipelines.base import pixels
from pipelines.base.errors import PipelineError
from pipelines.fetch import glyphs
from pipelines.prepare import digits
from pipelines.prepare.digits import CLASSES, PALETTE
from pipelines.study.digits import SPLITS, DigitsSpec

# The scenes that the project trains on.
CARD = Path(__file__).parents[3] / "params" / "datasets" / "digits.yaml"
SPEC = DigitsSpec(**yaml.safe_load(CARD.read_text(encoding="utf-8"))["source"]["scenes"])

TINY = DigitsSpec(seed=3, size=48, digits_per_scene=(1, 3), digit_size=(14, 20), imbalance=25.0)
# Three scenes of each split of TINY. It changes only when the scenes change on purpose; data cards
# that record digests change with it.
TINY_DIGEST = "76d55e8751e42f740bf9b7a03723e5e2b70466f292437828818ca86425d4c1db"


@pytest.fixture(scope="module")
def source() -> tuple[np.ndarray, np.ndarray]:
    return glyphs.load_glyphs()


def render(source, spec, split, scenes):
    glyphs, labels = source
    indices = digits.split_glyphs(labels, spec.seed)[split]
    return [digits.render_scene(glyphs, labels, indices, spec, split, i) for i in scenes]


def tiny_digest(source, spec):
    return pixels.digest(pair for split in SPLITS for pair in render(source, spec, split, range(3)))


@pytest.fixture(scope="module")
def rendered(source):
    # All of train, whose tail is thin, and enough of the others.
    counts = {"train": SPEC.scenes["train"], "val": 120, "test": 120}
    return {split: render(source, SPEC, split, range(counts[split])) for split in SPLITS}


def instances(spec, split, count):
    found = [digit for i in range(count) for digit in digits.scene_digits(spec, split, i)]
    return np.bincount(found, minlength=10)


def test_glyphs_have_the_stated_form(source):
    glyphs, labels = source
    assert glyphs.shape == (1797, 8, 8) and glyphs.dtype == np.uint8 and glyphs.max() == 16
    assert labels.shape == (1797,) and set(labels) == set(range(10))


def test_glyph_file_round_trips_and_is_byte_deterministic(source, tmp_path):
    for name in ("a.npy", "b.tmp"):
        glyphs.save_glyphs(tmp_path / name, *source)
    assert (tmp_path / "a.npy").read_bytes() == (tmp_path / "b.tmp").read_bytes()
    for before, after in zip(source, glyphs.read_glyphs(tmp_path / "b.tmp"), strict=True):
        np.testing.assert_array_equal(before, after)
        assert before.dtype == after.dtype


@pytest.mark.parametrize(
    ("rows", "message"),
    [
        (np.zeros((3, 64), np.uint8), r"\(n, 65\)"),
        (np.zeros((3, 65), np.int64), "uint8"),
        (np.full((3, 65), 17, np.uint8), "0 to 16"),
        (np.full((3, 65), 11, np.uint8), "0 to 9"),
        (np.zeros((0, 65), np.uint8), "at least one"),
    ],
)
def test_a_file_that_holds_no_glyphs_is_refused(tmp_path, rows, message):
    np.save(tmp_path / "wrong.npy", rows)
    with pytest.raises(PipelineError, match=message) as caught:
        glyphs.read_glyphs(tmp_path / "wrong.npy")
    assert "wrong.npy" in str(caught.value)


def test_saving_refuses_wrong_shapes():
    with pytest.raises(ValueError, match="labels"):
        glyphs.save_glyphs("never-written", np.zeros((3, 8, 8)), np.zeros(2))


def test_splits_are_disjoint_complete_and_stratified(source):
    _, labels = source
    parts = digits.split_glyphs(labels, 0)
    together = np.concatenate([parts[split] for split in SPLITS])
    np.testing.assert_array_equal(np.sort(together), np.arange(len(labels)))
    for digit in range(10):
        total = np.sum(labels == digit)
        for split in ("val", "test"):
            assert np.sum(labels[parts[split]] == digit) == total // 5
    again, other = digits.split_glyphs(labels, 0), digits.split_glyphs(labels, 1)
    np.testing.assert_array_equal(parts["train"], again["train"])
    assert not np.array_equal(parts["train"], other["train"])


def test_no_glyph_occurs_twice_so_that_disjoint_indices_are_disjoint_images(source):
    glyphs, _ = source
    assert len(np.unique(glyphs.reshape(-1, 64), axis=0)) == len(glyphs)


def test_splitting_names_the_digit_that_is_missing():
    with pytest.raises(ValueError, match="digit 9 has 0 glyphs"):
        digits.split_glyphs(np.repeat(np.arange(9), 5), 0)


def test_scenes_depend_on_spec_split_and_index_only(source):
    forward = render(source, TINY, "train", range(4))
    longer = TINY.model_copy(update={"scenes": {"train": 9, "val": 9, "test": 9}})
    backward = render(source, longer, "train", reversed(range(4)))
    assert pixels.digest(forward) == pixels.digest(reversed(backward))
    assert pixels.digest(forward) != pixels.digest(render(source, TINY, "train", range(1, 5)))


def test_rendering_leaves_its_inputs_alone(source):
    glyphs, labels = (array.copy() for array in source)
    render((glyphs, labels), TINY, "test", range(2))
    np.testing.assert_array_equal(glyphs, source[0])
    np.testing.assert_array_equal(labels, source[1])


def test_digest_is_the_recorded_one(source):
    assert tiny_digest(source, TINY) == TINY_DIGEST


@pytest.mark.parametrize(
    "change", [{"seed": 4}, {"imbalance": 60.0}, {"digit_size": (14, 21)}, {"size": 49}]
)
def test_digest_changes_with_the_spec(source, change):
    assert tiny_digest(source, TINY.model_copy(update=change)) != TINY_DIGEST


def test_digest_covers_shape_type_and_order():
    a, b = np.zeros((2, 3), np.uint8), np.ones((2, 3), np.uint8)
    seen = [
        pixels.digest(pairs)
        for pairs in (
            [(a, b)],
            [(b, a)],
            [(a.reshape(3, 2), b)],
            [(a.view(np.int8), b)],
            [(a, b), (a, b)],
            [],
        )
    ]
    assert len(set(seen)) == len(seen)
    # Not contiguous, same values: the same digest.
    assert pixels.digest([(np.asfortranarray(a), b)]) == seen[0]


def test_scenes_have_the_stated_form(rendered):
    for split in SPLITS:
        for image, label in rendered[split]:
            assert image.shape == (SPEC.size, SPEC.size, 3) and image.dtype == np.uint8
            assert label.shape == (SPEC.size, SPEC.size) and label.dtype == np.uint8
        assert set(np.unique([label for _, label in rendered[split]])) == set(range(11))


def test_labels_show_the_digits_that_were_drawn(rendered):
    for split in SPLITS:
        for index, (_, label) in enumerate(rendered[split]):
            expected = {digit + 1 for digit in digits.scene_digits(SPEC, split, index)}
            assert set(np.unique(label)) - {0} == expected


def test_training_is_long_tailed_by_instances_and_by_pixels(rendered):
    counts = instances(SPEC, "train", SPEC.scenes["train"])
    assert counts.argmax() == digits.FREQUENCY_ORDER[0]
    assert counts.argmin() == digits.FREQUENCY_ORDER[-1]
    assert counts.max() >= 20 * counts.min()
    assert counts.min() >= 10
    pixels = np.bincount(np.ravel([label for _, label in rendered["train"]]), minlength=11)[1:]
    assert pixels.max() >= 20 * pixels.min()


@pytest.mark.parametrize("split", ["val", "test"])
def test_val_and_test_are_balanced(rendered, split):
    counts = instances(SPEC, split, SPEC.scenes[split])
    assert counts.max() <= 1.15 * counts.min()
    pixels = np.bincount(np.ravel([label for _, label in rendered[split]]), minlength=11)[1:]
    assert pixels.max() <= 2 * pixels.min()


@pytest.mark.parametrize("seed", range(5))
def test_frequencies_hold_for_every_seed(seed):
    spec = SPEC.model_copy(update={"seed": seed})
    counts = instances(spec, "train", 400)
    expected = digits.digit_frequencies(spec, "train") * counts.sum()
    np.testing.assert_allclose(counts, expected, atol=12)
    assert counts.max() >= 20 * counts.min() > 0


def test_digits_of_a_scene_are_not_tied_to_one_another():
    spec = DigitsSpec(imbalance=1.0, digits_per_scene=(3, 3), scenes=dict.fromkeys(SPLITS, 1))
    drawn = np.array([digits.scene_digits(spec, "train", i) for i in range(4000)])
    for a, b in ((0, 1), (0, 2), (1, 2)):
        table = np.bincount(drawn[:, a] * 10 + drawn[:, b], minlength=100)
        assert table.min() > 20 and table.max() < 60  # 40 expected of each of the 100 pairs
    assert abs(np.corrcoef(drawn[:-1, 0], drawn[1:, 0])[0, 1]) < 0.5


def test_digits_are_brighter_than_the_background_that_they_cover(rendered):
    for image, label in rendered["test"][:100]:
        light, dark = image[label > 0].mean(axis=0), image[label == 0].mean(axis=0)
        assert (light - dark).min() > 20


def test_unknown_split_negative_index_and_missing_digit_are_named(source):
    glyphs, labels = source
    with pytest.raises(ValueError, match="train, val, test"):
        digits.scene_digits(TINY, "dev", 0)
    with pytest.raises(ValueError, match="index"):
        digits.scene_digits(TINY, "train", -1)
    with pytest.raises(ValueError, match="no glyph of digit"):
        digits.render_scene(glyphs, labels, np.zeros(0, np.int64), TINY, "train", 0)


@pytest.mark.parametrize(
    ("change", "field"),
    [
        ({"seed": -1}, "seed"),
        ({"seed": 1.5}, "seed"),
        ({"size": "64"}, "size"),
        ({"size": 8}, "size"),
        ({"digits_per_scene": (0, 2)}, "digits_per_scene"),
        ({"digits_per_scene": (4, 2)}, "digits_per_scene"),
        ({"digits_per_scene": (2, 12)}, "digits_per_scene"),
        ({"digits_per_scene": ("2", 3)}, "digits_per_scene"),
        ({"digits_per_scene": (2, 3, 4)}, "digits_per_scene"),
        ({"digit_size": (4, 20)}, "digit_size"),
        ({"digit_size": (20, 60)}, "digit_size"),
        ({"imbalance": 0.5}, "imbalance"),
        ({"imbalance": float("nan")}, "imbalance"),
        ({"scenes": {"train": 3, "val": 3}}, "scenes"),
        ({"scenes": {"train": 3, "val": 3, "test": 0}}, "scenes"),
        ({"colour": 1}, "colour"),
    ],
)
def test_a_wrong_spec_names_the_field(change, field):
    with pytest.raises(ValidationError) as caught:
        DigitsSpec(**change)
    (error,) = caught.value.errors()
    assert field in error["loc"] or error["msg"].startswith(f"Value error, {field}")


def test_a_spec_can_come_from_yaml_and_does_not_change():
    spec = DigitsSpec(digits_per_scene=[2, 3], digit_size=[16, 20], imbalance=20)
    assert spec.digits_per_scene == (2, 3)
    assert spec == DigitsSpec(**spec.model_dump())
    with pytest.raises(ValidationError):
        spec.seed = 1


def test_palette_has_one_distinct_colour_a_class():
    assert len(CLASSES) == len(PALETTE) == len(set(PALETTE)) == 11
    assert CLASSES[0] == "background" and CLASSES[1:] == tuple("0123456789")
    assert all(0 <= value <= 255 for colour in PALETTE for value in colour)
