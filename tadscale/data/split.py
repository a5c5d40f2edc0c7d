"""Subsets for videos whose annotations have none."""

import hashlib
import math
from collections.abc import Iterable

from tadscale.data.describe import SUBSETS
from tadscale.errors import UserError


def parse_split(text: str) -> tuple[float, float, float]:
    """`0.8/0.1/0.1`: the shares of train, validation and test.

    Raises:
        UserError: it is not three shares that make up the whole, or nothing is to be trained on.
    """
    try:
        shares = tuple(float(part) for part in text.split("/"))
    except ValueError:
        shares = ()
    if (
        len(shares) != 3
        or not all(0 <= share <= 1 for share in shares)
        or not math.isclose(sum(shares), 1, abs_tol=1e-6)
    ):
        raise UserError(f"--split {text}: expected the shares of {', '.join(SUBSETS)}, together 1, as in 0.8/0.1/0.1")
    if not shares[0]:
        raise UserError(f"--split {text}: leaves nothing to train on")
    return shares


def split_videos(keys: Iterable[str], shares: tuple[float, float, float]) -> dict[str, str]:
    """The subset of each video: the same for the same videos, whatever their order. No share above 0 stays empty where
    there are as many videos as such shares."""
    order = sorted(keys, key=lambda key: hashlib.sha256(key.encode(errors="backslashreplace")).digest())
    counts = _counts(len(order), shares)
    subsets = [subset for subset, count in zip(SUBSETS, counts, strict=True) for _ in range(count)]
    return dict(zip(order, subsets, strict=True))


def _counts(total: int, shares: tuple[float, ...]) -> list[int]:
    """Whole videos of each share, by largest remainder."""
    wanted = [share > 0 for share in shares]
    counts = [max(int(total * share + 1e-9), least) for share, least in zip(shares, wanted, strict=True)]
    while sum(counts) > total:
        counts[counts.index(max(counts))] -= 1
    while sum(counts) < total:
        short = [total * share - count for share, count in zip(shares, counts, strict=True)]
        counts[short.index(max(short))] += 1
    return counts
