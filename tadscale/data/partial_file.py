"""A video as a seekable file of which only some blocks are here; the others come when they are asked for."""

import io
from collections.abc import Sequence
from typing import Any

from tadscale.data.blocks import BlockReader

MAX_AHEAD = 16  # blocks


class PartialFile(io.RawIOBase):
    """Reads like the whole file: a demuxer that leaves the foreseen path is slower and never wrong.

    What was not foreseen comes with the blocks behind it, twice as many each time: a decoder that cannot seek reads a video
    from its beginning, and block by block that would be a request for each.

    FFmpeg takes a failed read for the end of the file where it suits it. So the first fault is kept, comes again with every
    further read, and whoever decodes asks for `fault` in the end.

    Args:
        reader: fetches blocks.
        foreseen: the blocks to begin with, in order.

    Raises:
        CorruptMember, StorageError: see `BlockReader.read`.
    """

    def __init__(self, reader: BlockReader, foreseen: Sequence[int]) -> None:
        self._reader, self._layout = reader, reader.layout
        self._held = reader.read(foreseen)
        self._at, self._ahead = 0, 1
        self.fault: Exception | None = None
        """What storage or a digest said against a later read."""

    def readable(self) -> bool:
        """It is."""
        return True

    def seekable(self) -> bool:
        """It is."""
        return True

    def tell(self) -> int:
        """Next byte that is read."""
        return self._at

    def seek(self, offset: int, whence: int = io.SEEK_SET, /) -> int:
        """Go there."""
        base = {io.SEEK_SET: 0, io.SEEK_CUR: self._at, io.SEEK_END: self._layout.size}[whence]
        self._at = max(0, base + offset)
        return self._at

    def readinto(self, buffer: Any, /) -> int:
        """The bytes from here on, as many as a block still holds."""
        if self._at >= self._layout.size:
            return 0
        block, start = divmod(self._at, self._layout.block_bytes)
        data = self._block(block)
        with memoryview(buffer) as whole, whole.cast("B") as view:
            size = min(len(view), len(data) - start)
            view[:size] = memoryview(data)[start : start + size]
        self._at += size
        return size

    def _block(self, block: int) -> bytes:
        if block not in self._held:
            if self.fault is not None:
                raise self.fault
            try:
                self._fetch_from(block)
            except Exception as error:
                self.fault = error
                raise
        return self._held[block]

    def _fetch_from(self, block: int) -> None:
        stop = block + 1
        while stop < min(block + self._ahead, self._layout.blocks) and stop not in self._held:
            stop += 1
        self._reader.tally.add(unplanned=1)
        self._held |= self._reader.read(range(block, stop))
        self._ahead = min(2 * self._ahead, MAX_AHEAD)
