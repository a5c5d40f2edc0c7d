"""What a network's parts promise one another, and torch does not check: on the meta device, where nothing is computed."""

from collections.abc import Iterator, Sequence

import torch
from torch import Tensor

from tadscale.models.backbones.base import Backbone
from tadscale.models.detector import Detector, as_input
from tadscale.models.heads.base import Head, Predictions
from tadscale.models.heads.objective import build_objective
from tadscale.models.pretext import PretextNetwork
from tadscale.models.student import Student
from tadscale.network import NetworkSpec

BATCH = 2
"""Windows: with one alone, a part that loses the batch would pass."""


def run_parts(spec: NetworkSpec) -> str:
    """Build a network, call it on windows, and look at what comes out of each part; the first broken promise, or nothing.

    A call takes a third of a CPU-second, a process's first 3 more, which torch spends on imports.

    Raises:
        Exception: of any kind; settings that do not fit end wherever in torch.
    """
    with torch.device("meta"):
        network = spec.build(for_training=True)
        video, mask = _windows(spec), torch.ones(BATCH, spec.window.frames, dtype=torch.bool)
        return next(_broken(spec, network, video, mask), "")


def _broken(spec: NetworkSpec, network: torch.nn.Module, video: Tensor, mask: Tensor) -> Iterator[str]:
    if name := next((name for name, value in network.named_parameters() if not value.dim()), None):
        yield f"its parameter {name} has no dimension, and DeepSpeed cannot send it to ranks; give it the shape [1]"
    assert isinstance(network, Detector | Student | PretextNetwork)
    yield from _of_backbone(network.backbone, as_input(network.backbone, video), mask)
    output = network(video, mask)
    if not isinstance(network, PretextNetwork):
        told = output.joint_predictions if isinstance(network, Student) else output.predictions
        yield from _of_head(network.head, told, len(spec.classes))
        build_objective(spec.model.head, len(spec.classes))


def _of_backbone(backbone: Backbone, video: Tensor, mask: Tensor) -> Iterator[str]:
    what = f"the features of {type(backbone).__name__}, by its out_channels and its stride of {backbone.stride},"
    yield from _differs(what, backbone(video), (BATCH, backbone.out_channels, backbone.steps(mask).shape[1]))


def _of_head(head: Head, predictions: Predictions, classes: int) -> Iterator[str]:
    name = type(head).__name__
    for key, value in predictions.items():
        yield from _differs(
            f"{key!r} of {name}'s predictions, which lead with the batch,", value, (BATCH, *value.shape[1:])
        )
    scores, segments = head.moments(predictions)
    moments = scores.shape[1] if scores.ndim > 1 else 0
    yield from _differs(f"the scores of {name}.moments", scores, (BATCH, moments, classes))
    yield from _differs(f"the segments of {name}.moments, as many as its scores,", segments, (BATCH, moments, 2))


def _differs(what: str, found: Tensor, wanted: Sequence[int]) -> Iterator[str]:
    if tuple(found.shape) != tuple(wanted):
        yield f"{what} should be {list(wanted)}, and are {list(found.shape)}"


def _windows(spec: NetworkSpec) -> Tensor:
    window = spec.window
    if spec.reads_motion:
        grid = window.frame_shape[:2] if window.features is None else (1, 1)
        return torch.zeros(BATCH, spec.in_channels, window.frames, *grid)
    kind = torch.uint8 if window.features is None else torch.float32
    return torch.zeros(BATCH, window.frames, *window.frame_shape, dtype=kind)
