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

from tadscale.runtime.jobs.preflight.tracking import note_and_read
from tadscale.runtime.models.registry import Registry
from tadscale.runtime.retrain.incumbent import find_incumbent
from tadscale.runtime.tracking.patience import NotAllowed
from tadscale.runtime.tracking.track import TrackingConfig, track_job

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


def test_a_user_who_is_told_of_nothing_begins_with_what_is_their_own(
    server: int, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    """As `mlflow-client` is better than the administrator: an experiment and a model that are not there yet."""
    uri = f"http://127.0.0.1:{server}"
    shown = base64.b64encode(f"admin:{PASSWORD}".encode()).decode()
    headers = {"Authorization": f"Basic {shown}", "Content-Type": "application/json"}
    body = b'{"username": "jobs", "password": "jobs-password-1"}'
    urllib.request.urlopen(urllib.request.Request(f"{uri}/api/2.0/mlflow/users/create", body, headers), timeout=60)
    monkeypatch.setenv("MLFLOW_TRACKING_USERNAME", "jobs")
    monkeypatch.setenv("MLFLOW_TRACKING_PASSWORD", "jobs-password-1")
    detector = tmp_path / "package/artifacts/detector"
    detector.mkdir(parents=True)
    (detector / "network.json").write_text("{}")

    note_and_read(uri, "own")
    registry = Registry(uri)
    assert find_incumbent(registry, "own") is None
    config = TrackingConfig(tracking_uri=uri, experiment="own", artifact_location=str(tmp_path / "artifacts"))
    with track_job(config, job="job", storage=str(tmp_path), settings={}) as run:
        registry.register(run, "own", tmp_path / "package", metrics={}, tags={})
    champion = registry.version("own", "champion")
    assert champion.version == 1
    with pytest.raises(NotAllowed):
        note_and_read(uri, "Default")


def test_no_password_is_in_the_tree() -> None:
    """Neither in the settings, where it would win over nothing and be known to all, nor in the patch."""
    assert "password =" not in (COMPONENT / "basic_auth.ini").read_text()
    assert "value: " not in (COMPONENT / "mlflow-auth.yaml").read_text().replace("value: /etc/mlflow-auth", "")
