"""A backbone that learned nothing of what it is to start with: said when it is known, not by the students hours later."""

import json
import logging

from tadscale.data.storage import read_bytes
from tadscale.engine.pretrain import PretrainConfig, unlearned
from tadscale.runtime.stage.job import JobConfig
from tadscale.runtime.stage.result import StageResult
from tadscale.runtime.stage.spec import Stage

_OF_MOTION = "; or set student.distill.backbone_delay=0, as it is for every start that is known to know no motion"

log = logging.getLogger(__name__)


def warn_of_blind_start(stage: Stage, pretrained: StageResult) -> None:
    """Say what a finished pretext has not taught its backbone, of what it was to. Raises `StorageError`."""
    steps = [json.loads(line)["losses"] for line in read_bytes(pretrained.log_url).splitlines()]
    for what in unlearned(steps, stage.job.pretrain or PretrainConfig()):
        log.warning(
            "the pretext has taught the backbone nothing of %s in %d steps, and students start without it: train it longer, "
            "or choose another backbone, or published weights%s",
            what,
            len(steps),
            _OF_MOTION if what == "motion" and waits(stage.job) else "",
        )


def waits(job: JobConfig) -> bool:
    """Whether a student of the job would wait for what its start knows of motion."""
    return job.kind == "distill" and job.student.distill.backbone_delay != 0
