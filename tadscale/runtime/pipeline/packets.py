"""Packets: the unit that travels through the pipeline, a few windows of one rank. Pure functions."""

from collections.abc import Iterable, Iterator
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from tadscale.data.windows import WindowConfig

# Bytes of frames in a packet. Windows of one step may fill the first: enough that the CPU time Ray takes for a packet (some
# 60 ms over all its processes, on 2 cores) does not matter, small enough to spread. Of several steps only while they fit
# into the second: the first step must wait until a packet is full.
MAX_PACKET_BYTES = 64 << 20
MAX_BYTES_AHEAD = 8 << 20
PADDED = {
    "segments_frames": 0,
    "labels": -1,
}  # columns `[B, N, ...]` whose N differs from packet to packet, and their fill

Columns = dict[str, NDArray]


@dataclass(frozen=True, kw_only=True)
class PacketLayout:
    """Which slots of the plan each packet fills, for one number of workers.

    A rank trains a contiguous share of every global batch. Its shares, one step after the other, are cut into packets;
    packet `p` is the next of rank `p % world_size`: the round-robin by which `streaming_split` deals out single-row blocks.
    The cuts lie where they lie in a run from the start, so that a resumed run computes on the same packets, but for its
    first: a teacher's last bits depend on how many windows share a batch.
    """

    first_step: int
    total_steps: int
    global_batch: int
    world_size: int
    windows: int
    """Windows in a packet: a divisor or a multiple of a rank's share of a global batch."""

    @property
    def share(self) -> int:
        """Windows that a rank trains in one step."""
        return self.global_batch // self.world_size

    def __len__(self) -> int:
        return self.world_size * (-(-self.total_steps * self.share // self.windows) - self._first_cut)

    def slots(self, packet: int) -> list[tuple[int, int]]:
        """Step and slot of every window of a packet; a rank's first and last packet may hold fewer than the others."""
        nth, rank = divmod(packet, self.world_size)
        start = (self._first_cut + nth) * self.windows  # counted over all steps of one rank
        turns = range(
            max(start, self.first_step * self.share), min(start + self.windows, self.total_steps * self.share)
        )
        return [(turn // self.share, rank * self.share + turn % self.share) for turn in turns]

    @property
    def _first_cut(self) -> int:
        return self.first_step * self.share // self.windows


def windows_per_packet(share: int, config: WindowConfig) -> int:
    """How many windows travel together: the largest part of a rank's `share` of a step whose frames stay under
    `MAX_PACKET_BYTES`; of several steps as many as stay under `MAX_BYTES_AHEAD`. At least 1."""
    window_bytes = config.frames * config.blank(1).nbytes
    steps = MAX_BYTES_AHEAD // (share * window_bytes)
    if steps:
        return steps * share
    fitting = [n for n in range(1, share + 1) if share % n == 0 and n * window_bytes <= MAX_PACKET_BYTES]
    return max(fitting, default=1)


def cut_batches(packets: Iterable[Columns], share: int) -> Iterator[Columns]:
    """A rank's packets to its batches of `share` windows; ragged columns are padded to the longest.

    Raises:
        RuntimeError: the packets end inside a batch, as where the process that made them was lost: training goes on from its
            checkpoint then.
    """
    group: list[Columns] = []
    for packet in packets:
        group.append(packet)
        held = sum(len(part["position"]) for part in group)
        if held % share == 0:
            joined = _concatenate(group)
            for start in range(0, held, share):
                yield {name: value[start : start + share] for name, value in joined.items()}
            group = []
    if group:
        raise RuntimeError(f"the data ended inside a rank's batch: {held % share} of {share} windows came")


def as_row(columns: Columns) -> Columns:
    """A packet as Ray's batch of one row: each column `[n, ...]` becomes `[1, n, ...]`."""
    return {name: value[None] for name, value in columns.items()}


def open_row(batch: Columns) -> Columns:
    """The packet of a batch of one row. Arrays come out of shared memory read-only; torch wants them writable."""
    return {name: np.require(value[0], requirements=["C", "W"]) for name, value in batch.items()}


def _concatenate(group: list[Columns]) -> Columns:
    if len(group) == 1:
        return group[0]
    joined = {}
    for name in group[0]:
        parts = [packet[name] for packet in group]
        if name in PADDED:
            parts = pad_to_longest(parts, PADDED[name])
        joined[name] = np.concatenate(parts)
    return joined


def pad_to_longest(arrays: list[NDArray], fill: int) -> list[NDArray]:
    """Pad axis 1 of arrays `[B, N, ...]` at its end, so that all have the largest N."""
    longest = max(array.shape[1] for array in arrays)
    widths = [[(0, 0), (0, longest - a.shape[1])] + [(0, 0)] * (a.ndim - 2) for a in arrays]
    return [np.pad(array, width, constant_values=fill) for array, width in zip(arrays, widths, strict=True)]
