"""Local paths as seen from where a job was started: its processes run in other folders."""

from pathlib import Path

from tadscale.runtime.stage.job import JobConfig
from tadscale.runtime.stage.places import PLACES, with_places

FILES = ("data.cache.path", "motion.raft.weights", "cluster.deepspeed_preset")
"""Settings that name what is on a machine, besides those that name places."""
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
    job = with_places(job, (*PLACES, *FILES), lambda _, place: absolute(place))
    sources = tuple(source.model_copy(update={"url": absolute(source.url)}) for source in job.data.sources)
    return job.model_copy(update={"data": job.data.model_copy(update={"sources": sources})})
