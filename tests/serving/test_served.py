"""The packaged model behind MLflow's own scoring server: another process, a real port, HTTP.

It costs about 20 s, nearly all of which is MLflow's imports: twice, in the command and in the server that it starts.
"""

import base64
import json
import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path
from typing import Any
from urllib.error import HTTPError, URLError
from urllib.request import ProxyHandler, Request, build_opener

import pytest

from tadscale.serving import Predictor

START_S = 200.0  # on a machine with other work to do
ANSWER_S = 60.0
OPENER = build_opener(ProxyHandler({}))


@pytest.fixture(scope="module")
def server(package: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """The URL of `mlflow models serve` on loopback; its processes are one group, which is ended whatever happens."""
    folder = tmp_path_factory.mktemp("server")
    with socket.create_server(("127.0.0.1", 0)) as free:
        port = free.getsockname()[1]
    command = [sys.executable, "-m", "mlflow", "models", "serve", "--model-uri", str(package), "--env-manager", "local"]
    environment = {name: value for name, value in os.environ.items() if name != "PYTHONPATH"}
    with open(folder / "log", "wb") as log:
        process = subprocess.Popen(
            [*command, "--host", "127.0.0.1", "--port", str(port), "--workers", "1"],
            cwd=folder, stdout=log, stderr=log, start_new_session=True,
            env=environment | {"OMP_NUM_THREADS": "1", "MLFLOW_DISABLE_TELEMETRY": "true",
                               "PATH": os.pathsep.join([str(Path(sys.executable).parent), os.environ["PATH"]])},
        )  # fmt: skip
    try:
        wait_for(f"http://127.0.0.1:{port}/ping", process, folder / "log")
        yield f"http://127.0.0.1:{port}"
    finally:
        with suppress(ProcessLookupError):
            os.killpg(process.pid, signal.SIGKILL)
        process.wait(10)


def wait_for(url: str, process: subprocess.Popen, log: Path) -> None:
    deadline = time.monotonic() + START_S
    while True:
        with suppress(URLError, OSError), OPENER.open(url, timeout=5) as answer:
            if answer.status == 200:
                return
        assert process.poll() is None and time.monotonic() < deadline, log.read_text()
        time.sleep(0.2)


def ask(server: str, document: dict[str, Any]) -> Any:
    request = Request(
        f"{server}/invocations", json.dumps(document).encode(), {"Content-Type": "application/json"}, method="POST"
    )
    with OPENER.open(request, timeout=ANSWER_S) as answer:
        return json.load(answer)


def test_a_video_in_a_request_is_answered_with_its_detections(server: str, package: Path, video: bytes) -> None:
    url = "data:video/mp4;base64," + base64.b64encode(video).decode()
    _, detections = Predictor.from_directory(package, "cpu").detect(video, "video-0")
    expected = [[row.video, row.label, row.start_s, row.end_s, row.score] for row in detections]
    assert len(expected) > 3
    forms: list[dict[str, Any]] = [
        {"inputs": [url]},
        {"dataframe_split": {"columns": ["place", "video"], "data": [["here", url]]}},
        {"dataframe_records": [{"video": url}]},
    ]
    for form in forms:
        answer = ask(server, form)["predictions"]
        assert [list(row.values()) for row in answer] == expected
        assert list(answer[0]) == ["video", "label", "start_s", "end_s", "score"]
    two = ask(server, {"inputs": [url], "params": {"top_k": 2}})["predictions"]
    assert [list(row.values()) for row in two] == expected[:2]


def test_a_stranger_reads_no_file_and_learns_nothing(server: str, video: bytes, tmp_path: Path) -> None:
    path = tmp_path / "clip.mp4"
    path.write_bytes(video)
    told = set()
    for source in (str(path), str(tmp_path / "none.mp4"), "http://127.0.0.1:1/"):
        with pytest.raises(HTTPError) as error:
            ask(server, {"inputs": [source]})
        body = error.value.read().decode()
        assert error.value.code == 400 and "allowed are https, data" in body
        told.add(json.loads(body)["message"].replace(source, "IT"))
    assert len(told) == 1
