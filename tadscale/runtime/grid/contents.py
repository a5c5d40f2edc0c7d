"""What a grid's jobs read and only name: a result is of the data and networks that were there, not of their places."""

from collections.abc import Callable

from tadscale.data.manifest import MANIFEST_NAME, open_manifest
from tadscale.data.motion_identity import motion_fingerprint
from tadscale.data.storage import list_names
from tadscale.engine.start import is_published, start_digest
from tadscale.network import read_spec
from tadscale.runtime.models.open_model import MODELS, parse_model
from tadscale.runtime.models.registry import Registry
from tadscale.runtime.stage.job import JobConfig
from tadscale.runtime.stage.local_paths import with_absolute_paths
from tadscale.runtime.stage.places import NETWORKS, places
from tadscale.runtime.tracking.track import resolve_tracking_uri


class Contents:
    """The contents of what jobs name, each place looked at once.

    Args:
        folder: of the grid. What lies in it is trained by the grid, and decided by settings.
    """

    def __init__(self, folder: str) -> None:
        self._inside = f"{folder}/"
        self._known: dict[str, str] = {}

    def of(self, job: JobConfig) -> dict[str, str]:
        """By place: data, start, teachers and stored motion of a job; and what its networks compute in.

        Raises:
            UserError: a manifest is damaged, or there is no such network or model.
            StorageError: the storage cannot be reached.
        """
        job = with_absolute_paths(job)
        found = {url: self._at(url, _data_digest) for url in (job.data.url, *_sources(job))}
        for url in places(job, NETWORKS).values():
            if not url.startswith(self._inside):
                found[url] = self._at(url, lambda url: _network_digest(job, url))
        if job.motion.flow_url:
            found[job.motion.flow_url] = self._at(job.motion.flow_url, lambda _: motion_fingerprint(job.motion))
        return found | {"precision": job.cluster.precision}

    def _at(self, url: str, digest: Callable[[str], str]) -> str:
        if url not in self._known:
            self._known[url] = digest(url)
        return self._known[url]


def _sources(job: JobConfig) -> list[str]:
    return [source.url for source in job.data.training_sources]


def _data_digest(url: str) -> str:
    """Empty where built-in videos are still to be drawn."""
    return open_manifest(url).digest if MANIFEST_NAME in list_names(url) else ""


def _network_digest(job: JobConfig, url: str) -> str:
    if url.startswith(MODELS):
        version = Registry(resolve_tracking_uri(job.tracking, job.storage)).version(*parse_model(url))
        return f"{version.name} {version.version}"
    return start_digest(url) if is_published(url) else read_spec(url).weights_sha256
