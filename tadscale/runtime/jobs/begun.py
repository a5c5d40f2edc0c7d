"""What lies under a job's name from an earlier start: looked at before a cluster is started for it."""

from tadscale.data.manifest import MANIFEST_NAME
from tadscale.data.storage import list_names
from tadscale.runtime.models.open_model import MODELS
from tadscale.runtime.stage.job import JobConfig
from tadscale.runtime.stage.plan_spec import open_plan
from tadscale.runtime.stage.spec import Stage, planned_stages, with_contents
from tadscale.runtime.training.resume import IDENTITY_NAME, check_identity, check_stored


def check_begun(job: JobConfig) -> None:
    """Refuse a job whose name belongs to another, seen on its stages, in order, as far as they are finished.

    What comes after a stage that is still to be trained rests on it, and is looked at when it begins; so is what rests on
    a registered network, which is fetched first.

    Raises:
        UserError: a stage that lies there has other settings, or another plan.
        StorageError: the storage cannot be reached.
    """
    for stage in planned_stages(job):
        if IDENTITY_NAME not in list_names(stage.url) or _names_registered(stage):
            return
        known = with_contents(stage)
        if not all(MANIFEST_NAME in list_names(source.url) for source in stage.plan.sources):
            check_identity(known)  # built-in videos that are to be drawn again
            return
        if check_stored(known, open_plan(stage.plan)[1]) is None:
            return


def _names_registered(stage: Stage) -> bool:
    return any((url or "").startswith(MODELS) for url in (stage.start_url, stage.teacher_url, stage.appearance_url))
