"""A video's bytes, from a path, a URL, or the bytes themselves."""

import base64
import binascii
import os
import urllib.request
from collections.abc import Sequence
from http.client import HTTPException
from pathlib import Path
from typing import Any
from urllib.error import HTTPError
from urllib.parse import unquote_to_bytes, urlsplit
from urllib.request import url2pathname

from tadscale.data.quarantine import DataError

VideoSource = str | Path | bytes
"""A local path, a URL of `SCHEMES`, or an encoded video."""

SCHEMES = ("file", "http", "https", "s3", "data")
SCHEMES_VARIABLE = "TADSCALE_VIDEO_SCHEMES"
"""Environment variable that narrows `SCHEMES`, such as `https,s3`. A model behind an open port should not read local files
for strangers: `file` stands for plain paths, too."""
MAX_VIDEO_BYTES = 4 << 30  # a video is held in memory whole
TIMEOUT_S = 30.0
CHUNK_BYTES = 1 << 20


class UnavailableVideo(DataError):
    """The source of a video cannot be read, or may not be."""


def source_name(source: VideoSource, index: int) -> str:
    """What to call a video: its path or URL as given; bytes and data URLs by their place in the input, `video-0`."""
    if isinstance(source, bytes) or (isinstance(source, str) and _scheme(source) == "data"):
        return f"video-{index}"
    return str(source)


def short_names(sources: Sequence[VideoSource]) -> list[str]:
    """File names without folder and suffix, as data sets call their videos; full names where two would be the same."""
    full = [source_name(source, index) for index, source in enumerate(sources)]
    short = [Path(urlsplit(name).path if _scheme(name) else name).stem or name for name in full]
    return [brief if short.count(brief) == 1 else name for brief, name in zip(short, full, strict=True)]


def fetch_video(source: VideoSource) -> bytes:
    """Read a video whole.

    Raises:
        UnavailableVideo: a scheme that is not allowed, no such file, no answer, or more than `MAX_VIDEO_BYTES`.
    """
    if isinstance(source, bytes):
        return source
    scheme = _scheme(source) if isinstance(source, str) else ""
    allowed = _allowed_schemes()
    if (scheme or "file") not in allowed:
        raise UnavailableVideo(
            f"{scheme or 'file'}: is not allowed; allowed are {', '.join(allowed)} ({SCHEMES_VARIABLE})"
        )
    try:
        match scheme:
            case "http" | "https":
                return _over_http(str(source), allowed)
            case "s3":
                return _from_s3(str(source))
            case "data":
                return _inline(str(source))
            case "file":
                return _from_file(_file_path(str(source)))
            case _:
                return _from_file(Path(source))
    except HTTPError as error:
        raise UnavailableVideo(f"the server answers {error.code} {error.reason}") from error
    except (OSError, HTTPException) as error:  # of the network, of the file system, of S3
        raise UnavailableVideo(f"cannot be read: {error}") from error


def _scheme(source: str) -> str:
    """The scheme of a URL, empty for a path."""
    head, separator, _ = source.partition("://")
    if separator and head.replace("+", "").isalnum():
        return head.lower()
    return "data" if source[:5].lower() == "data:" else ""


def _allowed_schemes() -> list[str]:
    named = os.environ.get(SCHEMES_VARIABLE)
    if named is None:
        return list(SCHEMES)
    return [scheme for scheme in SCHEMES if scheme in {part.strip().lower() for part in named.split(",")}]


def _file_path(url: str) -> Path:
    parts = urlsplit(url)
    if parts.netloc not in ("", "localhost"):
        raise UnavailableVideo(f"file:// names the host {parts.netloc!r}; write file:///absolute/path")
    return Path(url2pathname(parts.path))


def _from_file(path: Path) -> bytes:
    with path.open("rb") as file:
        return _capped(file)


def _capped(stream: Any) -> bytes:
    """Read to the end, in pieces, and refuse to go on past the cap (a length that a server announces proves nothing)."""
    pieces, total = [], 0
    while piece := stream.read(CHUNK_BYTES):
        total += len(piece)
        if total > MAX_VIDEO_BYTES:
            raise UnavailableVideo(f"larger than {MAX_VIDEO_BYTES >> 20} MiB: cut it into parts")
        pieces.append(piece)
    return b"".join(pieces)


class _AllowedRedirects(urllib.request.HTTPRedirectHandler):
    """Follow a redirect only to where the caller might have gone at once."""

    def __init__(self, allowed: Sequence[str]) -> None:
        self._allowed = allowed

    def redirect_request(self, req: Any, fp: Any, code: int, msg: str, headers: Any, newurl: str) -> Any:
        """See `urllib`."""
        if _scheme(newurl) not in {"http", "https"} & set(self._allowed):
            raise UnavailableVideo(f"the server redirects to {_scheme(newurl)}:, which is not allowed")
        return super().redirect_request(req, fp, code, msg, headers, newurl)


def _over_http(url: str, allowed: Sequence[str]) -> bytes:
    with urllib.request.build_opener(_AllowedRedirects(allowed)).open(url, timeout=TIMEOUT_S) as response:
        body = _capped(response)
        announced = response.headers.get("Content-Length")
        if announced is not None and len(body) != int(announced):
            raise UnavailableVideo(f"the connection broke after {len(body)} of {announced} bytes; try again")
        return body


def _from_s3(url: str) -> bytes:
    from tadscale.data.storage import open_filesystem  # late: only S3 needs s3fs

    filesystem, path = open_filesystem(url)
    with filesystem.open(path, "rb") as file:
        return _capped(file)


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
