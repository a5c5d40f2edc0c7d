"""Local paths as seen from where a job was started: its processes run in other folders."""

from pathlib import Path
from typing import Any

from tadscale.config import Config
from tadscale.engine.steps import StudentConfig
from tadscale.runtime.stage.job import JobConfig

UPLOADED = "working_dir_files"
"""Folder under which Ray lays what `ray job submit --working-dir` uploads; it is removed when no job uses it any more."""


def is_relative(url: str) -> bool:
    """Whether a place depends on the folder that a process runs in."""
    return "://" not in url and not url.startswith("models:/") and not Path(url).is_absolute()


def absolute(url: str) -> str:
    """A local path made absolute; a URL as it is (`s3://...`, `models:/...`)."""
    return str(Path(url).absolute()) if is_relative(url) else url


def uploaded_folder(folder: Path) -> Path | None:
    """The uploaded copy that a folder is in, if it is in one."""
    return next((one for one in (folder, *folder.parents) if one.parent.name == UPLOADED), None)


def with_absolute_paths(job: JobConfig) -> JobConfig:
    """The same job, every local path in it absolute."""
    cache = job.data.cache and _updated(job.data.cache, path=job.data.cache.path)
    taught = job.teacher.cache and _updated(job.teacher.cache, url=job.teacher.cache.url)
    sources = tuple(_updated(source, url=source.url) for source in job.data.sources)
    backbone = _updated(job.model.backbone, weights=job.model.backbone.weights)
    raft = _updated(job.motion.raft, weights=job.motion.raft.weights)
    return job.model_copy(
        update={
            "storage": absolute(job.storage),
            "data": _updated(job.data, url=job.data.url).model_copy(update={"sources": sources, "cache": cache}),
            "motion": _updated(job.motion, flow_url=job.motion.flow_url).model_copy(update={"raft": raft}),
            "teacher": _updated(job.teacher, url=job.teacher.url).model_copy(update={"cache": taught}),
            "student": _with_absolute_teacher(job.student),
            "model": job.model.model_copy(update={"backbone": backbone}),
            "cluster": _updated(job.cluster, deepspeed_preset=job.cluster.deepspeed_preset),
        }
    )


def _with_absolute_teacher(student: StudentConfig) -> StudentConfig:
    if student.appearance_teacher is None:
        return student
    teacher = _updated(student.appearance_teacher, url=student.appearance_teacher.url)
    return student.model_copy(update={"appearance_teacher": teacher})


def _updated(settings: Config, **paths: str | None) -> Any:
    return settings.model_copy(update={name: path and absolute(path) for name, path in paths.items()})
