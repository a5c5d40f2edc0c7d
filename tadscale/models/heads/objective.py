"""How a head is taught, apart from the head: what an exported model does not carry."""

from abc import ABC, abstractmethod
from dataclasses import dataclass
from importlib import import_module

from torch import Tensor

from tadscale.models.heads.base import HeadSettings, Predictions


@dataclass(frozen=True, kw_only=True)
class Targets:
    """Ground truth of a batch of windows; N is at least 1, also where no window has a segment.

    Attributes:
        segments_frames: `[B, N, 2]` start and end in sampled frames from the window's first; float32.
        labels: `[B, N]` class index, -1 where there is no segment (padding); int64.
    """

    segments_frames: Tensor
    labels: Tensor

    def to(self, device: str) -> "Targets":
        """The same targets on `device`."""
        return Targets(segments_frames=self.segments_frames.to(device), labels=self.labels.to(device))


class Objective(ABC):
    """What a family of heads learns by. It has no weights of its own.

    Losses are returned per window and normalised within the window, never over the batch: the mean over the global
    batch is then the same however the batch is spread over workers.
    """

    @abstractmethod
    def loss(self, predictions: Predictions, targets: Targets) -> Tensor:
        """Supervised loss of each window, `[B]`."""

    @abstractmethod
    def imitate(self, student: Predictions, teacher: Predictions) -> Tensor:
        """How far the student's predictions are from the teacher's, per window, `[B]`. No gradient to the teacher."""

    @abstractmethod
    def fuse(self, predictions: list[Predictions]) -> Predictions:
        """Late fusion: one set of predictions from several detectors of this family (two-stream inference)."""


def build_objective(settings: HeadSettings, num_classes: int) -> Objective:
    """The objective of a head, by its settings: `build(settings, num_classes)` of the module `objective` in its folder.

    Found by its place and not by an import, so that a head's code never leads to that of its training.
    """
    folder = type(settings).__module__.rpartition(".")[0]
    objective: Objective = import_module(f"{folder}.objective").build(settings, num_classes)
    return objective
