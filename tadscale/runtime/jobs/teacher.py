"""The teacher that a job names instead of training one."""

from tadscale.data.storage import join
from tadscale.network import read_spec, read_weights, save_network
from tadscale.runtime.models.open_model import MODELS, open_model
from tadscale.runtime.stage.job import JobConfig
from tadscale.runtime.tracking.track import resolve_tracking_uri
from tadscale.serving.predictor import detector_folder


def with_teacher_at_hand(job: JobConfig) -> JobConfig:
    """The same job, its teacher where every node can read it: a registered one is laid into the run's storage.

    Raises:
        ValueError: there is no such model, or it is damaged.
        StorageError: the storage cannot be reached.
    """
    if job.teacher.url is None or not job.teacher.url.startswith(MODELS):
        return job
    here = join(job.run_url, "named-teacher")
    with open_model(job.teacher.url, resolve_tracking_uri(job.tracking, job.storage)) as package:
        folder = str(detector_folder(package))
        spec = read_spec(folder)
        save_network(here, spec, read_weights(folder, spec))
    return job.model_copy(update={"teacher": job.teacher.model_copy(update={"url": here})})
