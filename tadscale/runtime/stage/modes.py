"""The networks that a job trains, and what its settings say of each: its schedule, its windows, its architecture."""

from tadscale.data.source import Source
from tadscale.engine.optim import OptimConfig
from tadscale.flow.motion import motion_channels
from tadscale.models.config import ModelConfig
from tadscale.network import Mode, NetworkSpec
from tadscale.runtime.stage.candidate_epochs import candidate_epochs
from tadscale.runtime.stage.job import JobConfig

DISTILLING: tuple[Mode, ...] = ("conventional", "decomposed")
"""Modes that learn from a teacher."""


def settings_of(job: JobConfig, mode: Mode) -> JobConfig:
    """The job as the stage of a mode has it: the pretext has a schedule of its own, and shorter windows side by side; the
    teacher may have another rate and warm-up."""
    if mode == "teacher":
        return job.model_copy(update={"optim": _of_teacher(job)})
    if mode != "pretrain" or job.pretrain is None:
        return job
    window = job.data.window.tiled()  # a pretext asks for no segments
    window = window.model_copy(update={"frames": job.pretrain.frames, "stride_frames": job.pretrain.frames})
    data = job.data.model_copy(update={"window": window})
    return job.model_copy(update={"optim": job.pretrain.optim, "data": data})


def learns_from_unlabelled(mode: Mode) -> bool:
    """Whether something is learned of windows without ground truth: of a teacher, or of the videos themselves."""
    return mode in DISTILLING or mode == "pretrain"


def sources_of(job: JobConfig, mode: Mode) -> tuple[Source, ...]:
    """What a mode is trained on: what has no labels is for those alone who need none."""
    return tuple(one for one in job.data.training_sources if one.labelled or learns_from_unlabelled(mode))


def kept_epochs_of(job: JobConfig, mode: Mode) -> tuple[int, ...]:
    """Epochs before the last whose weights a stage keeps, counted from 1: where one of them may be chosen."""
    if job.evaluate.select == "last" or mode == "pretrain":
        return ()
    return candidate_epochs(settings_of(job, mode).optim.epochs, job.evaluate.candidates)[:-1]


def _of_teacher(job: JobConfig) -> OptimConfig:
    own = {"lr": job.teacher.lr, "warmup_epochs": job.teacher.warmup_epochs}
    return job.optim.model_copy(update={name: value for name, value in own.items() if value is not None})


def architecture(model: ModelConfig, mode: Mode) -> ModelConfig:
    """What of the settings makes a mode's network: a start's place is no part of it, how branches are put together is a
    student's alone, and a pretext has a backbone and no more."""
    defaults = ModelConfig()
    backbone = model.backbone.model_copy(update={"weights": None})
    if mode == "pretrain":
        return defaults.model_copy(update={"backbone": backbone})
    student_only = {name: getattr(defaults, name) for name in ("fusion", "shared_branch_head")}
    return model.model_copy(update={"backbone": backbone} | ({} if mode == "decomposed" else student_only))


def stage_modes(job: JobConfig) -> list[Mode]:
    """The stages that a job trains, in order: who is needed comes first. None if it only evaluates."""
    wanted: dict[Mode, bool] = {
        "pretrain": job.pretrain is not None and job.kind in ("pretrain", "distill"),
        "teacher": job.teacher.url is None and job.kind in ("teacher", "distill"),
        "baseline": job.baseline and job.kind == "distill",
        job.student.mode: job.kind == "distill",
    }
    return [mode for mode, is_wanted in wanted.items() if is_wanted]


def network_of(job: JobConfig, mode: Mode, classes: tuple[str, ...]) -> NetworkSpec:
    """The network that a job trains in a mode."""
    return NetworkSpec(
        mode=mode,
        model=architecture(job.model, mode),
        in_channels=input_channels(job, mode),
        classes=classes,
        window=settings_of(job, mode).data.window,
        inference=job.evaluate.inference,
    )


def input_channels(job: JobConfig, mode: Mode) -> int:
    """Channels of what a mode's network reads, or of the motion that a pretext predicts."""
    return motion_channels(job.motion) if mode in ("teacher", "pretrain") else job.data.window.frame_shape[-1]
