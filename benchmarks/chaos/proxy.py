"""An S3 endpoint that fails as real ones do: a proxy on loopback before a server that does not fail."""

import random
import socket
import struct
import threading
import time
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from http.client import HTTPConnection
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any, Literal, NamedTuple, get_args
from urllib.parse import urlsplit

from tadscale.data.storage import READ_TIMEOUT_S

Fault = Literal["error 500", "SlowDown", "reset", "answer lost", "truncated", "corrupted", "stalled", "throttled"]
FAULTS: tuple[Fault, ...] = get_args(Fault)
STALL_S = READ_TIMEOUT_S + 1.0  # the client gives up just before
THROTTLED_S = 2.0  # for one answer, in pieces
HOP_BY_HOP = {"connection", "expect", "keep-alive", "transfer-encoding"}
VERIFIED = (".tar", ".safetensors", "/meta.json", "/COMPLETE")
"""Objects whose readers have a digest: what is corrupted on its way to a reader, for of others nobody could tell. On its way
to the store anything is, for writers verify it."""


class Answer(NamedTuple):
    """What a server says."""

    status: int
    headers: list[tuple[str, str]]
    body: bytes


class FaultyProxy:
    """Forwards to an endpoint, in a share of the requests with a fault.

    Args:
        upstream: `http://HOST:PORT` of the real server.
        seed: of the faults' order. Which request each one meets depends on how processes run.
    """

    def __init__(self, upstream: str, *, seed: int = 0) -> None:
        self.upstream = urlsplit(upstream).netloc
        self.share = 0.0
        """Of the requests that meet a fault."""
        self.away = False
        """Whether every request is refused with 503."""
        self.met: Counter[str] = Counter()
        """Faults by kind, so far."""
        self.requests = 0
        self._random = random.Random(seed)
        self._lock = threading.Lock()

    @contextmanager
    def serving(self) -> Iterator[str]:
        """Serve while the block runs; gives the endpoint's URL."""
        handler = type("Handler", (_Handler,), {"proxy": self})
        server = ThreadingHTTPServer(("127.0.0.1", 0), handler)
        server.daemon_threads = True
        thread = threading.Thread(target=server.serve_forever, name="S3 proxy", daemon=True)
        thread.start()
        try:
            yield f"http://127.0.0.1:{server.server_address[1]}"
        finally:
            server.shutdown()
            server.server_close()
            thread.join()

    def draw(self, method: str, path: str) -> Fault | None:
        """The fault that a request meets."""
        with self._lock:
            self.requests += 1
            if self.away:
                self.met["SlowDown"] += 1
                return "SlowDown"
            if self._random.random() >= self.share:
                return None
            fault = self._random.choice(FAULTS)
            if not _possible(fault, method, path):
                fault = "error 500"
            self.met[fault] += 1
            return fault


def _possible(fault: Fault, method: str, path: str) -> bool:
    if fault == "truncated":
        return method == "GET"
    if fault == "corrupted":
        return method == "PUT" or (method == "GET" and path.partition("?")[0].endswith(VERIFIED))
    return True


class _Handler(BaseHTTPRequestHandler):
    """One connection of a client."""

    proxy: FaultyProxy
    protocol_version = "HTTP/1.1"

    def do_GET(self) -> None:
        """Any request."""
        body = self.rfile.read(int(self.headers.get("Content-Length") or 0))
        fault = self.proxy.draw(self.command, self.path)
        if fault == "error 500":
            self._send(_error(500, "InternalError"))
        elif fault == "SlowDown":
            self._send(_error(503, "SlowDown"))
        elif fault == "reset":
            self._reset()
        elif fault == "stalled":
            time.sleep(STALL_S)
            self._reset()
        else:
            self._forward(body, fault)

    do_PUT = do_POST = do_DELETE = do_HEAD = do_GET

    def _forward(self, body: bytes, fault: Fault | None) -> None:
        if fault == "corrupted" and self.command == "PUT":
            body = flipped(body, bit=0)
        answer = self._ask(body)
        if fault == "answer lost":
            self._reset()
        elif fault == "corrupted" and self.command == "GET":
            self._send(answer._replace(body=flipped(answer.body, bit=1)))
        elif fault == "truncated":
            self._send(answer, whole=False)
            self._reset()
        else:
            self._send(answer, pause_s=THROTTLED_S / 20 if fault == "throttled" else 0.0)

    def _ask(self, body: bytes) -> Answer:
        connection = HTTPConnection(self.proxy.upstream, timeout=120)
        headers = {name: value for name, value in self.headers.items() if name.lower() not in HOP_BY_HOP}
        try:
            connection.request(self.command, self.path, body or None, headers)
            response = connection.getresponse()
            return Answer(response.status, response.getheaders(), response.read())
        finally:
            connection.close()

    def _send(self, answer: Answer, *, whole: bool = True, pause_s: float = 0.0) -> None:
        """Headers as they came; the body at once, its first half only, or in twenty pieces with pauses."""
        self.send_response_only(answer.status)
        for name, value in answer.headers:
            if name.lower() not in HOP_BY_HOP | {"content-length"}:
                self.send_header(name, value)
        stated = [value for name, value in answer.headers if name.lower() == "content-length"]
        self.send_header("Content-Length", stated[0] if self.command == "HEAD" and stated else str(len(answer.body)))
        self.end_headers()
        body = b"" if self.command == "HEAD" else answer.body if whole else answer.body[: len(answer.body) // 2]
        step = max(1, -(-len(body) // 20)) if pause_s else max(1, len(body))
        for first in range(0, len(body), step):
            time.sleep(pause_s)
            self.wfile.write(body[first : first + step])
        self.wfile.flush()

    def _reset(self) -> None:
        """End the connection without a word: RST, because unsent data are dropped."""
        self.connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        self.close_connection = True
        self.connection.close()

    def log_message(self, format: str, *args: Any) -> None:
        """Say nothing."""

    def handle(self) -> None:
        """Serve a connection; a client that was killed ends it."""
        try:
            super().handle()
        except (OSError, ValueError):  # a reset of ours leaves closed files behind
            self.close_connection = True

    def finish(self) -> None:
        """Close what is open still."""
        try:
            super().finish()
        except (OSError, ValueError):
            return


def flipped(data: bytes, bit: int) -> bytes:
    """The same with a bit of the middle byte changed: another one on each way, or a writer that reads back saw no harm."""
    if not data:
        return data
    middle = len(data) // 2
    return data[:middle] + bytes([data[middle] ^ 1 << bit]) + data[middle + 1 :]


def _error(status: int, code: str) -> Answer:
    body = f'<?xml version="1.0" encoding="UTF-8"?><Error><Code>{code}</Code><Message>chaos</Message></Error>'.encode()
    return Answer(status, [("Content-Type", "application/xml")], body)
