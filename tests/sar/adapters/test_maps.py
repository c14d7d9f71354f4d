"""What adapters have in common."""

import pytest
import torch

from sar.adapters.maps import channels_first, chosen, package


def test_a_package_that_is_not_there_names_its_extra():
    expected = r"no_such_package cannot be imported .* pip install semantic-anchors\[none\]"
    with pytest.raises(ImportError, match=expected):
        package("no_such_package", "none")


def test_maps_are_chosen_by_index():
    assert chosen("abc", [0, -1], "it") == ("a", "c")
    assert chosen("abc", None, "it") == ("a", "b", "c")
    with pytest.raises(ValueError, match="it: out_indices has 3, and there are 3 maps"):
        chosen("abc", [3], "it")


def test_channels_that_come_last_come_first():
    features = torch.arange(24.0).reshape(1, 2, 3, 4)
    assert channels_first(features, 2) is features
    moved = channels_first(features, 4)
    assert moved.shape == (1, 4, 2, 3)
    assert moved[0, 1, 1, 2] == features[0, 1, 2, 1]
