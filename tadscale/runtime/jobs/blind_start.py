"""A backbone that learned nothing of what it is to start with: said when it is known, not by the students hours later."""

import json
import logging

from tadscale.data.storage import read_bytes
from tadscale.engine.pretrain import unlearned
from tadscale.runtime.stage.spec import StageResult

log = logging.getLogger(__name__)


def warn_of_blind_start(pretrained: StageResult) -> None:
    """Say what a finished pretext has not taught its backbone. Raises `StorageError`."""
    steps = [json.loads(line)["losses"] for line in read_bytes(pretrained.log_url).splitlines()]
    for what in unlearned(steps):
        log.warning(
            "the pretext has taught the backbone nothing of %s in %d steps, and students start without it. Train it longer, "
            "or choose another backbone (small3d learns both within 200 steps), or published weights%s",
            what,
            len(steps),
            "; else set student.distill.backbone_delay=0, as for every start that knows no motion" * (what == "motion"),
        )
