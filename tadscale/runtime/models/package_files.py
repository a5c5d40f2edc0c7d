"""The files of a package: their digests, and whether an artifact store gives back what it was given."""

import hashlib
from pathlib import Path
from tempfile import TemporaryDirectory

from tadscale.data.storage import StorageError
from tadscale.runtime.tracking.run import Run


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


def file_digests(folder: Path) -> dict[str, str]:
    """SHA-256 of each file in a folder, by its path in it."""
    files = sorted(path for path in folder.rglob("*") if path.is_file())
    return {path.relative_to(folder).as_posix(): file_digest(path) for path in files}


def file_digest(path: Path) -> str:
    """SHA-256 of a file."""
    return hashlib.sha256(path.read_bytes()).hexdigest()
