"""Subsets where annotations have none: shares kept, and the same videos in the same subsets."""

from collections import Counter

import pytest

from tadscale.data.split import parse_split, split_videos
from tadscale.errors import UserError

KEYS = [f"k{n}" for n in range(100)]


@pytest.mark.parametrize(
    ("total", "shares", "counts"),
    [
        (100, (0.8, 0.1, 0.1), (80, 10, 10)),
        (10, (0.7, 0.2, 0.1), (7, 2, 1)),
        (3, (0.8, 0.1, 0.1), (1, 1, 1)),
        (7, (0.5, 0.25, 0.25), (3, 2, 2)),
        (5, (0.8, 0.0, 0.2), (4, 0, 1)),
        (2, (0.8, 0.1, 0.1), (0, 1, 1)),
        (0, (0.8, 0.1, 0.1), (0, 0, 0)),
    ],
)
def test_shares_are_kept_and_none_stays_empty(total, shares, counts):
    split = Counter(split_videos(KEYS[:total], shares).values())
    assert sum(split.values()) == total
    if total > 2:
        assert tuple(split[name] for name in ("train", "validation", "test")) == counts


def test_order_does_not_matter_and_subsets_are_no_runs_of_names():
    split = split_videos(KEYS, (0.5, 0.25, 0.25))
    assert split_videos(KEYS[::-1], (0.5, 0.25, 0.25)) == split
    assert 10 < sum(split[key] == "train" for key in KEYS[:50]) < 40


@pytest.mark.parametrize(
    "text", ["", "0.8", "0.8/0.2", "0.8/0.1/0.2", "0.8/0.3/-0.1", "a/b/c", "nan/0.5/0.5", "0/0.5/0.5"]
)
def test_what_is_no_split_is_refused(text):
    with pytest.raises(UserError, match="--split"):
        parse_split(text)


def test_a_split_is_read():
    assert parse_split("0.8/0.1/0.1") == (0.8, 0.1, 0.1)
