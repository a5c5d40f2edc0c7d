"""What a grid's cells have in common, and is trained once: teachers."""

from tadscale.runtime.stage.job import JobConfig, TeacherConfig
from tadscale.runtime.stage.spec import stage_of


def with_shared_teacher(job: JobConfig, teachers: dict[str, str]) -> JobConfig:
    """The job with the teacher that an earlier cell trains, if it is the same; else its own, noted for later ones.

    Args:
        job: of a cell.
        teachers: where teachers lie, by all that decides them; added to.
    """
    if job.teacher.url:
        return job
    stage = stage_of(job, "teacher")
    what = f"{stage.identity} {stage.plan.model_dump_json()}"
    url = teachers.setdefault(what, stage.weights_url)
    if url == stage.weights_url:
        return job
    return job.model_copy(update={"teacher": TeacherConfig(url=url)})
