"""What lies where inside a video's file: what a demuxer reads first, groups of pictures, and a digest of every block.

With it a window is fetched without the rest of its video, and what is fetched is verified as a whole file is. It is one
binary value of the manifest's row, `layout`:

    format  1 byte, 1
    whole numbers as LEB128: seven bits a byte, the lowest first, the top bit says that more follow
        block size in KiB
        H, then H times (bytes since the end of the range before, bytes): the head
        G, then G times (bytes since the end of the group before, bytes, microseconds since the key frame before)
    digests, 16 bytes a block: the first half of its SHA-256

A group takes some 8 bytes and none is smaller than a block, so a video takes at most 24 bytes a block and some 30 besides:
7 KB for 10 minutes of 1.5 Mbit/s (112 MB, 430 blocks, 72 groups of 250 pictures), a 15,000th of the video.
"""

import hashlib
from collections.abc import Iterable, Iterator
from itertools import pairwise
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from tadscale.data.quarantine import DataError

# Half a block is fetched in vain at each end of what is needed, and digests are a 16,000th of the blocks: of 64 KiB they
# would take four times as much of every manifest, and 1 MiB would double what a window of 25 s at 1 Mbit/s (3 MB) fetches.
BLOCK_BYTES = 256 << 10
# 128 bits: damage goes unseen once in 3e38 blocks, and other bytes of the same digest are not to be found. What a collision
# of two chosen blocks (2^64 tries) would give its maker, both of whose blocks are his own, is nothing.
DIGEST_BYTES = 16
MAX_BLOCK_BYTES = 64 << 20
MAX_RANGES = 4096
MAX_NUMBER_BYTES = 7  # 49 bits: more than any file is long
FORMAT = 1
KIB = 1024


class VideoLayout(NamedTuple):
    """Where the parts of a file lie; bytes are counted from its beginning."""

    size: int
    """Bytes of the file."""
    block_bytes: int
    """Every block is as long, but the last."""
    head: NDArray[np.int64]
    """`[H, 2]` first byte and end of each range that a demuxer reads before it comes to a picture: headers and indices,
    wherever in the file they are."""
    groups: NDArray[np.int64]
    """`[G, 2]` first byte and end of each group of pictures, in order. Small groups are put together to a block's size."""
    keys_us: NDArray[np.int64]
    """`[G]` when the (first) key frame of each is shown, microseconds from the stream's start."""
    digests: bytes
    """`DIGEST_BYTES` a block."""

    @property
    def blocks(self) -> int:
        """Their number."""
        return -(-self.size // self.block_bytes)

    def block_range(self, block: int) -> tuple[int, int]:
        """First byte and end of a block."""
        return block * self.block_bytes, min((block + 1) * self.block_bytes, self.size)

    def digest(self, block: int) -> bytes:
        """That of a block."""
        return self.digests[block * DIGEST_BYTES : (block + 1) * DIGEST_BYTES]

    def blocks_of(self, ranges: Iterable[tuple[int, int]]) -> list[int]:
        """The blocks that ranges of bytes touch, in order."""
        size = self.block_bytes
        touched = {block for first, end in ranges for block in range(first // size, -(-min(end, self.size) // size))}
        return sorted(touched)


def block_digest(data: bytes | memoryview) -> bytes:
    """The digest of a block's bytes."""
    return hashlib.sha256(data).digest()[:DIGEST_BYTES]


def digest_blocks(data: bytes, block_bytes: int) -> bytes:
    """The digests of all blocks of a file."""
    view = memoryview(data)
    return b"".join(block_digest(view[at : at + block_bytes]) for at in range(0, len(data), block_bytes))


def encode_layout(layout: VideoLayout) -> bytes:
    """As the manifest keeps it."""
    numbers = [layout.block_bytes // KIB, len(layout.head), *_gaps(layout.head), len(layout.groups)]
    times = np.diff(layout.keys_us, prepend=0).tolist()
    gaps = iter(_gaps(layout.groups))
    for gap, size, time in zip(gaps, gaps, times, strict=True):
        numbers += [gap, size, time]
    return bytes([FORMAT]) + b"".join(map(_number, numbers)) + layout.digests


def decode_layout(data: bytes, size: int) -> VideoLayout:
    """Read the layout of a file of `size` bytes, which whoever made the manifest may have forged.

    Raises:
        DataError: it is none, or speaks of bytes outside the file.
    """
    try:
        return _Parser(data).layout(size)
    except (IndexError, ValueError, OverflowError) as error:
        raise DataError(f"its layout in the manifest is damaged ({error}): index the shards again") from error


def _gaps(ranges: NDArray[np.int64]) -> Iterator[int]:
    """Ranges as pairs: bytes between the one before and this one, and its length."""
    for (_, before), (first, end) in pairwise([(0, 0), *ranges.tolist()]):
        yield from (first - before, end - first)


def _number(value: int) -> bytes:
    assert value >= 0
    parts = bytearray()
    while value > 127:
        parts.append(value & 127 | 128)
        value >>= 7
    return bytes([*parts, value])


class _Parser:
    """Reads a layout from its beginning to its end, believing nothing."""

    def __init__(self, data: bytes) -> None:
        self._data, self._at = data, 1
        if data[0] != FORMAT:
            raise ValueError(f"format {data[0]}, not {FORMAT}")

    def layout(self, size: int) -> VideoLayout:
        block_bytes = self._number() * KIB
        if not KIB <= block_bytes <= MAX_BLOCK_BYTES:
            raise ValueError(f"blocks of {block_bytes} bytes")
        blocks = -(-size // block_bytes)
        head = self._ranges(self._count(min(blocks, MAX_RANGES)), timed=False)
        groups = self._ranges(self._count(blocks), timed=True)
        if not len(groups):
            raise ValueError("no group of pictures")
        digests = self._data[self._at :]
        if len(digests) != blocks * DIGEST_BYTES:
            raise ValueError(f"{len(digests)} bytes of digests for {blocks} blocks")
        for ranges in (head, groups):
            if len(ranges) and ranges[-1, 1] > size:
                raise ValueError(f"a range ends at byte {ranges[-1, 1]} of {size}")
        return VideoLayout(size, block_bytes, head[:, :2], groups[:, :2], groups[:, 2], digests)

    def _count(self, most: int) -> int:
        count = self._number()
        if count > most:
            raise ValueError(f"{count} ranges, at most {most} make sense")
        return count

    def _ranges(self, count: int, *, timed: bool) -> NDArray[np.int64]:
        """`[count, 3]` first byte, end and time of each; they ascend, for no number is negative."""
        rows, end, time = np.zeros((count, 3), np.int64), 0, 0
        for nth in range(count):
            first = end + self._number()
            end = first + self._number()
            time += self._number() if timed else 0
            rows[nth] = first, end, time
        return rows

    def _number(self) -> int:
        value = 0
        for nth in range(MAX_NUMBER_BYTES):
            part = self._data[self._at]
            self._at += 1
            value |= (part & 127) << 7 * nth
            if part < 128:
                return value
        raise ValueError("a number of more than 49 bits")
