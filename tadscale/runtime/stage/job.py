"""What a run is: one frozen tree of settings. The stages take it whole, and read of it what is theirs."""

from typing import Annotated, Literal

from pydantic import AfterValidator, Field, NonNegativeFloat, ValidationInfo, field_validator, model_validator

from tadscale.config import Config
from tadscale.credentials import has_credentials
from tadscale.data.config import DataConfig
from tadscale.data.storage import join
from tadscale.engine.optim import OptimConfig
from tadscale.engine.pretrain import PretrainConfig
from tadscale.engine.steps import StudentConfig
from tadscale.flow.motion import MotionConfig
from tadscale.gate.config import GateConfig
from tadscale.models.config import ModelConfig
from tadscale.network import InferenceConfig
from tadscale.runtime.cluster.capacity import ClusterConfig
from tadscale.runtime.stage.teacher_cache import TeacherCacheConfig
from tadscale.runtime.tracking.run import flatten
from tadscale.runtime.tracking.track import TrackingConfig


class TeacherConfig(Config):
    """Where the motion teacher comes from."""

    url: str | None = None
    """A trained teacher's weights (`RUN/teacher/weights`, a path or URL) or a registered one (`models:/NAME@alias`). By
    default the run trains one. A job of kind evaluate scores it in place of the run's own."""
    lr: float | None = Field(default=None, gt=0, le=1)
    """Peak learning rate of the teacher that the run trains; by default `optim.lr`. It begins with nothing where the RGB
    backbones have a start, and does not bear the rates that they do: docs/results.md."""
    warmup_epochs: NonNegativeFloat | None = None
    """Its epochs of linear warm-up; by default `optim.warmup_epochs`. A start has something to lose while the rates rise, a
    teacher that begins with nothing only time."""
    cache: TeacherCacheConfig | None = None
    """Keep what the teacher says of windows that come unchanged, across runs; by default it is made anew by each run."""


Threshold = Annotated[float, Field(gt=0, le=1)]


def _some(thresholds: tuple[float, ...]) -> tuple[float, ...]:
    if not thresholds:
        raise ValueError("name at least one threshold, such as [0.5]")
    return thresholds


class EvaluateConfig(Config):
    """How detections are made from predictions, and scored."""

    tiou: Annotated[tuple[Threshold, ...], AfterValidator(_some)] = (0.3, 0.4, 0.5, 0.6, 0.7)
    """Temporal IoU thresholds of the mAP: fractions, not percent."""
    select: Literal["last", "validation"] = "last"
    """Which weights of each stage are scored on test and published: those after the last epoch, or those of the epoch with
    the best average mAP on `data.validation_subset`, and then both are reported. Never chosen on test. Students learn from
    their teachers' last weights either way."""
    candidates: int = Field(default=10, ge=2, le=1000)
    """With `select: validation`, the most epochs of a stage that are chosen among, spread evenly over its training, the last
    always one of them: so many times a network's weights are stored."""
    inference: InferenceConfig = InferenceConfig()
    """How detections are read off a network; the registered model does the same."""


class JobConfig(Config):
    """One run."""

    kind: Literal["distill", "teacher", "pretrain", "evaluate"]
    """`distill`: teacher, baseline, student, evaluation, registration. `teacher`: the teacher alone, evaluated.
    `pretrain`: an RGB backbone's start, from video alone, which `model.backbone.weights` of other jobs names.
    `evaluate`: score what an earlier run of the same name and storage trained."""
    name: str = Field(pattern=r"^[A-Za-z0-9][A-Za-z0-9._-]*$")
    """Name of the run; the same name and storage resume it."""
    storage: str = Field(min_length=1)
    """Folder or object-store prefix under which the run keeps its checkpoints, logs and results."""
    seed: int = Field(default=0, ge=0, lt=2**63)
    """Seed of weights, windows and augmentation."""
    data: DataConfig
    """The videos."""
    motion: MotionConfig = MotionConfig()
    """What the teacher sees."""
    model: ModelConfig = ModelConfig()
    """Backbone and head of teacher, baseline and student alike."""
    pretrain: PretrainConfig | None = None
    """Give the RGB backbone a label-free start, as a first stage: baseline and student begin with it alike."""
    optim: OptimConfig = OptimConfig()
    """How all three are trained."""
    teacher: TeacherConfig = TeacherConfig()
    """Who teaches."""
    student: StudentConfig = StudentConfig()
    """How the student is taught."""
    baseline: bool = True
    """Train the RGB baseline too: without it there is nothing to compare the student with."""
    evaluate: EvaluateConfig = EvaluateConfig()
    """How all of them are scored."""
    checkpoint_every_steps: int = Field(default=200, ge=1)
    """Steps between checkpoints of a stage; there is always one at its end."""
    cluster: ClusterConfig = ClusterConfig()
    """What the run may use of the machines."""
    tracking: TrackingConfig = TrackingConfig()
    """Where the run is recorded and the model registered."""
    gate: GateConfig | None = None
    """Compare what the job registers with the champion, on the test subset, and let it become champion if the policy says
    so. By default it becomes challenger, and nothing is compared. A job of kind evaluate registers nothing: there it is what
    `tadscale gate` goes by."""

    @field_validator("evaluate")
    @classmethod
    def _the_head_names_its_suppression(cls, evaluate: EvaluateConfig, info: ValidationInfo) -> EvaluateConfig:
        """`model` stands above and is read by then; it is missing where it was refused."""
        if "model" not in info.data:
            return evaluate
        inference = evaluate.inference.with_suppression_of(info.data["model"].head)
        return evaluate.model_copy(update={"inference": inference})

    @model_validator(mode="after")
    def _workers_share_the_batch(self) -> "JobConfig":
        if self.optim.global_batch % self.cluster.workers:
            raise ValueError(
                f"optim.global_batch = {self.optim.global_batch} is not a multiple of cluster.workers = "
                f"{self.cluster.workers}: every worker takes an equal share of each global batch. Change either."
            )
        return self

    @model_validator(mode="after")
    def _pretraining_has_settings(self) -> "JobConfig":
        if self.kind == "pretrain" and self.pretrain is None:
            raise ValueError("kind: pretrain needs its settings: write pretrain: {} for the defaults")
        if self.pretrain is not None and self.model.backbone.weights is not None:
            raise ValueError(
                "pretrain makes a start for the backbone, and model.backbone.weights names one: leave one of them out"
            )
        return self

    @model_validator(mode="after")
    def _features_go_together(self) -> "JobConfig":
        """Where windows are of features, everything reads features; where they are of pictures, nothing does."""
        expected = self.data.window.features is not None
        settings = {"model.backbone.name": self.model.backbone.name, "motion.name": self.motion.name}
        for setting, name in settings.items():
            if (name == "features") != expected:
                raise ValueError(
                    f"data.window.features is {'set' if expected else 'not set'}, and {setting} is {name!r}: a job is of "
                    "features throughout (data.window.features, model.backbone.name=features, motion.name=features), or of "
                    "videos; `tadscale data features` prints the settings for its shards"
                )
        if expected and (self.pretrain is not None or self.data.sprites is not None):
            raise ValueError(
                "pretrain and data.sprites are about pictures, and data.window.features has none: leave them out"
            )
        return self

    @model_validator(mode="after")
    def _a_teacher_job_trains_its_own(self) -> "JobConfig":
        if self.kind == "teacher" and self.teacher.url is not None:
            raise ValueError("kind: teacher trains a teacher, and teacher.url names one: leave teacher.url out")
        return self

    @model_validator(mode="after")
    def _what_is_cached_comes_again(self) -> "JobConfig":
        if self.teacher.cache is not None and self.data.window.augment.varies:
            raise ValueError(
                "teacher.cache keeps what the teacher says of windows that come unchanged, and data.window.augment changes "
                "them each time: leave one of them out"
            )
        return self

    @model_validator(mode="after")
    def _an_appearance_teacher_has_whom_to_teach(self) -> "JobConfig":
        teacher = self.student.appearance_teacher
        if teacher is None or self.kind != "distill":
            return self
        if self.student.mode == "conventional":
            raise ValueError(
                "student.appearance_teacher teaches the appearance branch, and a conventional student has none: leave it "
                "out, or set student.mode=decomposed"
            )
        if teacher.url is None and not self.baseline:
            raise ValueError(
                "student.appearance_teacher without a url is the run's own baseline, and baseline is false: name a url, or "
                "train the baseline"
            )
        return self

    @model_validator(mode="after")
    def _an_epoch_is_chosen_on_videos_of_their_own(self) -> "JobConfig":
        data = self.data
        if self.evaluate.select == "last":
            return self
        if data.validation_subset == data.test_subset:
            raise ValueError(
                f"evaluate.select is validation, and data.validation_subset is the test subset {data.test_subset!r}: an "
                "epoch that is chosen on test flatters its score there; name another subset, or set evaluate.select=last"
            )
        trained = {source.subset for source in data.training_sources if source.url == data.url}
        if data.validation_subset in trained:
            raise ValueError(
                f"evaluate.select is validation, and data.validation_subset {data.validation_subset!r} is trained on: every "
                "later epoch would look better; name another subset, or set evaluate.select=last"
            )
        return self

    @model_validator(mode="after")
    def _the_gate_has_a_challenger(self) -> "JobConfig":
        tracking = self.tracking
        name = {"pretrain": None, "teacher": tracking.registered_teacher}.get(self.kind, tracking.registered_model)
        if self.gate is not None and name is None:
            raise ValueError(
                f"gate compares registered detectors, and this job of kind {self.kind} names none: set "
                "tracking.registered_model (tracking.registered_teacher of a teacher job), or leave gate out"
            )
        return self

    @model_validator(mode="after")
    def _a_teacher_has_no_pace(self) -> "JobConfig":
        if self.kind == "teacher" and self.gate and self.gate.budgets.seconds_per_video_second is not None:
            raise ValueError(
                "gate.budgets.seconds_per_video_second is measured on video, and a teacher reads motion: leave it out"
            )
        return self

    @model_validator(mode="after")
    def _credentials_come_from_the_environment(self) -> "JobConfig":
        """Before anything reads, prints or stores the job; the tracking URI alone may hold some, and is never shown."""
        tree = self.model_dump(mode="json", exclude={"tracking": {"tracking_uri"}})
        if named := [key for key, text in flatten(tree) if has_credentials(text)]:
            raise ValueError(
                f"{', '.join(named)}: credentials do not belong in a job's URLs: for s3:// set AWS_ACCESS_KEY_ID "
                "and AWS_SECRET_ACCESS_KEY in the environment"
            )
        return self

    @property
    def run_url(self) -> str:
        """Everything of this run lies under it."""
        return join(self.storage, self.name)
