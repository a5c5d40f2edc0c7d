"""MLflow with a password: components/auth's own command, settings and environment, for real (about 15 s)."""

import base64
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

pytestmark = [pytest.mark.slow, pytest.mark.timeout(400)]

COMPONENT = Path(__file__).resolve().parents[2] / "infra/kubernetes/components/auth"
PASSWORD = "correct-horse-battery"
EXPERIMENT = "/api/2.0/mlflow/experiments/get?experiment_id=0"


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[int]:
    """Its port, on loopback; the volume is a temporary directory."""
    pytest.importorskip("flask_wtf", reason="Flask-WTF, which is in the image, is not installed here")
    volume = tmp_path_factory.mktemp("volume")
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    patch = yaml.safe_load((COMPONENT / "mlflow-auth.yaml").read_text())
    (container,) = patch["spec"]["template"]["spec"]["containers"]
    here = {"--host=0.0.0.0": "--host=127.0.0.1", "--port=5000": f"--port={port}", "--workers=2": "--workers=1"}
    command = [here.pop(word, word) for word in container["command"]]
    assert not here, "the component's command changed"
    settings = volume / "basic_auth.ini"
    settings.write_text((COMPONENT / "basic_auth.ini").read_text().replace("/mlflow/", f"{volume}/"))
    wanted = {variable["name"] for variable in container["env"]}
    environment = {
        "MLFLOW_AUTH_CONFIG_PATH": str(settings),
        "MLFLOW_AUTH_ADMIN_PASSWORD": PASSWORD,
        "MLFLOW_FLASK_SERVER_SECRET_KEY": "signs-forms",
    }
    assert set(environment) == wanted
    outside = {name: value for name, value in os.environ.items() if not name.startswith("MLFLOW_")}
    process = subprocess.Popen(
        [str(Path(sys.executable).with_name(command[0])), *command[1:]],
        env={**outside, **environment, "MLFLOW_BACKEND_STORE_URI": f"sqlite:///{volume}/mlflow.db"},
        cwd=volume,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
        start_new_session=True,
    )
    try:
        deadline_s = time.monotonic() + 250
        while status(port, "/health") != 200:  # the kubelet shows no password
            assert process.poll() is None, "the server ended"
            assert time.monotonic() < deadline_s, "the server did not answer in time"
            time.sleep(0.5)
        yield port
    finally:
        os.killpg(process.pid, 15)
        process.wait(timeout=60)


def status(port: int, path: str, user: str | None = None) -> int:
    shown = {"Authorization": f"Basic {base64.b64encode(user.encode()).decode()}"} if user else {}
    request = urllib.request.Request(f"http://127.0.0.1:{port}{path}", headers=shown)
    try:
        with urllib.request.urlopen(request, timeout=60) as answer:
            return answer.status
    except urllib.error.HTTPError as error:
        return error.code
    except OSError:
        return 0


def test_nobody_is_let_in_without_the_password(server: int) -> None:
    assert status(server, EXPERIMENT) == 401
    assert status(server, EXPERIMENT, "admin:password1234") == 401


def test_whoever_has_it_is(server: int) -> None:
    assert status(server, EXPERIMENT, f"admin:{PASSWORD}") == 200


def test_no_password_is_in_the_tree() -> None:
    """Neither in the settings, where it would win over nothing and be known to all, nor in the patch."""
    assert "password =" not in (COMPONENT / "basic_auth.ini").read_text()
    assert "value: " not in (COMPONENT / "mlflow-auth.yaml").read_text().replace("value: /etc/mlflow-auth", "")
