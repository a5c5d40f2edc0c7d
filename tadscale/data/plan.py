"""The plan: which windows make up which global batch. Pure functions in numpy, which know nothing of processes.

Resume and elasticity follow from it: a checkpoint stores the number of global batches consumed and the plan's digest,
and whatever the number of workers, the remaining global batches hold exactly the same windows.
"""

import hashlib
import json
from collections.abc import Callable
from dataclasses import dataclass
from functools import cache, cached_property, lru_cache
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from tadscale.data.compact import whole_number
from tadscale.data.mixture import Pool, make_pools
from tadscale.errors import UserError

if TYPE_CHECKING:
    from tadscale.data.windows import WindowTable

EMPTY = -1
"""Number of the window, and of the video, in a slot that holds none."""


class PlanRow(NamedTuple):
    """One slot of a global batch. An empty slot has `window` and `video` `EMPTY`, and `valid_frames` 0."""

    position: int
    """`step * global_batch + slot`: what the training loop checks."""
    step: int
    epoch: int
    window: int
    video: int
    """Row of the manifest that was tiled."""
    start_frames: int
    valid_frames: int
    draw_seed: int
    """Seed of this window's augmentation this time."""
    labelled: bool
    """Whether the window's segments are ground truth; True in an empty slot."""


@dataclass(frozen=True, kw_only=True, eq=False)
class Plan:
    """The order in which windows are trained, over all epochs.

    Every window comes exactly once per epoch. The last global batch of an epoch is filled up with empty slots (`EMPTY`).
    Windows of a source with a share are the exception: they have slots of their own in every global batch, and are gone
    through again and again, shuffled each time, whatever an epoch is to the others.

    Attributes:
        windows: what there is to train on.
        seed: of the shuffle and of augmentation.
        global_batch: windows per optimiser step, over all workers.
        epochs: passes over the windows.
        manifest_digest: of the manifest that was tiled.
        settings_digest: of the window settings (`WindowConfig.fingerprint`).
        shares: of every source, of a global batch (`Source.share`).

    Raises:
        ValueError: there is no window, a number is not positive, or the shares do not fit the global batch.
    """

    windows: "WindowTable"
    seed: int
    global_batch: int
    epochs: int
    manifest_digest: str
    settings_digest: str
    shares: tuple[float | None, ...] = (None,)

    def __post_init__(self) -> None:
        if not len(self.windows):
            raise UserError("nothing to train on: the manifest (or the subset of it) holds no video")
        if self.global_batch < 1 or self.epochs < 1 or self.seed < 0:
            raise UserError(
                f"need global_batch >= 1, epochs >= 1 and seed >= 0, "
                f"got global_batch={self.global_batch}, epochs={self.epochs}, seed={self.seed}"
            )
        assert self._pools  # refuses shares that do not fit

    @property
    def steps_per_epoch(self) -> int:
        """Global batches in one epoch, the last of which may be partly empty."""
        once = self._pools[0]
        return -(-len(once.windows) // len(once.slots))

    @property
    def total_steps(self) -> int:
        """Global batches in the whole run."""
        return self.steps_per_epoch * self.epochs

    @cached_property
    def labelled_share(self) -> float:
        """Share of the run's slots whose windows have ground truth; 1.0 where all windows have."""
        known = sum(self.windows.labelled[pool.windows].mean() * len(pool.slots) for pool in self._pools)
        return float(known / self.global_batch)

    @cached_property
    def digest(self) -> str:
        """SHA-256 of everything that decides which window is trained when: equal digests, equal training data."""
        parts = {
            "version": 1,
            "windows": self.windows.digest,
            "seed": self.seed,
            "global_batch": self.global_batch,
            "epochs": self.epochs,
            "manifest": self.manifest_digest,
            "settings": self.settings_digest,
        }
        if any(self.shares):
            parts["shares"] = self.shares
        return hashlib.sha256(json.dumps(parts, sort_keys=True).encode()).hexdigest()

    def batch(self, step: int) -> NDArray[np.int64]:
        """Window ids of one global batch, `[global_batch]`; `EMPTY` is an empty slot."""
        if not 0 <= step < self.total_steps:
            raise IndexError(f"step {step} is outside the plan's {self.total_steps} steps")
        epoch, nth = divmod(step, self.steps_per_epoch)
        once, *repeated = self._pools
        share = len(once.slots)
        order = shuffled(len(once.windows), self.seed, epoch)[nth * share : (nth + 1) * share]
        batch = np.full(self.global_batch, EMPTY)
        batch[once.slots[: len(order)]] = once.windows[order]
        for stream, pool in enumerate(repeated, start=1):
            batch[pool.slots] = pool.windows[self._turns(pool, stream, step)]
        return batch

    @cached_property
    def _pools(self) -> list[Pool]:
        return make_pools(self.windows.source, self.shares, self.global_batch)

    def _turns(self, pool: Pool, stream: int, step: int) -> NDArray[np.int64]:
        """Whose turn it is in a pool that is gone through again and again, `[slots]`, counted within the pool."""
        count, share = len(pool.windows), len(pool.slots)
        rounds, places = np.divmod(np.arange(step * share, (step + 1) * share), count)
        return np.array(
            [shuffled(count, self.seed, n, stream)[at] for n, at in zip(rounds.tolist(), places, strict=True)]
        )

    def slots(self, step: int, rank: int, world_size: int) -> NDArray[np.int64]:
        """The contiguous share of `batch(step)` that one rank trains, `[global_batch / world_size]`.

        Raises:
            ValueError: the world size does not divide the global batch.
        """
        if self.global_batch % world_size:
            fitting = [n for n in range(1, self.global_batch + 1) if self.global_batch % n == 0]
            raise UserError(
                f"global_batch={self.global_batch} cannot be shared equally by {world_size} workers: "
                f"use a number of workers out of {fitting}, or change global_batch"
            )
        assert 0 <= rank < world_size
        share = self.global_batch // world_size
        return self.batch(step)[rank * share : (rank + 1) * share]

    def row(self, step: int, slot: int, window: int) -> PlanRow:
        """What the pipeline needs to know to fill one slot."""
        position, epoch = step * self.global_batch + slot, step // self.steps_per_epoch
        if window == EMPTY:
            return PlanRow(position, step, epoch, EMPTY, EMPTY, 0, 0, 0, labelled=True)
        table = self.windows
        where = int(table.video[window]), int(table.start_frames[window]), int(table.valid_frames[window])
        # With a share it may come more than once an epoch: the step tells the times apart, but for those of one step, where
        # a source has fewer windows than slots.
        time = epoch if self.shares[int(table.source[window])] is None else step
        draw = draw_seed(self.seed, time, window)
        return PlanRow(position, step, epoch, window, *where, draw, labelled=bool(table.labelled[window]))


def shuffled(count: int, seed: int, epoch: int, stream: int = 0) -> NDArray[np.int32] | NDArray[np.int64]:
    """A permutation of `count` windows, `[count]`, read-only: a pure function of its arguments.

    Streams 1, 2, ... are independent orders: of the sources that are gone through at a pace of their own. Of each, the last
    two orders are kept: the current one, and the next while the pipeline reads ahead.

    Sorts raw words of the Philox generator. Numpy keeps those from version to version, and not `Generator.permutation`:
    a run can be resumed after an upgrade.
    """
    return _orders(stream)(count, seed, epoch)


@cache  # one a stream, of which there are as many as sources
def _orders(stream: int) -> Callable[[int, int, int], NDArray[Any]]:
    @lru_cache(maxsize=2)
    def order(count: int, seed: int, epoch: int) -> NDArray[Any]:
        entropy = [seed, epoch, stream] if stream else [seed, epoch]
        words = np.random.Philox(np.random.SeedSequence(entropy)).random_raw(count)
        order = np.argsort(words, kind="stable").astype(whole_number(count))
        order.flags.writeable = False
        return order

    return order


def draw_seed(seed: int, epoch: int, window: int) -> int:
    """Seed of one window's augmentation in one epoch, 63 bits (it travels in int64 columns)."""
    return int(np.random.SeedSequence([seed, epoch, window]).generate_state(1, np.uint64)[0] >> np.uint64(1))
