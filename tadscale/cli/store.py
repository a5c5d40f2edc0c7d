"""The MLflow store that a command looks into."""

import argparse
import os
from typing import Any

from tadscale.errors import UserError


def add_store_to(parser: argparse.ArgumentParser) -> None:
    """Add `--tracking-uri`."""
    parser.add_argument("--tracking-uri", help="the MLflow store, if it is not MLFLOW_TRACKING_URI or runs/mlflow.db")


def store_uri(options: argparse.Namespace) -> str:
    """The store's address.

    Raises:
        UserError: nothing names one.
    """
    from tadscale.runtime.tracking.track import default_store

    uri = options.tracking_uri or os.environ.get("MLFLOW_TRACKING_URI") or default_store()
    if uri is None:
        raise UserError(
            "no MLflow store is known here: set MLFLOW_TRACKING_URI, or --tracking-uri, to the one that jobs use "
            "(http://HOST:5000, sqlite:///runs/mlflow.db)"
        )
    return uri


def open_store(options: argparse.Namespace) -> tuple[Any, str]:
    """A client of the store, which does not wait for one that is away, and the store's name without its password."""
    from tadscale.runtime.tracking.client import make_client
    from tadscale.runtime.tracking.patience import PatientClient
    from tadscale.runtime.tracking.redact import redact_text

    uri = store_uri(options)
    where = redact_text(uri)
    return PatientClient(make_client(uri), where, patience_s=0.0), where
