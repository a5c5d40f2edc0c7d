"""Blocks of a video from storage, verified one by one and fetched in as few requests as makes sense."""

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from typing import NamedTuple

from tadscale.data.block_cache import BlockCache
from tadscale.data.layout import VideoLayout, block_digest
from tadscale.data.storage import read_verified

# Blocks in between are fetched, too, where they are no more than this: a request takes 20 ms and more before its first byte,
# in which time one connection to S3 brings 1 MB and more (some 50 to 100 MB/s).
GAP_BYTES = 512 << 10


class FetchCount(NamedTuple):
    """What it took to have a window decoded, or many windows together. Logs of earlier versions lack the last three."""

    fetched: int = 0
    """Bytes that storage sent."""
    cached: int = 0
    """Bytes that the node's cache had."""
    needed: int = 0
    """Bytes of the groups of pictures that the window touches; of a video without a layout, all."""
    requests: int = 0
    """To storage."""
    unplanned: int = 0
    """Times that a decoder asked for bytes which had not been foreseen."""
    retries: int = 0
    """Requests that were made again: storage failed, or what it sent was not what had been asked for."""
    frames: int = 0
    """Sampled frames that were decoded, or rows of features that were read; those of flow computed ahead as well."""
    load_us: int = 0
    """Microseconds from the first request to the last picture; 0 of a window that was remembered."""


def sum_counts(counts: Iterable[FetchCount]) -> FetchCount:
    """Of many windows together."""
    return FetchCount(*map(sum, zip(*counts, strict=True)))


@dataclass
class Tally:
    """Adds up while a window is fetched."""

    count: FetchCount = field(default_factory=FetchCount)

    def answered(self, data: bytes) -> None:
        """Storage sent this."""
        self.add(fetched=len(data), requests=1)

    def retried(self) -> None:
        """A request is made again."""
        self.add(retries=1)

    def add(self, **more: int) -> None:
        """Count fields of `FetchCount`."""
        self.count = sum_counts([self.count, FetchCount(**more)])


@dataclass(frozen=True)
class BlockReader:
    """Fetches blocks of one video.

    Args:
        url: of the shard.
        offset: where the video begins in it.
        layout: what lies where in the video.
        tally: counts bytes and requests.
        cache: is asked before storage, and given what storage sent.
    """

    url: str
    offset: int
    layout: VideoLayout
    tally: Tally
    cache: BlockCache | None = None

    def read(self, blocks: Sequence[int]) -> dict[int, bytes]:
        """The contents of blocks; `blocks` ascend. What lies between them comes along where it saves a request.

        Raises:
            CorruptMember: a block is not what the layout says, twice.
            StorageError: the storage cannot be reached or refuses.
        """
        held = dict(self._cached(blocks))
        for first, last in _runs(
            [block for block in blocks if block not in held], GAP_BYTES // self.layout.block_bytes
        ):
            held |= self._fetch(first, last)
        return held

    def _cached(self, blocks: Iterable[int]) -> Iterator[tuple[int, bytes]]:
        if self.cache is None:
            return
        for block in blocks:
            data = self.cache.get(self.layout.digest(block))
            if data is not None:
                self.tally.add(cached=len(data))
                yield block, data

    def _fetch(self, first: int, last: int) -> dict[int, bytes]:
        """The blocks `first` to `last`, in one request."""
        step, begin, end = self.layout.block_bytes, first * self.layout.block_bytes, self.layout.block_range(last)[1]

        def cut(data: bytes) -> dict[int, bytes]:
            parts = (data[at : at + step] for at in range(0, len(data), step))
            return dict(zip(range(first, last + 1), parts, strict=True))

        def fault_of(data: bytes) -> str:
            bad = [block for block, part in cut(data).items() if block_digest(part) != self.layout.digest(block)]
            return f"the digest of block {bad[0]} of {self.layout.blocks} is another" if bad else ""

        data = read_verified(
            self.url,
            self.offset + begin,
            end - begin,
            fault_of,
            answered=self.tally.answered,
            retried=self.tally.retried,
        )
        parts = cut(data)
        if self.cache is not None:
            for block, part in parts.items():
                self.cache.put(self.layout.digest(block), part)
        return parts


def _runs(blocks: Sequence[int], gap: int) -> Iterator[tuple[int, int]]:
    """First and last of runs of blocks between which at most `gap` are missing."""
    begun = 0
    for nth, block in enumerate(blocks):
        if nth + 1 == len(blocks) or blocks[nth + 1] - block - 1 > gap:
            yield blocks[begun], block
            begun = nth + 1
