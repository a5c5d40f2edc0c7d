"""Which slots of a global batch belong to which source. Pure functions in numpy."""

from collections.abc import Sequence
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from tadscale.data.compact import whole_number
from tadscale.errors import UserError


class Pool(NamedTuple):
    """Windows that have slots of their own in every global batch."""

    windows: NDArray[np.signedinteger[Any]]
    """Ids of the windows, ascending."""
    slots: NDArray[np.int64]
    """Their slots of a global batch, ascending."""


def make_pools(source: NDArray[np.signedinteger[Any]], shares: Sequence[float | None], global_batch: int) -> list[Pool]:
    """The windows of all sources without a share, and then those of each source that has one.

    Args:
        source: `[W]`, of every window.
        shares: of every source, of a global batch.
        global_batch: windows per optimiser step.

    Raises:
        UserError: every source has a share, a share is no whole window, or the shares leave nothing for the others.
    """
    mixed = [index for index, share in enumerate(shares) if share is not None]
    if len(mixed) == len(shares):
        raise UserError(
            "every source has a share, and none says how long an epoch is: leave share out of the one that is to be "
            "gone through once an epoch"
        )
    counts = [round(share * global_batch) for share in shares if share is not None]
    rest = global_batch - sum(counts)
    if min([rest, *counts]) < 1:
        stated = [share for share in shares if share is not None]
        raise UserError(
            f"shares {stated} of global_batch={global_batch} are {counts} windows, and {rest} for the sources without a "
            "share: each needs one at least; change the shares or raise global_batch"
        )
    windows = [np.flatnonzero(~np.isin(source, mixed)), *(np.flatnonzero(source == index) for index in mixed)]
    kind = whole_number(len(source))
    return [Pool(ids.astype(kind), slots) for ids, slots in zip(windows, _spread([rest, *counts]), strict=True)]


def _spread(counts: Sequence[int]) -> list[NDArray[np.int64]]:
    """Deal slots out evenly, so that the contiguous part of each worker holds about the same mixture."""
    owner = np.repeat(np.arange(len(counts)), counts)
    place = np.concatenate([(2 * np.arange(count) + 1) / (2 * count) for count in counts])
    owner = owner[np.argsort(place, kind="stable")]
    return [np.flatnonzero(owner == index) for index in range(len(counts))]
