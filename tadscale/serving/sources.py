"""An encoded video, from a path, a URL, or its bytes. Files stay where they are, and what is fetched goes to disk."""

import base64
import binascii
import os
import stat
import time
from collections.abc import Sequence
from pathlib import Path
from tempfile import TemporaryFile
from typing import BinaryIO
from urllib.error import HTTPError
from urllib.parse import unquote, unquote_to_bytes, urlsplit
from urllib.request import url2pathname

from tadscale.data.keys import video_key
from tadscale.data.quarantine import DataError
from tadscale.data.stored import EncodedVideo, StoredVideo
from tadscale.serving.access import SCHEMES_VARIABLE, Access
from tadscale.serving.download import UnavailableVideo, download, too_large

__all__ = ["UnavailableVideo", "VideoSource", "fetch_video", "is_inline", "short_names", "source_name"]

RANGE_BYTES = 16 << 20  # of an object on S3 at a time, which are in memory meanwhile
VideoSource = str | Path | bytes
"""A local path, a URL of `access.SCHEMES`, or an encoded video."""


def source_name(source: VideoSource, index: int) -> str:
    """What to call a video: its path or URL as given; bytes and data URLs by their place in the input, `video-0`."""
    return f"video-{index}" if is_inline(source) else str(source)


def is_inline(source: VideoSource) -> bool:
    """Whether the source is the video itself: nothing is fetched."""
    return isinstance(source, bytes) or (isinstance(source, str) and _scheme(source) == "data")


def short_names(sources: Sequence[VideoSource]) -> list[str]:
    """File names without folder and suffix, as data sets call their videos; full names where two would be the same."""
    full = [source_name(source, index) for index, source in enumerate(sources)]
    short = [video_key(_file_name(name)) or name for name in full]
    return [brief if short.count(brief) == 1 else name for brief, name in zip(short, full, strict=True)]


def fetch_video(source: VideoSource, access: Access | None = None) -> EncodedVideo:
    """A video that can be decoded: a file as it lies, anything fetched as a temporary file that has no name.

    Args:
        source: what to read.
        access: what may be read, and how much; as the environment says by default.

    Raises:
        UnavailableVideo: a scheme, host or kind of file that is not allowed, no such file, no answer, too much, too slow.
    """
    if isinstance(source, bytes):
        return source
    access = access or Access.from_environment()
    scheme = _scheme(source) if isinstance(source, str) else ""
    if (scheme or "file") not in access.schemes:
        raise UnavailableVideo(
            f"{scheme or 'file'}: is not allowed; allowed are {', '.join(access.schemes)} ({SCHEMES_VARIABLE})"
        )
    try:
        return _read(source, scheme, access)
    except (DataError, MemoryError):
        raise
    except HTTPError as error:
        raise UnavailableVideo(f"the server answers {error.code} {error.reason}") from error
    except Exception as error:
        # Of the network, of files, of botocore; and of what is no path and no URL: a zero byte, port 99999, 70 letters.
        # Whatever it is, it is this source's, and the others are still to be read.
        raise UnavailableVideo(f"cannot be read: {str(error) or type(error).__name__}") from error


def _read(source: str | Path, scheme: str, access: Access) -> EncodedVideo:
    match scheme:
        case "http" | "https" | "s3":
            return _fetched(str(source), scheme, access)
        case "data":
            return _inline(str(source))
        case "file":
            return _from_file(_file_path(str(source)), access)
        case _:
            return _from_file(Path(source), access)


def _fetched(url: str, scheme: str, access: Access) -> StoredVideo:
    file = TemporaryFile()  # noqa: SIM115 - open for as long as the video is
    try:
        (_from_s3 if scheme == "s3" else download)(url, access, file)
        file.flush()
    except BaseException:
        file.close()
        raise
    return StoredVideo(file)


def _scheme(source: str) -> str:
    """The scheme of a URL, empty for a path."""
    head, separator, _ = source.partition("://")
    if separator and head.replace("+", "").isalnum():
        return head.lower()
    return "data" if source[:5].lower() == "data:" else ""


def _file_name(name: str) -> str:
    """The last part of a path or a URL; of a URL as people wrote it, `my clip.mp4` for `my%20clip.mp4`."""
    if _scheme(name) in ("http", "https", "file"):
        return unquote(name.split("?")[0].split("#")[0].rstrip("/").rpartition("/")[2])
    return name.rstrip("/").rpartition("/")[2]


def _file_path(url: str) -> Path:
    parts = urlsplit(url)
    if parts.netloc not in ("", "localhost"):
        raise UnavailableVideo(f"file:// names the host {parts.netloc!r}; write file:///absolute/path")
    return Path(url2pathname(parts.path))


def _from_file(path: Path, access: Access) -> StoredVideo:
    """A regular file: a device has no end (/dev/zero), a pipe may never begin."""
    descriptor = os.open(path, os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC)
    try:
        status = os.fstat(descriptor)
        if not stat.S_ISREG(status.st_mode):
            raise UnavailableVideo("cannot be read: it is no file, but a folder, a device or a pipe")
        if status.st_size > access.max_bytes:
            raise too_large(access)
        return StoredVideo(os.fdopen(descriptor, "rb"))
    except BaseException:
        os.close(descriptor)
        raise


def _from_s3(url: str, access: Access, into: BinaryIO) -> None:
    from fsspec.asyn import sync  # late: only S3 needs it, and s3fs

    from tadscale.data.storage import open_filesystem

    filesystem, path = open_filesystem(url)
    until_s = time.monotonic() + access.deadline_s
    entry = sync(filesystem.loop, filesystem._info, path, timeout=access.deadline_s)
    if entry["type"] != "file":
        raise UnavailableVideo("cannot be read: it is no object, but a bucket or a prefix")
    if (size := entry["size"]) > access.max_bytes:
        raise too_large(access)
    for start in range(0, size, RANGE_BYTES):
        left_s = max(until_s - time.monotonic(), 0.01)
        end = min(start + RANGE_BYTES, size)
        into.write(sync(filesystem.loop, filesystem._cat_file, path, start=start, end=end, timeout=left_s))
    if into.tell() != size:
        raise UnavailableVideo(f"{into.tell()} of {size} bytes came: it was replaced meanwhile; try again")


def _inline(url: str) -> bytes:
    head, separator, body = url.partition(",")
    if not separator:
        raise UnavailableVideo("a data: URL without a comma; write data:video/mp4;base64,...")
    data = unquote_to_bytes(body)
    if not head.endswith(";base64"):
        return data
    try:
        return base64.b64decode(data, validate=True)
    except binascii.Error as error:
        raise UnavailableVideo(f"a data: URL whose base64 is damaged ({error})") from error
