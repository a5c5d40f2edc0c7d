"""Walking through a WebDataset tar, sound or not, without extracting anything."""

import re
import tarfile
from collections.abc import Iterator
from typing import BinaryIO, NamedTuple

VIDEO_SUFFIXES = ("mp4", "mkv", "webm", "avi", "mov")
# WebDataset's rule: the key is the path up to the first dot of the file name, what follows is the suffix.
MEMBER_NAME = re.compile(r"((?:.*/)?[^./]+)\.([^/]+)")
MAX_BYTES = {"json": 16 * 2**20} | dict.fromkeys(VIDEO_SUFFIXES, 4 * 2**30)
REST = "(rest of the shard)"


class TarSample(NamedTuple):
    """The members of one key."""

    key: str
    video: bytes = b""
    video_offset: int = -1
    """-1: there is none."""
    note: bytes | None = None
    """Content of `KEY.json`."""
    fault: str = ""
    """Why the sample cannot be used."""


def tar_samples(file: BinaryIO) -> Iterator[TarSample]:
    """The samples of a tar in order, one in memory at a time; members of other suffixes are passed over.

    A damaged or cut-off tar gives what came before the damage, and then a sample named `REST` that says so: Python's
    tarfile takes a damaged header for the end of the archive.
    """
    try:
        with tarfile.open(fileobj=file, mode="r:") as tar:
            yield from _grouped(tar, file)
            end = tar.offset
    except tarfile.TarError as error:
        yield TarSample(REST, fault=f"not a plain tar, or cut off: {error}")
        return
    file.seek(end)
    mark = file.read(tarfile.BLOCKSIZE)
    if len(mark) < tarfile.BLOCKSIZE:
        yield TarSample(REST, fault=f"the shard ends at byte {end} without a tar's end mark: probably cut off")
    elif mark.strip(b"\0"):
        yield TarSample(REST, fault=f"the shard is damaged at byte {end}: no tar header there")


def _grouped(tar: tarfile.TarFile, file: BinaryIO) -> Iterator[TarSample]:
    current: TarSample | None = None
    try:
        for info in tar:
            match = MEMBER_NAME.fullmatch(info.name.removeprefix("./"))
            if match is None or not info.isreg() or match[2].lower() not in MAX_BYTES:
                continue
            if current is not None and current.key != match[1]:
                yield current
                current = None
            current = _with_member(current or TarSample(match[1]), match[2].lower(), info, file)
    except tarfile.TarError:
        if current is not None:  # what was read before the damage
            yield current
        raise
    if current is not None:
        yield current


def _with_member(sample: TarSample, suffix: str, info: tarfile.TarInfo, file: BinaryIO) -> TarSample:
    if info.issparse() or info.size > MAX_BYTES[suffix]:
        return sample._replace(fault=f"{info.name}: sparse, or larger than {MAX_BYTES[suffix]} bytes ({info.size})")
    file.seek(info.offset_data)
    data = file.read(info.size)
    if len(data) != info.size:
        return sample._replace(fault=f"{info.name}: the shard ends inside it, {len(data)} of {info.size} bytes")
    if suffix == "json":
        return sample._replace(note=data)
    if sample.video_offset >= 0:
        return sample._replace(fault=f"{info.name}: a second video of this key")
    return sample._replace(video=data, video_offset=info.offset_data)
