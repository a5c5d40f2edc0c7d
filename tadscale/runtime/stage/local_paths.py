"""Local paths as seen from where a job was started: its processes run in other folders."""

from pathlib import Path
from typing import Any

from tadscale.config import Config
from tadscale.runtime.stage.job import JobConfig


def absolute(url: str) -> str:
    """A local path made absolute; a URL as it is (`s3://...`, `models:/...`)."""
    return url if "://" in url or url.startswith("models:/") else str(Path(url).absolute())


def with_absolute_paths(job: JobConfig) -> JobConfig:
    """The same job, every local path in it absolute."""
    sources = tuple(_updated(source, url=source.url) for source in job.data.sources)
    backbone = _updated(job.model.backbone, weights=job.model.backbone.weights)
    raft = _updated(job.motion.raft, weights=job.motion.raft.weights)
    return job.model_copy(
        update={
            "storage": absolute(job.storage),
            "data": _updated(job.data, url=job.data.url).model_copy(update={"sources": sources}),
            "motion": _updated(job.motion, flow_url=job.motion.flow_url).model_copy(update={"raft": raft}),
            "teacher": _updated(job.teacher, url=job.teacher.url),
            "model": job.model.model_copy(update={"backbone": backbone}),
        }
    )


def _updated(settings: Config, **paths: str | None) -> Any:
    return settings.model_copy(update={name: path and absolute(path) for name, path in paths.items()})
