"""The appearance teacher: a frozen RGB detector beside the student, in every training worker.

It needs the frames alone, which the worker has on its device already: no second pool of actors, and nothing that would have
to travel with the batch. It costs one forward pass a step.
"""

from dataclasses import replace

import torch

from tadscale.data.manifest import Manifest
from tadscale.engine.batch import WindowBatch
from tadscale.errors import UserError
from tadscale.models.detector import Detector
from tadscale.network import Mode, load_network
from tadscale.runtime.stage.spec import Stage
from tadscale.runtime.stage.teacher_fit import check_fit

DETECTORS: tuple[Mode, ...] = ("baseline", "conventional")
"""RGB networks with one feature that a branch can imitate: a decomposed student has two."""


class AppearanceTeacher:
    """Adds to each batch what a trained RGB detector makes of its frames.

    Outside the training engine: frozen, in eval mode, in float32, never in a checkpoint.

    Args:
        url: the detector's folder.
        device: the training worker's.

    Raises:
        UserError: a file is missing or damaged, or the weights do not fit the architecture.
        StorageError: the storage cannot be reached.
    """

    def __init__(self, url: str, device: str) -> None:
        network, _ = load_network(url)
        assert isinstance(network, Detector)
        self._network = network.to(device)

    @torch.no_grad()
    def __call__(self, batch: WindowBatch) -> WindowBatch:
        """The batch with the teacher's feature and predictions."""
        return replace(batch, appearance_teacher=self._network(batch.frames, batch.mask))


def check_appearance_teacher(stage: Stage, manifest: Manifest) -> None:
    """Refuse an appearance teacher that this stage cannot learn from, before anything is started.

    Raises:
        UserError: it is no RGB detector, or differs in sampling, classes or network.
    """
    teacher = stage.appearance
    assert teacher is not None
    if teacher.mode not in DETECTORS:
        raise UserError(
            f"student.appearance_teacher.url: {stage.appearance_url} was trained as {teacher.mode}: an appearance teacher "
            f"is an RGB detector ({' or '.join(DETECTORS)})"
        )
    check_fit(teacher, stage.network(manifest.classes), str(stage.appearance_url))
