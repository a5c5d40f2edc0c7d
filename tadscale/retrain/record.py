"""What a tick decided and did: one JSON document, enough to go on from and to explain it afterwards."""

from typing import Literal

from tadscale.config import Config
from tadscale.retrain.decision import Decision


class Derivation(Config):
    """What a training has of the champion; with the job's file it is the whole run."""

    run: str
    """Name of the run: the same data, champion and settings give the same."""
    champion: int | None
    """The version that it starts from, and is to be compared with."""
    start: str | None = None
    """What its RGB backbones start from, if that is the champion's."""
    start_says: str = ""
    """Why, or why not."""
    teacher: str | None = None
    """The champion's teacher, if it teaches again."""
    teacher_says: str = ""
    """Why, or why not."""


class AgeScore(Config):
    """Average mAP in [0, 1] on test videos that were there when the champion was trained, or that were not."""

    videos: int
    """How many."""
    champion: float | None
    """Of the version that it was held against; None where there was none."""
    challenger: float
    """Of the version that was trained."""


class Outcome(Config):
    """What came of a training."""

    version: int
    """As registered."""
    is_champion: bool
    """Whether it reigns now."""
    against: int | None = None
    """The version that the gate held it against: not the one that it started from, if another became champion meanwhile."""
    tests: dict[Literal["old", "new"], AgeScore] = {}
    """By the age of the test videos."""


class RetrainRecord(Config):
    """One tick."""

    state: Literal["idle", "training", "finished", "abandoned"]
    """`idle`: nothing was to be done. `training`: under way, or killed. `abandoned`: killed, and the job's file or the data
    were changed before it could go on."""
    derivation: Derivation
    """The run."""
    settings_digest: str
    """Of the job's file."""
    training_digest: str
    """Of what is trained on."""
    decision: Decision
    """Whether and why."""
    outcome: Outcome | None = None
    """How it ended."""
    seconds: dict[str, float] = {}
    """Time of each step; a training that was killed counts what its checkpoints remember."""
