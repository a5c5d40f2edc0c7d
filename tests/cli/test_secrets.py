"""A canary in every place where a password may stand, searched for in whatever the commands say."""

from io import StringIO
from pathlib import Path

import pytest
from rich.console import Console

from tadscale.cli import main
from tests.s3 import free_port

CANARY = "Kanarienvogel"
JOB = Path(__file__).parents[2] / "jobs" / "distill.yaml"


@pytest.mark.parametrize("key", ["storage", "data.url", "teacher.url", "tracking.artifact_location"])
@pytest.mark.parametrize("command", ["validate", "run", "plan"])
def test_a_job_with_a_password_in_a_url_is_refused_before_anything_is_stored(
    command: str, key: str, capsys: pytest.CaptureFixture, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("MLFLOW_TRACKING_URI", f"sqlite:///{tmp_path / 'mlflow.db'}")
    assert main([command, str(JOB), "--set", f"{key}=s3://me:{CANARY}@bucket/x"]) == 1
    said = "".join(capsys.readouterr())
    assert f"{key}: credentials do not belong in a job's URLs" in said
    assert CANARY not in said
    assert not list(tmp_path.iterdir())


def test_a_tracking_uri_s_password_is_not_shown(capsys: pytest.CaptureFixture) -> None:
    assert main(["validate", str(JOB), "--set", f"tracking.tracking_uri=postgresql://me:{CANARY}@db/mlflow"]) == 0
    said = "".join(capsys.readouterr())
    assert "postgresql://[redacted]@db/mlflow" in said and CANARY not in said


def test_a_run_s_last_words_hold_no_password(monkeypatch: pytest.MonkeyPatch) -> None:
    from tadscale.runtime.jobs.job_file import load_job
    from tadscale.runtime.jobs.run_job import JobSummary, _conclude

    monkeypatch.setattr("tadscale.runtime.jobs.run_job.summary_table", lambda *_: "the table")
    uri = f"postgresql://me:{CANARY}@db/mlflow"
    console = Console(file=StringIO())
    summary = JobSummary(stages={}, choices={}, scores={}, run_id="r", tracking_uri=uri, model=None)
    _conclude(load_job(JOB, [f"tracking.tracking_uri={uri}"]), summary, console)
    said = console.file.getvalue()
    assert "postgresql://[redacted]@db/mlflow" in said and CANARY not in said
    assert '--backend-store-uri "$MLFLOW_TRACKING_URI"' in said  # and so it works, once that is set


@pytest.mark.parametrize("verb", ["list", "rollback"])
def test_a_tracking_server_s_password_is_in_no_error(verb: str, capsys: pytest.CaptureFixture) -> None:
    uri = f"http://me:{CANARY}@127.0.0.1:{free_port()}"
    assert main(["registry", verb, "x", "--tracking-uri", uri]) == 1
    said = "".join(capsys.readouterr())
    assert "[redacted]@127.0.0.1" in said and "does not answer" in said
    assert CANARY not in said and "Traceback" not in said


@pytest.mark.parametrize("arguments", [["data", "lint"], ["data", "index"]])
def test_a_password_in_a_place_of_data_is_not_repeated(arguments: list[str], capsys: pytest.CaptureFixture) -> None:
    assert main([*arguments, f"s3://me:{CANARY}@bucket/x"]) == 1
    said = "".join(capsys.readouterr())
    assert "AWS_SECRET_ACCESS_KEY" in said and CANARY not in said


def test_an_endpoint_s_password_is_not_repeated(
    s3_url: str, capsys: pytest.CaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("tadscale.data.faults.time.sleep", lambda _: None)
    monkeypatch.setenv("AWS_ENDPOINT_URL", f"http://me:{CANARY}@127.0.0.1:{free_port()}")
    assert main(["data", "lint", s3_url]) == 1
    said = "".join(capsys.readouterr())
    assert "cannot be reached" in said and CANARY not in said
