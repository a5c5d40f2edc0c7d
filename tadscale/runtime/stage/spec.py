"""One training stage: what it is asked, what it gives back, and where its files lie."""

from pydantic import PositiveInt

from tadscale.config import Config
from tadscale.data.quarantine import QuarantineBudget
from tadscale.data.storage import join
from tadscale.data.windows import WindowConfig
from tadscale.engine.optim import OptimConfig
from tadscale.engine.steps import DistillConfig, Mode
from tadscale.flow.motion import MotionConfig
from tadscale.models.config import ModelConfig
from tadscale.runtime.stage.plan_spec import PlanSpec
from tadscale.runtime.stage.stopwatch import TimeSplit


class StageSpec(Config):
    """Everything that decides a stage's result; where it runs is `ClusterConfig`'s."""

    mode: Mode
    """What is trained, and on what."""
    name: str = ""
    """Folder under `run_url`; the mode if empty."""
    run_url: str
    """Where the run writes."""
    data_url: str
    """Shards with their manifest."""
    subset: str = "train"
    """Which of the manifest's videos are trained on."""
    window: WindowConfig = WindowConfig()
    """How videos are cut."""
    seed: int = 0
    """Of the initial weights, the shuffle and augmentation."""
    optim: OptimConfig = OptimConfig()
    """Epochs, global batch, optimiser."""
    motion: MotionConfig = MotionConfig()
    """What the teacher sees."""
    motion_fingerprint: str = ""
    """What that is by content; filled in when the stage is started, and empty where there is no motion."""
    model: ModelConfig = ModelConfig()
    """Backbone and head."""
    distill: DistillConfig = DistillConfig()
    """Weights of the distillation terms."""
    teacher_url: str | None = None
    """A trained teacher's weights (`StageResult.weights_url`), for `conventional` and `decomposed`."""
    checkpoint_every_steps: PositiveInt = 200
    """Steps between checkpoints; there is always one at the end."""
    keep_checkpoints: PositiveInt = 2
    """How many are kept."""
    quarantine: QuarantineBudget = QuarantineBudget()
    """How many bad videos are borne."""
    accept_changes: bool = False
    """Go on from the checkpoints of a stage that had other settings or another plan (other data, seed, windows or batch):
    windows may then come twice or never. Refused by default."""

    @property
    def url(self) -> str:
        """Folder of this stage."""
        return join(self.run_url, self.name or self.mode)

    @property
    def checkpoints_url(self) -> str:
        """Folder of its checkpoints."""
        return join(self.url, "checkpoints")

    @property
    def weights_url(self) -> str:
        """Folder of the trained network."""
        return join(self.url, "weights")

    @property
    def log_url(self) -> str:
        """Its log, JSON lines."""
        return join(self.url, "log.jsonl")

    @property
    def quarantine_url(self) -> str:
        """Its quarantine ledger, JSON lines."""
        return join(self.url, "quarantine.jsonl")

    @property
    def plan(self) -> PlanSpec:
        """The part that decides the plan."""
        return PlanSpec(
            data_url=self.data_url,
            subset=self.subset,
            window=self.window,
            seed=self.seed,
            epochs=self.optim.epochs,
            global_batch=self.optim.global_batch,
        )

    @property
    def distils(self) -> bool:
        """Whether a teacher is needed."""
        return self.mode in ("conventional", "decomposed")

    @property
    def flow_url(self) -> str | None:
        """Shards of precomputed motion, where any is read."""
        return self.motion.flow_url if self.needs_motion else None

    @property
    def needs_motion(self) -> bool:
        """Whether motion is computed at all."""
        return self.mode != "baseline"


class StageResult(Config):
    """What a finished stage reports; also its `result.json`."""

    steps: int
    """Optimiser steps of the whole plan."""
    losses: dict[str, float]
    """Of the last step."""
    weights_url: str
    """The averaged weights and `network.json`: `runtime.weights.load_network` reads it."""
    log_url: str
    """JSON lines, one a step: losses, rates, and every rank's first and last position of the plan."""
    quarantine_url: str
    """JSON lines, one a bad video; the file exists even if there was none."""
    quarantined: int
    """Bad videos met."""
    seconds: TimeSplit
    """Where the time went."""
    restarts: int
    """Times that the worker group was started again."""
    plan_digest: str
    """Which window was trained at which step."""
    manifest_digest: str
    """The training data."""
