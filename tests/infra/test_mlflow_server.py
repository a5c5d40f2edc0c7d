"""The MLflow server of mlflow.yaml, its own command and environment, for real (about 10 s)."""

import os
import socket
import subprocess
import sys
import time
import urllib.error
import urllib.request
from collections.abc import Iterator
from pathlib import Path

import pytest
import yaml

BASE = Path(__file__).resolve().parents[2] / "infra/kubernetes/base"
DOCUMENTS = {d["kind"]: d for d in yaml.safe_load_all((BASE / "mlflow.yaml").read_text())}
SETTINGS = yaml.safe_load((BASE / "settings.yaml").read_text())["data"]


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[int]:
    """Its port, on loopback; the volume is a temporary directory."""
    volume = tmp_path_factory.mktemp("volume")
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    (container,) = DOCUMENTS["Deployment"]["spec"]["template"]["spec"]["containers"]
    here = {"--host=0.0.0.0": "--host=127.0.0.1", "--port=5000": f"--port={port}", "--workers=2": "--workers=1"}
    command = [here.pop(word, word) for word in container["command"]]
    assert not here, "the manifest's command changed"
    environment = {k: v.replace("/mlflow", str(volume), 1) for k, v in DOCUMENTS["ConfigMap"]["data"].items()}
    environment["MLFLOW_BACKEND_STORE_URI"] = f"sqlite:///{volume}/mlflow.db"
    environment["MLFLOW_SERVER_ALLOWED_HOSTS"] = DOCUMENTS["ConfigMap"]["data"]["MLFLOW_SERVER_ALLOWED_HOSTS"]
    outside = {k: v for k, v in os.environ.items() if not k.startswith("MLFLOW_")}
    process = subprocess.Popen(
        [str(Path(sys.executable).with_name(command[0])), *command[1:]],
        env={**outside, **environment},
        cwd=volume,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
        start_new_session=True,
    )
    try:
        deadline_s = time.monotonic() + 250  # 10 s on an idle machine
        while status(port, "/health", "10.1.2.3:5000") != 200:  # as the kubelet asks, by the pod's address
            assert process.poll() is None, "the server ended"
            assert time.monotonic() < deadline_s, "the server did not answer in time"
            time.sleep(0.3)
        yield port
    finally:
        os.killpg(process.pid, 15)
        process.wait(timeout=60)


def status(port: int, path: str, host: str) -> int:
    request = urllib.request.Request(f"http://127.0.0.1:{port}{path}", headers={"Host": host})
    try:
        with urllib.request.urlopen(request, timeout=10) as answer:
            return answer.status
    except urllib.error.HTTPError as error:
        return error.code
    except OSError:
        return 0


EXPERIMENT = "/api/2.0/mlflow/experiments/get?experiment_id=0"


def test_answers_by_the_name_that_ray_pods_use(server: int) -> None:
    host = SETTINGS["MLFLOW_TRACKING_URI"].removeprefix("http://")
    service = DOCUMENTS["Service"]
    assert host == f"{service['metadata']['name']}:{service['spec']['ports'][0]['port']}"
    assert status(server, EXPERIMENT, host) == 200


def test_answers_through_port_forward(server: int) -> None:
    assert status(server, EXPERIMENT, f"localhost:{server}") == 200


def test_refuses_other_names(server: int) -> None:
    assert status(server, EXPERIMENT, "rebound.example.com:5000") == 403


def test_kubernetes_does_not_give_it_a_port_by_accident() -> None:
    """A service named mlflow puts MLFLOW_PORT=tcp://... into pods, and `mlflow server` reads it as its port."""
    assert DOCUMENTS["Deployment"]["spec"]["template"]["spec"]["enableServiceLinks"] is False
