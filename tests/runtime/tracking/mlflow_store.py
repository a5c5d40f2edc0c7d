"""An MLflow store for a test: the database is laid out once a session (7 s of migrations) and copied."""

import shutil
from pathlib import Path

import pytest


@pytest.fixture(scope="session")
def empty_database(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A database of MLflow with nothing in it."""
    from tadscale.runtime.tracking.client import make_client

    path = tmp_path_factory.mktemp("mlflow") / "empty.db"
    make_client(f"sqlite:///{path}").search_experiments()
    return path


@pytest.fixture
def storage(empty_database: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A run storage whose `mlflow.db` is ready for use."""
    monkeypatch.delenv("MLFLOW_TRACKING_URI", raising=False)
    return new_storage(empty_database, tmp_path / "runs")


def new_storage(empty_database: Path, folder: Path) -> Path:
    """Make `folder` a run storage whose `mlflow.db` is ready for use."""
    folder.mkdir()
    shutil.copyfile(empty_database, folder / "mlflow.db")
    return folder


@pytest.fixture
def s3_storage(s3_url: str, monkeypatch: pytest.MonkeyPatch) -> str:
    """A run storage on S3, with `AWS_ENDPOINT_URL` as the only hint to where that is.

    MLflow caches its S3 client by its own `MLFLOW_S3_ENDPOINT_URL` alone: without a fresh one the server of an earlier test
    would be asked.
    """
    from mlflow.store.artifact.s3_artifact_repo import _cached_get_s3_client

    monkeypatch.delenv("MLFLOW_S3_ENDPOINT_URL", raising=False)
    _cached_get_s3_client.cache_clear()
    return f"{s3_url}/runs/distill"
