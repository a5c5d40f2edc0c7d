"""A file over HTTP: from allowed hosts and addresses, within a time and a size, redirects included."""

import socket
import ssl
import threading
import time
from collections.abc import Callable
from contextlib import suppress
from http.client import HTTPConnection, HTTPSConnection
from types import TracebackType
from typing import Any, BinaryIO, Self
from urllib.parse import urlsplit
from urllib.request import (
    HTTPHandler,
    HTTPRedirectHandler,
    HTTPSHandler,
    ProxyHandler,
    Request,
    build_opener,
)

from tadscale.data.quarantine import DataError
from tadscale.serving.access import HOSTS_VARIABLE, Access, is_public

TIMEOUT_S = 30.0  # of silence
CHUNK_BYTES = 1 << 20


class UnavailableVideo(DataError):
    """The source of a video cannot be read, or may not be."""


def download(url: str, access: Access, into: BinaryIO) -> None:
    """Fetch a file and write it.

    Raises:
        UnavailableVideo: a host or an address that is not allowed, or too much, too slow, cut short.
        OSError, HTTPException, ValueError: no answer, or none that makes sense.
    """
    with _Line(access) as line:
        direct = [ProxyHandler({})] if access.public_only else []  # a proxy would look up addresses in our place
        opener = build_opener(_Redirects(access), _Http(line), _Https(line), *direct)
        check_host(url, access)
        try:
            with opener.open(url, timeout=TIMEOUT_S) as response:
                _body(response, line, into)
        except OSError as error:
            line.check()
            raise error


def check_host(url: str, access: Access) -> None:
    """Refuse a URL whose host is not on the list, if there is one. Raises `UnavailableVideo`."""
    host = (urlsplit(url).hostname or "").lower()
    if access.hosts is not None and host not in access.hosts:
        raise UnavailableVideo(f"the host {host!r} is not allowed ({HOSTS_VARIABLE})")


def _copy(read: Callable[[int], bytes], access: Access, into: BinaryIO) -> int:
    """Copy to the end, in pieces, and refuse to go on past the cap: a length that somebody announces proves nothing."""
    copied = 0
    while piece := read(CHUNK_BYTES):
        copied += len(piece)
        if copied > access.max_bytes:
            raise too_large(access)
        into.write(piece)
    return copied


def too_large(access: Access) -> UnavailableVideo:
    """The error for more than may be read."""
    return UnavailableVideo(f"larger than {access.max_bytes >> 20} MiB: cut it into parts")


def _body(response: Any, line: "_Line", into: BinaryIO) -> None:
    announced = response.headers.get("Content-Length")
    if announced is not None and int(announced) > line.access.max_bytes:
        raise too_large(line.access)
    copied = _copy(response.read1, line.access, into)  # read1: whatever has come, to check the cap as it comes
    line.check()
    if announced is not None and copied != int(announced):
        raise UnavailableVideo(f"the connection broke after {copied} of {announced} bytes; try again")


class _Line:
    """Connects to where it may, and cuts all connections at the deadline: a server that sends a byte a second, of headers or
    of content, never runs into a timeout of silence."""

    def __init__(self, access: Access) -> None:
        self.access = access
        self._until_s = time.monotonic() + access.deadline_s
        self._timer = threading.Timer(access.deadline_s, self._cut)
        self._timer.daemon = True
        self._open: list[socket.socket] = []
        self._expired = False

    def __enter__(self) -> Self:
        self._timer.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._timer.cancel()
        for twin in self._open:
            twin.close()

    def connect(self, address: tuple[str, int], *_: Any) -> socket.socket:
        """As `socket.create_connection`; the addresses that are checked are those that are connected to."""
        host, port = address
        found = [entry[4][0] for entry in socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)]
        if self.access.public_only and not all(is_public(str(one)) for one in found):
            raise UnavailableVideo(f"{host} has an address that is not public; name it in {HOSTS_VARIABLE} to allow it")
        for last, one in enumerate(found, 1 - len(found)):
            try:
                connected = socket.create_connection((str(one), port), timeout=self._patience_s())
            except OSError:
                if last == 0:
                    raise
            else:
                self._open.append(connected.dup())  # the twin stays when TLS takes the socket over
                connected.settimeout(TIMEOUT_S)
                return connected
        raise OSError(f"{host} has no address")

    def check(self) -> None:
        """Raise `UnavailableVideo` if the deadline is over."""
        if self._expired or time.monotonic() >= self._until_s:
            raise UnavailableVideo(f"not here after {self.access.deadline_s:g} s")

    def _patience_s(self) -> float:
        self.check()
        return min(TIMEOUT_S, max(self._until_s - time.monotonic(), 0.01))

    def _cut(self) -> None:
        self._expired = True
        for twin in self._open:
            with suppress(OSError):  # closed already
                twin.shutdown(socket.SHUT_RDWR)


class _Http(HTTPHandler):
    def __init__(self, line: _Line) -> None:
        super().__init__()
        self._line = line

    def http_open(self, req: Request) -> Any:
        return self.do_open(_on(self._line, HTTPConnection), req)


class _Https(HTTPSHandler):
    def __init__(self, line: _Line) -> None:
        super().__init__(context=ssl.create_default_context())
        self._line = line

    def https_open(self, req: Request) -> Any:
        return self.do_open(_on(self._line, HTTPSConnection), req, context=ssl.create_default_context())


def _on(line: _Line, kind: type[HTTPConnection]) -> Callable[..., HTTPConnection]:
    def connection(host: str, **options: Any) -> HTTPConnection:
        made = kind(host, **options)
        made._create_connection = line.connect  # type: ignore[attr-defined]
        return made

    return connection


class _Redirects(HTTPRedirectHandler):
    """Follow a redirect only to where the caller might have gone at once."""

    def __init__(self, access: Access) -> None:
        self._access = access

    def redirect_request(self, req: Any, fp: Any, code: int, msg: str, headers: Any, newurl: str) -> Any:
        """See `urllib`."""
        scheme = urlsplit(newurl).scheme.lower()
        if scheme not in {"http", "https"} & set(self._access.schemes):
            raise UnavailableVideo(f"the server redirects to {scheme}:, which is not allowed")
        check_host(newurl, self._access)
        return super().redirect_request(req, fp, code, msg, headers, newurl)
