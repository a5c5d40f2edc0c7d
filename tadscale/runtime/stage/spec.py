"""One training stage: what it is asked, and what decides its result."""

from collections.abc import Callable, Collection
from functools import partial
from typing import Any

from pydantic import BaseModel

from tadscale.config import Config
from tadscale.data.motion_identity import motion_fingerprint
from tadscale.data.quarantine import QuarantineBudget
from tadscale.data.storage import join
from tadscale.data.windows import WindowConfig
from tadscale.engine.optim import OptimConfig, without_start
from tadscale.engine.start import is_published, start_digest
from tadscale.engine.steps import StudentConfig, delayed
from tadscale.network import Mode, NetworkSpec, read_spec
from tadscale.runtime.stage.job import JobConfig
from tadscale.runtime.stage.local_paths import with_absolute_paths
from tadscale.runtime.stage.modes import (
    DISTILLING,
    architecture,
    kept_epochs_of,
    network_of,
    settings_of,
    sources_of,
    stage_modes,
)
from tadscale.runtime.stage.plan_spec import PlanSpec
from tadscale.runtime.stage.result import StageFiles


class Stage(StageFiles, Config):
    """A job, and which of its networks is trained. Made by `stage_of`, or by `planned_stages` before what it rests on is
    there."""

    job: JobConfig
    """The whole run; its local paths are absolute."""
    mode: Mode
    """What is trained, and on what."""
    motion_fingerprint: str = ""
    """What the teacher sees, by content; empty where no motion is needed."""
    teacher_url: str | None = None
    """Where the teacher's network lies, if one is learned from."""
    teacher: NetworkSpec | None = None
    """What that network is."""
    appearance_url: str | None = None
    """Where the appearance teacher's network lies, if one is learned from."""
    appearance: NetworkSpec | None = None
    """What that network is."""
    start_url: str | None = None
    """What the RGB backbone starts from, if not from nothing: a trained network's folder or a file."""
    start_sha256: str = ""
    """Digest of its weights."""

    @property
    def url(self) -> str:
        """Folder of this stage."""
        return join(self.job.run_url, self.mode)

    @property
    def checkpoints_url(self) -> str:
        """Folder of its checkpoints."""
        return join(self.url, "checkpoints")

    @property
    def quarantine_budget(self) -> QuarantineBudget:
        """How many bad videos are borne."""
        return QuarantineBudget(max_fraction=self.job.data.quarantine_budget)

    @property
    def optim(self) -> OptimConfig:
        """How it is trained."""
        optim = settings_of(self.job, self.mode).optim
        return optim if self.start_url else without_start(optim)

    @property
    def student(self) -> StudentConfig:
        """How it learns from its teachers."""
        return delayed(self.job.student, knows_motion=self.start_url is not None and not is_published(self.start_url))

    @property
    def window(self) -> WindowConfig:
        """What its network sees."""
        return settings_of(self.job, self.mode).data.window

    @property
    def plan(self) -> PlanSpec:
        """The part that decides the plan."""
        return PlanSpec(
            sources=sources_of(self.job, self.mode),
            window=self.window,
            seed=self.job.seed,
            epochs=self.optim.epochs,
            global_batch=self.optim.global_batch,
        )

    @property
    def kept_epochs(self) -> tuple[int, ...]:
        """Epochs before the last whose weights are kept, so that one may be chosen."""
        return kept_epochs_of(self.job, self.mode)

    @property
    def distils(self) -> bool:
        """Whether a teacher is needed."""
        return self.mode in DISTILLING

    @property
    def needs_frames(self) -> bool:
        """Whether pictures reach the trained network, and not motion alone."""
        return self.mode != "teacher"

    @property
    def needs_motion(self) -> bool:
        """Whether motion is computed at all."""
        return self.mode != "baseline"

    @property
    def flow_url(self) -> str | None:
        """Shards of precomputed motion, where any is read."""
        return self.job.motion.flow_url if self.needs_motion else None

    @property
    def repeats_windows(self) -> bool:
        """Whether later epochs bring the same windows unchanged, so that what was made of them can be kept."""
        return self.optim.epochs > 1 and not self.window.augment.varies

    @property
    def rests_on(self) -> set[str]:
        """Where the networks lie that decide its result."""
        return {url for url in (self.start_url, self.teacher_url, self.appearance_url) if url}

    @property
    def unread(self) -> set[str]:
        """What of its identity such a network decides that was not read: by name, as `model.dim` is."""
        contents = {
            "start": (self.start_url, self.start_sha256),
            "teacher": (self.teacher_url, self.teacher),
            "appearance teacher.weights": (self.appearance_url, self.appearance),
        }
        return {name for name, (url, content) in contents.items() if url and not content}

    @property
    def identity(self) -> dict[str, Any]:
        """What decides the stage's result besides the plan, as plain data: a stage with another identity is another stage.

        Where data, weights and machines are does not count, nor what only other stages read; what the network computes in
        does, which is bfloat16 on GPUs where no preset says otherwise.
        """
        return self._facts(partial(BaseModel.model_dump, mode="json"))

    @property
    def chosen(self) -> dict[str, Any]:
        """That of its identity which is not as by default."""
        return self._facts(partial(BaseModel.model_dump, mode="json", exclude_defaults=True))

    def _facts(self, dump: Callable[..., dict[str, Any]]) -> dict[str, Any]:
        job = self.job
        facts: dict[str, Any] = {"mode": self.mode, "seed": job.seed, "precision": job.cluster.precision}
        model = dump(architecture(job.model, self.mode))
        facts |= {"optim": dump(self.optim), "model": model, "start": self.start_sha256}
        if self.mode == "pretrain" and job.pretrain:
            facts["pretrain"] = dump(job.pretrain, exclude={"optim"})
        if self.needs_motion:
            facts["motion"] = self.motion_fingerprint
        if self.distils:
            facts["student"] = dump(self.student, exclude={"mode", "appearance_teacher"})
        if self.teacher:
            facts["teacher"] = self.teacher.weights_sha256
        if self.appearance_url and job.student.appearance_teacher:
            weights = dump(job.student.appearance_teacher, exclude={"url"})
            facts["appearance teacher"] = weights | {
                "weights": self.appearance.weights_sha256 if self.appearance else ""
            }
        return facts

    def network(self, classes: tuple[str, ...]) -> NetworkSpec:
        """What is trained, as far as it is known before."""
        return network_of(self.job, self.mode, classes).model_copy(
            update={"motion_fingerprint": self.motion_fingerprint}
        )


def stage_of(
    job: JobConfig,
    mode: Mode,
    teacher_url: str | None = None,
    start_url: str | None = None,
    appearance_url: str | None = None,
) -> Stage:
    """A job's stage, knowing its motion, its teachers and its start by content.

    Raises as `with_contents`.

    Args:
        job: the run.
        mode: which of its networks.
        teacher_url: a trained teacher's network; only students read it.
        start_url: what RGB backbones start from, by default `model.backbone.weights`; a teacher on motion starts from
            published weights alone, adapted to its channels.
        appearance_url: a trained RGB detector's network; only a decomposed student reads it, and only where the job asks for
            an appearance teacher and names none itself.
    """
    return with_contents(_unread(job, mode, teacher_url, start_url, appearance_url))


def planned_stages(job: JobConfig) -> list[Stage]:
    """The stages that a job trains, in order, each knowing where what it rests on will lie. Nothing is read, and so nothing
    need be there: `with_contents`."""
    stages: dict[str, Stage] = {}
    for mode in stage_modes(job):
        urls = {name: stage.weights_url for name, stage in stages.items()}
        taught_by = job.teacher.url or urls.get("teacher")
        stages[mode] = _unread(job, mode, taught_by, urls.get("pretrain"), urls.get("baseline"))
    return list(stages.values())


def with_contents(stage: Stage, awaited: Collection[str] = ()) -> Stage:
    """The same stage, knowing its motion, its teachers and its start by content.

    Args:
        stage: as it was planned.
        awaited: places of networks that are not read, since what lies there is not yet what the stage rests on.

    Raises:
        ValueError: RAFT's weights are missing, precomputed flow says not what made it, or a folder holds no network.
        StorageError: the storage cannot be reached.
    """
    start, teacher, appearance = (
        None if url in awaited else url for url in (stage.start_url, stage.teacher_url, stage.appearance_url)
    )
    contents = {
        "motion_fingerprint": motion_fingerprint(stage.job.motion) if stage.needs_motion else "",
        "teacher": read_spec(teacher) if teacher else None,
        "appearance": read_spec(appearance) if appearance else None,
        "start_sha256": start_digest(start) if start else "",
    }
    return stage.model_copy(update=contents)


def _unread(
    job: JobConfig, mode: Mode, teacher_url: str | None, start_url: str | None, appearance_url: str | None
) -> Stage:
    job = with_absolute_paths(job)
    if mode not in DISTILLING:
        teacher_url = None
    wanted = job.student.appearance_teacher if mode == "decomposed" else None
    appearance_url = (wanted.url or appearance_url) if wanted else None
    start_url = start_url or job.model.backbone.weights
    if mode == "pretrain" or (mode == "teacher" and not is_published(start_url)):
        start_url = None
    return Stage(
        job=job,
        mode=mode,
        teacher_url=teacher_url,
        appearance_url=appearance_url,
        start_url=start_url,
    )
