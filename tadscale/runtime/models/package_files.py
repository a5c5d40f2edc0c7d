"""The files of a package: their digests, and whether an artifact store gives back what it was given."""

import hashlib
from pathlib import Path
from tempfile import TemporaryDirectory

from tadscale.data.storage import StorageError
from tadscale.runtime.tracking.redact import redact_text
from tadscale.runtime.tracking.run import Run

SAID = 300
"""Characters of another package's error: MLflow repeats the server's whole answer for every file."""


def check_upload(run: Run, package: Path, folder: str) -> None:
    """Compare what the artifact store gives back with what it was given: once registered, it would be served.

    Raises:
        StorageError: a file came back damaged or not at all.
    """
    with TemporaryDirectory() as back:
        stored = Path(run.client.download_artifacts(run.run_id, folder, back))
        given, got = file_digests(package), file_digests(stored)
    differing = sorted(name for name in given if got.get(name) != given[name])
    if differing:
        raise StorageError(
            f"{run.artifact_uri}/{folder}: {', '.join(differing[:3])} came back damaged or not at all, so the model is not "
            "registered: check the artifact store and the way to it, then run the same command again"
        )


def download(uri: str, folder: str, tracking_uri: str, what: str) -> Path:
    """The artifacts of a package, in `folder`.

    Args:
        uri: where they are, as the registry says.
        folder: an existing one.
        tracking_uri: of the store, by which artifacts are sent where a server does that.
        what: the version, for the error.

    Raises:
        StorageError: they are gone, or out of reach.
    """
    from mlflow.artifacts import download_artifacts

    try:
        return Path(download_artifacts(artifact_uri=uri, dst_path=folder, tracking_uri=tracking_uri))
    except Exception as error:  # what fails is MLflow, boto3 or requests, each with classes of its own
        said = " ".join(redact_text(str(error)).split())[:SAID]
        raise StorageError(
            f"{what}: its artifacts at {redact_text(uri)} cannot be read ({type(error).__name__}: {said}). Are they "
            "deleted, or is the artifact store out of reach of the MLflow server?"
        ) from error


def file_digests(folder: Path) -> dict[str, str]:
    """SHA-256 of each file in a folder, by its path in it."""
    files = sorted(path for path in folder.rglob("*") if path.is_file())
    return {path.relative_to(folder).as_posix(): file_digest(path) for path in files}


def file_digest(path: Path) -> str:
    """SHA-256 of a file."""
    return hashlib.sha256(path.read_bytes()).hexdigest()
