"""Walking through a WebDataset tar, sound or not, without extracting or decoding anything."""

import io
import tarfile
from collections import Counter
from collections.abc import Collection, Iterator
from dataclasses import dataclass, field
from typing import BinaryIO, cast

from tadscale.data.keys import VIDEO_SUFFIXES, key_of_member
from tadscale.data.quarantine import reason_of

SIDECARS = ("json", "cls", "txt")
MAX_VIDEO_BYTES, MAX_SIDECAR_BYTES, MAX_HEADER_BYTES = 4 * 2**30, 16 * 2**20, 2**17
REST = "(rest of the shard)"


@dataclass
class TarSample:
    """The members of one key."""

    key: str
    video: bytes = b""
    video_offset: int = -1
    """-1: there is none."""
    video_suffix: str = ""
    notes: dict[str, bytes] = field(default_factory=dict)
    """Contents of its sidecars by suffix."""
    fault: str = ""
    """Why the sample cannot be used."""


class TarWalk:
    """The samples of a tar in order, one in memory at a time.

    A member belongs to the key that WebDataset's own rule gives it, read as `tadscale.data.keys` writes it. It is a video if
    the last part of its suffix is a video container's (`KEY.mp4`, `KEY.left.mp4`), a sidecar if its suffix is one of
    `sidecars`, and passed over otherwise.

    Args:
        file: the tar, seekable.
        video_suffix: the one suffix that is the video (`left.mp4`), for tars that hold several videos of a key.
        sidecars: which of `SIDECARS` are read.

    Attributes:
        passed_over: members that are neither, by suffix.
    """

    def __init__(self, file: BinaryIO, video_suffix: str | None = None, sidecars: Collection[str] = SIDECARS) -> None:
        self.file, self.video_suffix, self.sidecars = file, video_suffix, sidecars
        self.passed_over: Counter[str] = Counter()
        self.size = file.seek(0, io.SEEK_END)
        file.seek(0)

    def __iter__(self) -> Iterator[TarSample]:
        """Samples; a damaged or cut-off tar gives what came before the damage, and then one named `REST` that says so.

        Python's tarfile takes a damaged header for the end of the archive.
        """
        try:
            with tarfile.open(fileobj=cast(BinaryIO, _Headers(self.file)), mode="r:") as tar:
                yield from self._grouped(tar)
                end = tar.offset
        except Exception as error:
            yield TarSample(REST, fault=f"not a plain tar, or cut off: {reason_of(error)}")
            return
        self.file.seek(end)
        mark = self.file.read(tarfile.BLOCKSIZE)
        if len(mark) < tarfile.BLOCKSIZE:
            yield TarSample(REST, fault=f"the shard ends at byte {end} without a tar's end mark: probably cut off")
        elif mark.strip(b"\0"):
            yield TarSample(REST, fault=f"the shard is damaged at byte {end}: no tar header there")

    def _grouped(self, tar: tarfile.TarFile) -> Iterator[TarSample]:
        from webdataset.tariterators import base_plus_ext  # late: it imports torch

        current: TarSample | None = None
        try:
            for info in _members(tar):
                name = info.name.encode(errors="backslashreplace").decode()  # of another encoding: still a name
                key, suffix = base_plus_ext(name.removeprefix("./"))
                suffix = (suffix or "").lower()
                if not (self._is_video(suffix) or suffix in self.sidecars):
                    self.passed_over[suffix] += 1
                    continue
                key = key_of_member(key)
                if current is not None and current.key != key:
                    yield current
                    current = None
                current = current or TarSample(key)
                self._add(current, suffix, info, name)
        except Exception:
            if current is not None:  # what was read before the damage
                yield current
            raise
        if current is not None:
            yield current

    def _is_video(self, suffix: str) -> bool:
        if self.video_suffix is not None:
            return suffix == self.video_suffix.lower()
        return suffix.rpartition(".")[2] in VIDEO_SUFFIXES

    def _add(self, sample: TarSample, suffix: str, info: tarfile.TarInfo, name: str) -> None:
        is_video = self._is_video(suffix)
        limit = MAX_VIDEO_BYTES if is_video else MAX_SIDECAR_BYTES
        if suffix in sample.notes or suffix == sample.video_suffix:
            sample.fault = f"{name}: a second member of this name"
        elif is_video and sample.video_suffix:
            sample.fault = (
                f"{name}: a second video of this key, besides .{sample.video_suffix}: say which is meant with "
                f"--video-suffix {sample.video_suffix} or --video-suffix {suffix}"
            )
        elif info.issparse() or info.size > limit:
            sample.fault = f"{name}: sparse, or larger than {limit} bytes ({info.size})"
        elif info.offset_data + info.size > self.size:  # asked before reading: a forged size would be taken from memory
            held = max(0, self.size - info.offset_data)
            sample.fault = f"{name}: the shard ends inside it, {held} of {info.size} bytes"
        else:
            self._read(sample, suffix, info)

    def _read(self, sample: TarSample, suffix: str, info: tarfile.TarInfo) -> None:
        self.file.seek(info.offset_data)
        data = self.file.read(info.size)
        if self._is_video(suffix):
            sample.video, sample.video_offset, sample.video_suffix = data, info.offset_data, suffix
        else:
            sample.notes[suffix] = data


class _Headers:
    """The file as tarfile reads it, header by header: long names, PAX records and sparse maps together in bounds."""

    def __init__(self, file: BinaryIO) -> None:
        self.file, self.left = file, MAX_HEADER_BYTES
        self.seek, self.tell = file.seek, file.tell

    def read(self, size: int) -> bytes:
        self.left -= size
        if self.left < 0:
            raise tarfile.ReadError(f"the headers of one member take more than {MAX_HEADER_BYTES} bytes")
        return self.file.read(size)


def _members(tar: tarfile.TarFile) -> Iterator[tarfile.TarInfo]:
    """The files of a tar, in order. A size below nothing, of a PAX record, would lead back to what has been read."""
    for info in tar:
        if info.size < 0:
            raise tarfile.ReadError(f"a member of {info.size} bytes at byte {info.offset}")
        cast(_Headers, tar.fileobj).left = MAX_HEADER_BYTES
        if info.isreg():
            yield info
