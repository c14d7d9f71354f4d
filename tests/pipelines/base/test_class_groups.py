"""Head, mid and tail classes."""

from pipelines.base.class_groups import class_groups


def test_groups_are_thirds_by_training_share():
    share = {"a": 0.1, "b": 0.5, "c": 0.05, "d": 0.2, "e": 0.15}
    assert class_groups(share) == {"head": ["b", "d"], "mid": ["e", "a"], "tail": ["c"]}


def test_one_class_more_than_thirds_is_a_head_class_and_ties_keep_their_order():
    share = dict.fromkeys("abcdefg", 1 / 7)
    assert class_groups(share) == {"head": ["a", "b", "c"], "mid": ["d", "e"], "tail": ["f", "g"]}
    assert class_groups({"a": 0.4, "b": 0.6}) == {"head": ["b"], "mid": ["a"], "tail": []}
