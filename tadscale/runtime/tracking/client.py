"""The one door to MLflow: `MlflowClient` with the environment that it needs. The fluent API is used nowhere.

The fluent API keeps a run of its own in every process, so that a training with eight workers shows nine runs.
"""

import os
from typing import Any

from tadscale.runtime.tracking.store_lock import database_file, exclusive


def prepare_environment() -> None:
    """Settings that MLflow reads from the environment; what the user has set stays.

    Telemetry is off, and the working directory's `uv.lock` is not copied into models. Artifacts on S3 need nothing: boto3
    reads `AWS_ENDPOINT_URL` where `MLFLOW_S3_ENDPOINT_URL` is not set.
    """
    defaults = {
        # A server that is down was asked for 264 s; waiting is the caller's decision: see `PatientClient`.
        "MLFLOW_HTTP_REQUEST_MAX_RETRIES": "1",
        "MLFLOW_HTTP_REQUEST_TIMEOUT": "10",
        "MLFLOW_DISABLE_TELEMETRY": "true",
        "DO_NOT_TRACK": "true",
        "MLFLOW_UV_AUTO_DETECT": "false",
        "MLFLOW_ENABLE_ARTIFACTS_PROGRESS_BAR": "false",
        "MLFLOW_SUPPRESS_PRINTING_URL_TO_STDOUT": "true",
    }
    for name, value in defaults.items():
        os.environ.setdefault(name, value)


def make_client(tracking_uri: str) -> Any:
    """An `MlflowClient` for tracking and registry; the first import of MLflow takes more than a second.

    A new SQLite store is laid out here, by one process: MLflow's migrations break when two run them at once.
    """
    prepare_environment()
    from mlflow import MlflowClient

    with exclusive(tracking_uri, "layout"):
        client = MlflowClient(tracking_uri=tracking_uri, registry_uri=tracking_uri)
        if database_file(tracking_uri) is not None:
            client.search_experiments(max_results=1)  # a client touches its store with its first call
    return client
