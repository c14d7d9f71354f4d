from __future__ import annotations

import pytest

from pipelines.card.sizes import suggest


@pytest.mark.parametrize(
    ("size", "crop"),
    [((480, 360), (352, 480)), ((2048, 1024), (512, 512)), ((24, 100), (96, 24))],
)
def test_of_one_size_as_much_as_fits(size, crop):
    found = suggest([size] * 3)
    assert found.crop_size == crop
    assert found.base_size is None
    assert f"{size[0]} x {size[1]}" in found.why_crop


def test_of_unequal_sizes_a_base_and_a_square():
    found = suggest([(800, 600), (600, 800), (700, 650)])
    assert found.base_size == (800, 600)
    assert found.crop_size == (512, 512)
    assert "from 600 x 600 to 800 x 800" in found.why_base


def test_large_images_are_made_smaller():
    found = suggest([(4000, 3000), (4000, 2000), (4000, 3000)])
    assert found.base_size == (1024, 768)
