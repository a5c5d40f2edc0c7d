"""The run's storage: written to and read back, and large enough."""

import os
import shutil
from collections.abc import Iterator
from pathlib import Path
from uuid import uuid4

from tadscale.data.storage import Retry, StorageError, join, open_filesystem, read_bytes, remove, write_bytes
from tadscale.runtime.cluster.address import LOCAL
from tadscale.runtime.cluster.capacity import address_of
from tadscale.runtime.jobs.preflight.facts import Facts
from tadscale.runtime.jobs.preflight.networks import ANY_CLASSES, parameters_of
from tadscale.runtime.stage.modes import kept_epochs_of, network_of

PROBE = b"tadscale was here, and could have removed this\n"
IMPATIENT = Retry(attempts=2)
KEPT_STATES = 3  # two checkpoints, and one that is being written
STATE_BYTES = 16  # of a parameter in each: weight, two moments, moving average, float32
WEIGHT_BYTES = 4  # of a parameter in the networks that are kept to choose among
LOGS_BYTES = 256 << 20  # log, database, pictures
SPILL_LIMIT = 0.95  # Ray spills no object to a disk that is fuller


def writable(facts: Facts) -> Iterator[str]:
    """What is written to the storage is read back."""
    write_and_read(facts.job.storage, PROBE)
    if facts.job.data.sprites is not None:
        write_and_read(facts.job.data.url, PROBE)
    if facts.job.teacher.cache is not None:
        write_and_read(facts.job.teacher.cache.url, PROBE)
    yield from ()


def write_and_read(url: str, data: bytes) -> None:
    """Write a small file, read it back and remove it. Of a local folder that is not there yet its nearest parent is tried.

    Raises:
        StorageError: one of the three failed, or what was read was something else.
    """
    place = join(str(_existing(url)) if _is_local(url) else url, f".preflight-{uuid4().hex}")
    try:
        write_bytes(place, data, retry=IMPATIENT)
        found = read_bytes(place, retry=IMPATIENT)
        remove(place, retry=IMPATIENT)
    except StorageError:
        raise
    except OSError as error:  # a full disk is no fault of storage's to the rest of the program
        raise StorageError(f"{url}: cannot be written to: {error}") from error
    if found != data:
        raise StorageError(f"{url}: what was written is not what is read back: the storage loses or changes bytes")


def space(facts: Facts) -> Iterator[str]:
    """The disk of a local storage holds the checkpoints of all stages, and the weights that they keep."""
    if not _is_local(facts.job.storage):
        return
    needed = LOGS_BYTES
    for mode in facts.modes:
        try:
            bytes_each = KEPT_STATES * STATE_BYTES + WEIGHT_BYTES * (1 + len(kept_epochs_of(facts.job, mode)))
            needed += bytes_each * parameters_of(network_of(facts.job, mode, ANY_CLASSES))
        except Exception:  # told by `shapes`
            return
    free = shutil.disk_usage(_existing(facts.job.storage)).free
    if free < needed:
        yield (
            f"storage: {facts.job.storage} has {free >> 20} MiB free, and checkpoints and logs of this job take some "
            f"{needed >> 20} MiB: make room, or name another storage"
        )


def spilling(facts: Facts) -> Iterator[str]:
    """Ray may put aside what does not fit into its memory, where the job starts it on this machine."""
    if address_of(facts.job.cluster) != LOCAL:
        return
    folder = spill_folder()
    usage = shutil.disk_usage(folder)
    if usage.used > SPILL_LIMIT * usage.total:
        yield (
            f"the disk of {folder} is {usage.used / usage.total:.0%} full, and Ray's object store puts nothing aside above "
            f"{SPILL_LIMIT:.0%}: make room there, or set RAY_TMPDIR to another disk"
        )


def spill_folder() -> Path:
    """Where a Ray that is started here spills to: RAY_TMPDIR, TMPDIR or /tmp, or its nearest parent that is there."""
    # Ray's own order: tempfile looks at TMPDIR, TEMP and TMP alone, and passes over a folder that is still to be made.
    return _nearest(Path(os.environ.get("RAY_TMPDIR", os.environ.get("TMPDIR", "/tmp"))).absolute())


def _is_local(url: str) -> bool:
    return "file" in open_filesystem(url)[0].protocol


def _existing(url: str) -> Path:
    """The folder, or the nearest one above it that is there."""
    return _nearest(Path(open_filesystem(url)[1]))


def _nearest(path: Path) -> Path:
    return next(folder for folder in (path, *path.parents) if folder.is_dir())
