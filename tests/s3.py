"""A local S3 server (moto) in a process of its own, on loopback, for as long as a test session needs it."""

import os
import socket
import subprocess
import sys
import time
import uuid
from collections.abc import Iterator
from contextlib import contextmanager
from typing import NamedTuple
from urllib.error import HTTPError, URLError
from urllib.request import ProxyHandler, Request, build_opener

import pytest

START_TIMEOUT_S = 60


class S3Server(NamedTuple):
    """A running server, for tests that need more than a bucket."""

    endpoint: str
    environment: dict[str, str]
    """What a client's process needs in its environment."""

    @contextmanager
    def checking_credentials(self) -> Iterator[None]:
        """While this lasts, the server knows no access key and refuses every request."""
        _call(f"{self.endpoint}/moto-api/reset-auth", b"0")
        try:
            yield
        finally:
            _call(f"{self.endpoint}/moto-api/reset-auth", b"inf")


def free_port() -> int:
    """A loopback port on which nobody listens now."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return probe.getsockname()[1]


@pytest.fixture(scope="session")
def s3_server() -> Iterator[S3Server]:
    """One server for the whole session; skips where moto is not installed."""
    pytest.importorskip("moto.server", reason="needs moto[server]")
    pytest.importorskip("s3fs")
    port = free_port()
    endpoint = f"http://127.0.0.1:{port}"
    command = [sys.executable, "-m", "moto.server", "-H", "127.0.0.1", "-p", str(port)]
    process = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    try:
        _wait_until_up(endpoint, process)
        yield S3Server(
            endpoint,
            {
                "AWS_ENDPOINT_URL": endpoint,
                "AWS_ACCESS_KEY_ID": "test-key",
                "AWS_SECRET_ACCESS_KEY": "test-secret",
                "AWS_REGION": "us-east-1",
                "AWS_DEFAULT_REGION": "us-east-1",
                "AWS_EC2_METADATA_DISABLED": "true",
                "NO_PROXY": "127.0.0.1,localhost",
            },
        )
    finally:
        process.terminate()
        try:
            process.wait(10)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait(10)


@pytest.fixture
def s3_url(s3_server: S3Server, monkeypatch: pytest.MonkeyPatch) -> str:
    """`s3://BUCKET` of a fresh, empty bucket; endpoint and credentials are in the environment, for children, too."""
    for name in list(os.environ):
        if name.startswith("AWS_"):
            monkeypatch.delenv(name)
    for name, value in s3_server.environment.items():
        monkeypatch.setenv(name, value)
    bucket = f"test-{uuid.uuid4().hex}"
    _call(f"{s3_server.endpoint}/{bucket}", method="PUT")
    return f"s3://{bucket}"


def _wait_until_up(endpoint: str, process: subprocess.Popen) -> None:
    deadline = time.monotonic() + START_TIMEOUT_S
    while time.monotonic() < deadline:
        if process.poll() is not None:
            raise RuntimeError(f"the S3 server ended at once, with exit code {process.returncode}")
        try:
            _call(f"{endpoint}/moto-api/", method="GET")
            return
        except HTTPError:
            return  # it answers
        except (URLError, OSError):
            time.sleep(0.1)
    raise TimeoutError(f"no S3 server at {endpoint} within {START_TIMEOUT_S} s")


def _call(url: str, body: bytes | None = None, method: str = "POST") -> None:
    request = Request(url, body, {"Content-Type": "application/octet-stream"}, method=method)
    build_opener(ProxyHandler({})).open(request, timeout=10).close()  # never through a proxy
