"""What lies under a job's name from an earlier start: looked at before a cluster is started for it."""

from tadscale.data.manifest import MANIFEST_NAME
from tadscale.data.storage import join, list_names
from tadscale.runtime.models.open_model import MODELS
from tadscale.runtime.stage.job import JobConfig
from tadscale.runtime.stage.modes import DISTILLING, stage_modes
from tadscale.runtime.stage.plan_spec import open_plan
from tadscale.runtime.stage.spec import stage_of
from tadscale.runtime.training.resume import IDENTITY_NAME, check_identity, check_stored


def check_begun(job: JobConfig) -> None:
    """Refuse a job whose name belongs to another, seen on its first stage, which waits for no other's result.

    Stages that start from, or learn from, something else are looked at when they begin.

    Raises:
        UserError: the stage that lies there has other settings, or another plan.
        StorageError: the storage cannot be reached.
    """
    mode = next(iter(stage_modes(job)), None)
    start = job.model.backbone.weights or ""
    if mode is None or mode in DISTILLING or start.startswith(MODELS):
        return
    if IDENTITY_NAME not in list_names(join(job.run_url, mode)):
        return
    stage = stage_of(job, mode)
    if all(MANIFEST_NAME in list_names(source.url) for source in stage.plan.sources):
        check_stored(stage, open_plan(stage.plan)[1])
    else:  # built-in videos that are to be drawn again
        check_identity(stage)
