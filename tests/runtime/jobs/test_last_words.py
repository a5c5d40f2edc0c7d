"""A finished run's commands: read by a shell they are what was meant."""

import shlex
import sys
from pathlib import Path

import pytest

from tadscale.runtime.jobs.last_words import hints, program
from tadscale.runtime.models.registry import ModelVersion


def model(*aliases: str) -> ModelVersion:
    return ModelVersion(name="my model", version=3, aliases=aliases, metrics={}, tags={}, run_id="r", created_ms=0)


@pytest.fixture(autouse=True)
def active_environment(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv("MLFLOW_TRACKING_URI", raising=False)
    monkeypatch.setenv("VIRTUAL_ENV", sys.prefix)
    monkeypatch.setenv("PATH", str(Path(sys.executable).parent))


def words(uri: str, version: ModelVersion | None = None) -> dict[str, list[str]]:
    return {hint.what: shlex.split(hint.command, comments=True) for hint in hints(uri, version)}


def test_a_store_with_blanks_in_its_path_reaches_the_commands_whole() -> None:
    uri = "sqlite:////data/my runs/mlflow.db"
    said = words(uri, model("champion"))
    assert said["detect"] == [
        f"MLFLOW_TRACKING_URI={uri}",
        "tadscale",
        "detect",
        "models:/my model@champion",
        "VIDEO.mp4",
    ]
    assert said["runs"] == ["mlflow", "ui", "--backend-store-uri", uri]


def test_what_the_shell_has_already_is_not_repeated(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("MLFLOW_TRACKING_URI", "http://mlflow:5000")
    said = words("http://mlflow:5000", model("champion"))
    assert said["detect"][0] == "tadscale"
    assert said["runs"] == ["http://mlflow:5000"]


def test_the_demo_s_store_is_found_without_a_word(tmp_path: Path) -> None:
    (tmp_path / "runs").mkdir()
    (tmp_path / "runs/mlflow.db").touch()
    assert words(f"sqlite:///{tmp_path}/runs/mlflow.db", model("champion"))["detect"][0] == "tadscale"


def test_a_version_without_an_alias_is_named_by_its_number() -> None:
    assert "models:/my model/3" in words("sqlite:////r/mlflow.db", model("challenger"))["detect"]


def test_a_network_of_features_is_sent_to_no_video() -> None:
    assert [hint.what for hint in hints("sqlite:////r/mlflow.db", model("champion"), watches=False)] == ["runs"]


@pytest.mark.parametrize("in_shell", [True, False])
def test_a_password_is_named_by_its_variable(in_shell: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    uri = "postgresql://me:Kanarienvogel@db/mlflow"
    if in_shell:
        monkeypatch.setenv("MLFLOW_TRACKING_URI", uri)
    commands = [hint.command for hint in hints(uri, model("champion"))]
    assert "Kanarienvogel" not in "".join(commands)
    assert commands[-1] == 'mlflow ui --backend-store-uri "$MLFLOW_TRACKING_URI"'
    assert commands[0].startswith("export MLFLOW_TRACKING_URI=") is not in_shell


def test_a_server_s_page_is_told_without_its_password() -> None:
    assert words("https://me:Kanarienvogel@host:5000/x")["runs"] == ["https://host:5000/x"]


def test_a_program_of_an_environment_that_is_not_active_is_called_by_its_path(monkeypatch, tmp_path) -> None:
    """As under `make demo`, which has the environment on its own PATH alone."""
    monkeypatch.delenv("VIRTUAL_ENV")
    monkeypatch.setattr(sys, "prefix", str(tmp_path / ".venv"))
    monkeypatch.setattr(sys, "executable", str(tmp_path / ".venv/bin/python"))
    (tmp_path / ".venv/bin").mkdir(parents=True)
    (tmp_path / ".venv/bin/mlflow").touch()
    assert program("mlflow") == ".venv/bin/mlflow"
    (tmp_path / "elsewhere").mkdir()
    monkeypatch.chdir(tmp_path / "elsewhere")
    assert program("mlflow") == str(tmp_path / ".venv/bin/mlflow")
