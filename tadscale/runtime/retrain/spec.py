"""What a retraining is: a job file, when to run it again, and what it takes over from the champion."""

from pathlib import Path
from typing import Any, Literal

from pydantic import Field

from tadscale.config import Config
from tadscale.errors import UserError
from tadscale.gate.config import GateConfig
from tadscale.retrain.config import TriggerConfig
from tadscale.runtime.jobs.job_file import read_yaml, resolve
from tadscale.runtime.jobs.settings import apply_override, build_settings, merged
from tadscale.runtime.stage.job import JobConfig

KIND = "retrain"


class TeacherPolicy(Config):
    """When the champion's teacher teaches again. A teacher that no longer fits the job is always trained anew."""

    refresh: Literal["moved", "always", "never"] = "moved"
    """`moved`: trained anew if the videos that it has not seen move otherwise than those that it has."""
    motion_distance: float = Field(default=0.3, ge=0, le=1)
    """Kolmogorov-Smirnov distance of the videos' pace from which on they do, if it is more than chance: the same as of
    other drift. A teacher costs as much as a student, and flow looks alike wherever things move alike."""


class RetrainConfig(Config):
    """One job, run again when its data ask for it."""

    kind: Literal["retrain"]
    """Tells a retraining's file from a job's."""
    name: str = Field(pattern=r"^[A-Za-z0-9][A-Za-z0-9._-]*$", max_length=100)
    """Name of the retraining; its runs are called NAME-DIGEST, after the data, the champion and the settings."""
    storage: str = Field(min_length=1)
    """Folder or object-store prefix of the runs and of what each tick decided (STORAGE/NAME-DIGEST/retrain.json)."""
    job: str
    """The job file that is run, of kind distill; beside this file, or an absolute path. It names data, network, tracking and
    the registered model whose champion is to be followed; it needs a gate, or gets one with the default policy."""
    settings: dict[str, Any] = {}
    """Changes to that job, written as in a job file."""
    when: TriggerConfig = TriggerConfig()
    """What makes a tick train."""
    warm_start: bool = True
    """Start the RGB backbones from the champion's, where they are the same network; branches and heads begin anew."""
    teacher: TeacherPolicy = TeacherPolicy()
    """Who teaches."""


def load_retrain(path: str | Path, overrides: list[str] | None = None) -> tuple[RetrainConfig, JobConfig]:
    """Read a retraining's file and the job that it names; the job has its storage, and its name for want of a run's.

    Raises:
        UserError: the retraining or its job does not hold, or there is no champion to be followed.
    """
    tree = read_yaml(path)
    for override in overrides or []:
        apply_override(tree, override, RetrainConfig)
    config = build_settings(RetrainConfig, resolve(tree), str(path))
    source = Path(path).parent / config.job
    owned = {"name": config.name, "storage": config.storage}
    job_tree = merged(merged(resolve(read_yaml(source)), config.settings), owned)
    job = build_settings(JobConfig, job_tree, f"{path}: {source.name}")
    if job.kind != "distill" or job.tracking.registered_model is None:
        raise UserError(
            f"{path}: {source.name} is of kind {job.kind} and registers {job.tracking.registered_model}: a retraining "
            "follows the champion of a registered student; name a job of kind distill with tracking.registered_model"
        )
    return config, job.model_copy(update={"gate": job.gate or GateConfig()})


def is_retrain(path: str | Path) -> bool:
    """Whether a file says that it is a retraining's."""
    return read_yaml(path).get("kind") == KIND
