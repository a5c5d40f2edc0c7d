"""The G-TAD head learns in seconds: from ground truth, and from a teacher's predictions alone."""

from collections.abc import Callable
from typing import NamedTuple

import pytest
import torch
from torch import Tensor

from tadscale.models.heads.base import Predictions
from tadscale.models.heads.gtad.network import GTADConfig, GTADHead
from tadscale.models.heads.gtad.objective import GTADObjective
from tadscale.models.heads.objective import Targets

CLASSES, STRIDE, STEPS, DIM = 2, 2, 24, 6
SETTINGS = GTADConfig(dim=16, paths=4, places=8, context_places=2, map_dim=16, max_duration=12)
OBJECTIVE = GTADObjective(SETTINGS, CLASSES)


class Windows(NamedTuple):
    features: Tensor
    targets: Targets


def windows(count: int, seed: int) -> Windows:
    """A segment of 4 to 8 steps in each half of a window, marked in a channel of its class, in noise."""
    generator = torch.Generator().manual_seed(seed)
    features = 0.3 * torch.randn(count, DIM, STEPS, generator=generator)
    labels = torch.randint(CLASSES, (count, 2), generator=generator)
    start = torch.randint(4, (count, 2), generator=generator) + torch.tensor([0, 12])
    end = start + torch.randint(4, 9, (count, 2), generator=generator)
    steps = torch.arange(STEPS)
    inside = (steps >= start.unsqueeze(2)) & (steps < end.unsqueeze(2))  # [count, 2, STEPS]
    for label in range(CLASSES):
        features[:, label] += (inside & (labels == label).unsqueeze(2)).any(dim=1)
    segments = torch.stack([start, end], dim=2).float() * STRIDE
    return Windows(features, Targets(segments_frames=segments, labels=labels))


def built(seed: int) -> GTADHead:
    torch.manual_seed(seed)
    return SETTINGS.build(in_dim=DIM, num_classes=CLASSES, stride_frames=STRIDE)


def predict(head: GTADHead, data: Windows) -> Predictions:
    return head(data.features, torch.ones(len(data.features), STEPS, dtype=torch.bool))


def trained(head: GTADHead, data: Windows, loss: Callable[[Predictions], Tensor], steps: int) -> list[float]:
    """The loss of every step on all windows."""
    optimizer = torch.optim.AdamW(head.parameters(), lr=5e-3)
    losses = []
    for _ in range(steps):
        value = loss(predict(head, data)).mean()
        optimizer.zero_grad()
        value.backward()
        optimizer.step()
        losses.append(value.item())
    return losses


@torch.no_grad()
def recall(head: GTADHead, data: Windows) -> float:
    """Share of segments that the best detection of their class in their half of the window meets with a tIoU of .5."""
    hits = []
    decoded = head.eval().decode(predict(head, data), top_k=10_000, min_score=0.0)
    for found, segments, labels in zip(decoded, *vars(data.targets).values(), strict=True):
        middle = found.segments_frames.mean(dim=1)
        for half, ((start, end), label) in enumerate(zip(segments.tolist(), labels.tolist(), strict=True)):
            here = (middle >= STEPS * STRIDE / 2) == bool(half)
            best = found.scores.masked_fill(~here, 0.0).argmax()
            one, other = found.segments_frames[best].tolist()
            overlap = min(other, end) - max(one, start)
            hits.append(found.labels[best] == label and overlap > 0.5 * (max(other, end) - min(one, start)))
    return sum(hits) / len(hits)


@pytest.fixture(scope="module")
def teacher() -> tuple[GTADHead, list[float]]:
    head, data = built(0), windows(16, seed=0)
    return head, trained(head, data, lambda predictions: OBJECTIVE.loss(predictions, data.targets), 80)


def test_ground_truth_is_learned(teacher):
    head, losses = teacher
    unseen = windows(16, seed=1)
    assert losses[-1] < losses[0] / 3
    assert recall(built(0), unseen) < 0.5
    assert recall(head, unseen) > 0.9


def test_a_teacher_s_predictions_alone_are_enough(teacher):
    student, data = built(1), windows(16, seed=2)
    taught = {name: value.detach() for name, value in predict(teacher[0], data).items()}
    losses = trained(student, data, lambda predictions: OBJECTIVE.imitate(predictions, taught), 80)
    assert losses[-1] < losses[0] / 3
    assert recall(student, windows(16, seed=1)) > 0.9
