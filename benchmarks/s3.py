"""A bucket of moto's server on loopback, in a process of its own, which answers as late as it is told.

`python -m benchmarks.s3 PORT LATENCY_S` is that process.
"""

import os
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any, NamedTuple


class Bucket(NamedTuple):
    """Where it is."""

    url: str
    """`s3://NAME`; the environment leads to it."""
    endpoint: str
    """`http://HOST:PORT`."""
    pid: int
    """Of the server."""

    def signed(self, path: str) -> str:
        """The `http://` URL at which anybody may read `BUCKET/KEY` for an hour."""
        import boto3

        bucket, _, key = path.partition("/")
        return boto3.client("s3").generate_presigned_url("get_object", Params={"Bucket": bucket, "Key": key})


@contextmanager
def s3_bucket(latency_s: float = 0.0) -> Iterator[Bucket]:
    """A bucket, and the environment that leads to it.

    Args:
        latency_s: before each request is answered.
    """
    import boto3

    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    command = [sys.executable, "-m", "benchmarks.s3", str(port), str(latency_s)]
    server = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    endpoint = f"http://127.0.0.1:{port}"
    os.environ |= {
        "AWS_ENDPOINT_URL": endpoint,
        "AWS_ACCESS_KEY_ID": "key",
        "AWS_SECRET_ACCESS_KEY": "secret",
        "AWS_DEFAULT_REGION": "us-east-1",
        "NO_PROXY": "127.0.0.1",
    }
    try:
        _wait_for(port)
        boto3.client("s3").create_bucket(Bucket="videos")
        yield Bucket("s3://videos", endpoint, server.pid)
    finally:
        server.terminate()
        try:
            server.wait(10)
        except subprocess.TimeoutExpired:  # on a machine that has no time for it
            server.kill()
            server.wait()


def _wait_for(port: int) -> None:
    """Until somebody listens there, at most a minute."""
    for _ in range(600):
        with socket.socket() as probe:
            if probe.connect_ex(("127.0.0.1", port)) == 0:
                return
        time.sleep(0.1)
    raise TimeoutError("moto's server does not start")


def _serve(port: int, latency_s: float) -> None:
    from moto.server import DomainDispatcherApplication, create_backend_app
    from werkzeug.serving import run_simple

    app = DomainDispatcherApplication(create_backend_app)

    def late(environ: Any, start_response: Any) -> Any:
        time.sleep(latency_s)
        return app(environ, start_response)

    run_simple("127.0.0.1", port, late, threaded=True)


if __name__ == "__main__":
    _serve(int(sys.argv[1]), float(sys.argv[2]))
