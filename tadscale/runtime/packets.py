"""Packets: the unit that travels through the pipeline, a few windows of one rank at one step. Pure functions."""

from collections.abc import Iterable, Iterator
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from tadscale.data.windows import WindowConfig

MAX_PACKET_BYTES = (
    64 << 20
)  # of frames: large enough that Ray's 10-20 ms a packet do not matter, small enough to spread
PADDED = {
    "segments_frames": 0,
    "labels": -1,
}  # columns `[B, N, ...]` whose N differs from packet to packet, and their fill

Columns = dict[str, NDArray]


@dataclass(frozen=True, kw_only=True)
class PacketLayout:
    """Which slots of the plan each packet fills, for one number of workers.

    Packet `p` goes to rank `p % world_size`: the round-robin by which `streaming_split` deals out single-row blocks. A
    rank's packets of one step, put together in order, are its contiguous share of the global batch.
    """

    first_step: int
    total_steps: int
    global_batch: int
    world_size: int
    windows: int
    """Windows in a packet; divides a rank's share of the global batch."""

    @property
    def per_rank(self) -> int:
        """Packets that make up one rank's share of a global batch."""
        return self.global_batch // self.world_size // self.windows

    def __len__(self) -> int:
        return (self.total_steps - self.first_step) * self.per_rank * self.world_size

    def slots(self, packet: int) -> tuple[int, range]:
        """Step and slots of one packet."""
        step, within = divmod(packet, self.per_rank * self.world_size)
        nth, rank = divmod(within, self.world_size)
        start = (rank * self.per_rank + nth) * self.windows
        return self.first_step + step, range(start, start + self.windows)


def windows_per_packet(share: int, config: WindowConfig) -> int:
    """The most windows, out of the divisors of a rank's `share`, whose frames stay under `MAX_PACKET_BYTES`; at least 1."""
    window_bytes = config.frames * config.height * config.width * 3
    fitting = [n for n in range(1, share + 1) if share % n == 0 and n * window_bytes <= MAX_PACKET_BYTES]
    return max(fitting, default=1)


def join_packets(packets: Iterable[Columns], per_rank: int) -> Iterator[Columns]:
    """Put every `per_rank` packets together as one batch; ragged columns are padded to the longest."""
    group: list[Columns] = []
    for packet in packets:
        group.append(packet)
        if len(group) == per_rank:
            yield group[0] if per_rank == 1 else _concatenate(group)
            group = []
    assert not group, "the stream ended inside a rank's batch"


def as_row(columns: Columns) -> Columns:
    """A packet as Ray's batch of one row: each column `[n, ...]` becomes `[1, n, ...]`."""
    return {name: value[None] for name, value in columns.items()}


def open_row(batch: Columns) -> Columns:
    """The packet of a batch of one row. Arrays come out of shared memory read-only; torch wants them writable."""
    return {name: np.require(value[0], requirements=["C", "W"]) for name, value in batch.items()}


def _concatenate(group: list[Columns]) -> Columns:
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
