"""The teacher and the start that a job names instead of training them."""

from tadscale.data.storage import join
from tadscale.network import read_spec, read_weights, save_network
from tadscale.runtime.models.open_model import MODELS, open_model
from tadscale.runtime.stage.job import JobConfig
from tadscale.runtime.tracking.track import resolve_tracking_uri
from tadscale.serving.predictor import detector_folder


def with_named_models_at_hand(job: JobConfig) -> JobConfig:
    """The same job, its registered teacher and start where every node can read them: laid into the run's storage.

    Raises:
        ValueError: there is no such model, or it is damaged.
        StorageError: the storage cannot be reached.
    """
    teacher = job.teacher.model_copy(update={"url": _at_hand(job, job.teacher.url, "named-teacher")})
    start = _at_hand(job, job.model.backbone.weights, "named-start")
    backbone = job.model.backbone.model_copy(update={"weights": start})
    return job.model_copy(update={"teacher": teacher, "model": job.model.model_copy(update={"backbone": backbone})})


def _at_hand(job: JobConfig, url: str | None, folder: str) -> str | None:
    """Where the network of `models:/NAME@alias` was laid; another URL as it is."""
    if url is None or not url.startswith(MODELS):
        return url
    here = join(job.run_url, folder)
    with open_model(url, resolve_tracking_uri(job.tracking, job.storage)) as package:
        source = str(detector_folder(package))
        spec = read_spec(source)
        save_network(here, spec, read_weights(source, spec))
    return here
