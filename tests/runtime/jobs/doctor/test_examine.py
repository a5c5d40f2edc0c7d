"""Every probe is one line, in bounded time, and what would fail says so."""

import ssl
import time
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from functools import partial
from http.server import BaseHTTPRequestHandler, HTTPServer
from pathlib import Path
from threading import Thread

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec

from tadscale.runtime.jobs.doctor import services
from tadscale.runtime.jobs.doctor.examine import examine
from tadscale.runtime.jobs.doctor.machine import _runs
from tadscale.runtime.jobs.doctor.probe import Answer, ask
from tests.mlflow_server import MlflowServer
from tests.s3 import free_port


def test_a_probe_that_does_not_answer_is_left_in_time_and_one_that_fails_is_one_line():
    started = time.monotonic()
    line = ask("slow", lambda: time.sleep(30) or Answer("ok", ""), within_s=0.2)
    assert (line.status, time.monotonic() - started < 10) == ("fail", True)

    def fails() -> Answer:
        raise RuntimeError("first\nsecond http://user:canary@host/")

    line = ask("bad", fails)
    assert line.status == "fail"
    assert "\n" not in line.says
    assert "canary" not in line.says


def test_without_a_job_the_services_of_the_environment_are_asked(monkeypatch):
    monkeypatch.setenv("RAY_ADDRESS", "127.0.0.1:9")
    monkeypatch.setenv("MLFLOW_TRACKING_URI", "sqlite:////proc/nowhere/mlflow.db")
    lines = {line.probe: line for line in examine()}
    assert lines["packages"].status == "ok"
    assert "torch" in lines["packages"].says
    assert lines["cluster"].status == "fail"
    assert "no Ray cluster answers" in lines["cluster"].says
    assert lines["tracking store"].status == "fail"


def test_without_a_job_a_healthy_mlflow_server_is_ok(tmp_path, monkeypatch):
    """Over HTTP: a database takes an experiment without a name for one that is not there, a server answers 400."""
    monkeypatch.setenv("RAY_ADDRESS", "127.0.0.1:9")
    server = MlflowServer(tmp_path)
    try:
        server.start()
        monkeypatch.setenv("MLFLOW_TRACKING_URI", server.url)
        lines = {line.probe: line for line in examine()}
    finally:
        server.kill()
    assert lines["tracking store"].status == "ok", lines["tracking store"].says
    assert lines["clock of tracking store"].status == "ok"


def test_a_fault_that_several_checks_stumble_over_is_told_once(tmp_path, monkeypatch):
    """Where there are no shards, every check that looks at them finds the same."""
    monkeypatch.setenv("RAY_ADDRESS", "127.0.0.1:9")
    job = tmp_path / "job.yaml"
    job.write_text(f"kind: teacher\nname: mine\nstorage: {tmp_path}\ndata:\n  url: {tmp_path}/nothing\n")
    says = [line.says for line in examine(job) if line.probe.startswith("job: ") and line.status == "fail"]
    whole = [text for text in says if f"{tmp_path}/nothing" in text]
    assert len(whole) == 1
    assert says.count("as subsets above") > 3


@pytest.fixture
def server(request: pytest.FixtureRequest) -> Iterator[str]:
    """An HTTP server whose clock is off."""

    class Late(BaseHTTPRequestHandler):
        def date_time_string(self, timestamp: float | None = None) -> str:
            return super().date_time_string(time.time() + request.param)

        def do_GET(self) -> None:
            self.send_response(403)
            self.end_headers()

        def log_message(self, *_: object) -> None:
            pass

    with HTTPServer(("127.0.0.1", 0), Late) as running:
        Thread(target=running.serve_forever, daemon=True).start()
        yield f"http://127.0.0.1:{running.server_port}"
        running.shutdown()


@pytest.mark.parametrize(("server", "status"), [(0, "ok"), (-120, "warn"), (3600, "fail")], indirect=["server"])
def test_clocks_are_compared_by_the_date_of_an_answer(server, status):
    assert services.clock(server).status == status


@pytest.mark.parametrize("server", [0], indirect=True)
def test_clocks_are_compared_where_the_address_carries_credentials(server):
    answer = services.clock(server.replace("http://", "http://user:canary@"))
    assert answer.status == "ok"
    assert "canary" not in answer.says


def test_a_certificate_that_is_not_trusted_is_a_warning(tmp_path):
    """A private CA is known to MLflow's and S3's clients by their own variables, of which urllib knows none."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(_self_signed(tmp_path / "server.pem"))
    with HTTPServer(("127.0.0.1", 0), BaseHTTPRequestHandler) as running:
        running.socket = context.wrap_socket(running.socket, server_side=True)
        running.handle_error = lambda *_: None  # type: ignore[method-assign]  # the client leaves: that is the test
        Thread(target=running.serve_forever, daemon=True).start()
        answer = services.clock(f"https://127.0.0.1:{running.server_port}")
        running.shutdown()
    assert answer.status == "warn"
    assert "CERTIFICATE_VERIFY_FAILED" in answer.says


def test_a_server_that_does_not_answer_fails():
    assert ask("clock", partial(services.clock, f"http://127.0.0.1:{free_port()}")).status == "fail"


def _self_signed(path: Path) -> Path:
    """A key and a certificate that nobody vouches for."""
    key = ec.generate_private_key(ec.SECP256R1())
    name = x509.Name([x509.NameAttribute(x509.NameOID.COMMON_NAME, "127.0.0.1")])
    now = datetime.now(UTC)
    unsigned = x509.CertificateBuilder(name, name, key.public_key(), x509.random_serial_number())
    lasting = unsigned.not_valid_before(now).not_valid_after(now + timedelta(days=1))
    certificate = lasting.sign(key, hashes.SHA256())
    pem = serialization.Encoding.PEM
    secret = key.private_bytes(pem, serialization.PrivateFormat.PKCS8, serialization.NoEncryption())
    path.write_bytes(secret + certificate.public_bytes(pem))
    return path


@pytest.mark.parametrize(
    ("architecture", "capability", "runs"),
    [
        ("sm_90", (9, 0), True),
        ("sm_80", (8, 6), True),
        ("sm_86", (8, 0), False),
        ("sm_80", (9, 0), False),
        ("compute_80", (9, 0), True),
        ("sm_100a", (10, 0), True),
    ],
)
def test_which_code_runs_on_which_gpu(architecture, capability, runs):
    assert _runs(architecture, *capability) is runs
