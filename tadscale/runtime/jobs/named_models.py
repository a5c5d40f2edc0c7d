"""The teachers and the start that a job names instead of training them."""

from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from functools import partial
from pathlib import PurePath

from tadscale.data.storage import join, read_bytes, write_bytes
from tadscale.engine.start import is_published
from tadscale.network import NetworkSpec, read_spec, read_weights, save_network
from tadscale.runtime.models.open_model import MODELS, open_model
from tadscale.runtime.stage.job import JobConfig
from tadscale.runtime.stage.places import NETWORKS, with_places
from tadscale.runtime.tracking.track import resolve_tracking_uri
from tadscale.serving.predictor import detector_folder

LAID_TEACHER = "named-teacher"
"""Folder of a run that holds the registered teacher which its job names."""
LAID = {
    "teacher.url": LAID_TEACHER,
    "student.appearance_teacher.url": "named-appearance-teacher",
    "model.backbone.weights": "named-start",
}
"""Where the networks that a job names are laid, by their settings."""


def with_named_models_at_hand(job: JobConfig) -> JobConfig:
    """The same job, its registered teachers and start where every node can read them: laid into the run's storage. So are
    local ones, where that is remote.

    Raises:
        ValueError: there is no such model, or it is damaged.
        StorageError: the storage cannot be reached.
    """
    return with_places(job, LAID, partial(_at_hand, job))


@contextmanager
def opened(url: str, tracking_uri: str) -> Iterator[str]:
    """The folder of a registered network, on this machine for as long as the context lasts; any other URL as it is.

    Raises:
        ValueError: there is no such model, or it is damaged.
    """
    if not url.startswith(MODELS):
        yield url
        return
    with open_model(url, tracking_uri) as package:
        yield str(detector_folder(package))


@contextmanager
def opened_models(job: JobConfig) -> Iterator[JobConfig]:
    """The same job, its registered start and teachers in folders of this machine for as long as the context lasts.

    Raises:
        ValueError: there is no such model, or it is damaged.
    """
    with ExitStack() as stack:

        def here(_: str, url: str) -> str:
            return stack.enter_context(opened(url, resolve_tracking_uri(job.tracking, job.storage)))

        yield with_places(job, NETWORKS, here)


def named_appearance_teacher(job: JobConfig) -> NetworkSpec | None:
    """What the appearance teacher is that a job names; None where it names none.

    Raises:
        ValueError: there is no such model, or it is damaged.
        StorageError: the storage cannot be reached.
    """
    named = job.student.appearance_teacher
    if named is None or named.url is None:
        return None
    with opened(named.url, resolve_tracking_uri(job.tracking, job.storage)) as url:
        return read_spec(url)


def _at_hand(job: JobConfig, setting: str, url: str) -> str:
    """Where the network of `models:/NAME@alias` was laid, or a local one that other nodes do not see; else the URL."""
    here = join(job.run_url, LAID[setting])
    if not url.startswith(MODELS):
        return _laid(url, here) if "://" not in url and "://" in job.storage else url
    with opened(url, resolve_tracking_uri(job.tracking, job.storage)) as source:
        return _laid(source, here)


def _laid(source: str, here: str) -> str:
    """Copy a network's folder, or a file of weights under the folder's name; returns where it lies."""
    if is_published(source):
        here = f"{here}{PurePath(source).suffix}"
        write_bytes(here, read_bytes(source))
        return here
    spec = read_spec(source)
    save_network(here, spec, read_weights(source, spec))
    return here
