"""What a job trains."""

from tadscale.runtime.stage.job import JobConfig, TeacherConfig
from tadscale.runtime.stage.modes import stage_modes


def test_a_job_that_names_its_teacher_trains_none(make_stage, tmp_path):
    job: JobConfig = make_stage(tmp_path, "teacher").job
    assert stage_modes(job) == ["teacher", "baseline", "decomposed"]
    named = job.model_copy(update={"teacher": TeacherConfig(url="elsewhere"), "baseline": False})
    assert stage_modes(named) == ["decomposed"]
