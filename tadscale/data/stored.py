"""An encoded video that stays on disk: a decoder reads what it asks for, and an hour of video costs no memory."""

import io
import os
from typing import BinaryIO


class StoredVideo:
    """A file that was opened once, and may be read by several decoders at once, each at its own place.

    What was opened is what is read: the path may be replaced or removed meanwhile. A file that is cut short meanwhile ends
    early, which is an error of decoding (a memory map would end the process).
    """

    def __init__(self, file: BinaryIO) -> None:
        self._file = file  # kept open for as long as this object lives
        self.size_bytes = os.fstat(file.fileno()).st_size

    def open(self) -> BinaryIO:
        """A reader from the file's beginning."""
        return io.BufferedReader(_Reader(self._file, self.size_bytes), buffer_size=1 << 16)

    def read(self) -> bytes:
        """All of it."""
        with self.open() as reader:
            return reader.read()


EncodedVideo = bytes | StoredVideo
"""A video file in memory or on disk."""


def open_video(video: EncodedVideo) -> BinaryIO:
    """A reader from the video's beginning."""
    return io.BytesIO(video) if isinstance(video, bytes) else video.open()


class _Reader(io.RawIOBase):
    """Reads at a place of its own: the file's is shared by all who have it open."""

    def __init__(self, file: BinaryIO, size_bytes: int) -> None:
        self._file, self._size, self._at = file, size_bytes, 0

    def readable(self) -> bool:
        return True

    def seekable(self) -> bool:
        return True

    def seek(self, offset: int, whence: int = io.SEEK_SET) -> int:
        base = {io.SEEK_SET: 0, io.SEEK_CUR: self._at, io.SEEK_END: self._size}[whence]
        if base + offset < 0:
            raise ValueError(f"seeking to {base + offset}, before the beginning")
        self._at = base + offset
        return self._at

    def tell(self) -> int:
        return self._at

    def readinto(self, buffer: bytearray | memoryview) -> int:  # type: ignore[override]
        read = os.preadv(self._file.fileno(), [buffer], self._at)
        self._at += read
        return read
