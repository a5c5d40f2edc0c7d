"""It learns: from ground truth, and from a trained teacher's predictions alone."""

from collections.abc import Callable

import pytest
import torch
from torch import Tensor

from tadscale.metrics.nms import NmsConfig, suppress
from tadscale.models.heads.afsd.network import AfsdConfig, AfsdHead
from tadscale.models.heads.base import Predictions
from tadscale.models.heads.objective import Targets, build_objective
from tadscale.models.tiou import temporal_iou

SETTINGS = AfsdConfig(dim=16, levels=3, heads=2)
OBJECTIVE = build_objective(SETTINGS, 2)
STEPS, STRIDE_FRAMES, WINDOWS = 32, 2, 24


def problem(seed: int) -> tuple[Tensor, Tensor, Targets]:
    """Windows of noise in which channel 0 or 1 marks a segment of its class: one in each half, of 4 to 12 steps."""
    generator = torch.Generator().manual_seed(seed)
    features = torch.randn(WINDOWS, 6, STEPS, generator=generator) * 0.2
    length = torch.randint(4, 13, (WINDOWS, 2), generator=generator)
    start = torch.stack([torch.randint(0, 4, (WINDOWS,), generator=generator) + half for half in (0, 16)], dim=1)
    labels = torch.randint(0, 2, (WINDOWS, 2), generator=generator)
    for b in range(WINDOWS):
        for first, count, label in zip(start[b], length[b], labels[b], strict=True):
            features[b, label, first : first + count] += 1.0
    segments = torch.stack([start, start + length - 1], dim=2) * float(STRIDE_FRAMES)
    return features, torch.ones(WINDOWS, STEPS, dtype=torch.bool), Targets(segments_frames=segments, labels=labels)


def built(seed: int) -> AfsdHead:
    torch.manual_seed(seed)
    return SETTINGS.build(in_dim=6, num_classes=2, stride_frames=STRIDE_FRAMES)


def recall(head: AfsdHead, predictions: Predictions, targets: Targets) -> float:
    """The share of segments among a window's three best detections after suppression: its class, and a tIoU of 0.5."""
    hits = []
    for found, segments, labels in zip(
        head.decode(predictions, top_k=200, min_score=0.0), targets.segments_frames, targets.labels, strict=True
    ):
        columns = (found.segments_frames.numpy(), found.scores.numpy(), found.labels.numpy())
        best = torch.from_numpy(suppress(*columns, NmsConfig()).row[:3])
        near = temporal_iou(found.segments_frames[best][None], segments[:, None]) >= 0.5  # [N, 3]
        hits += (near & (found.labels[best] == labels[:, None])).any(dim=1).tolist()
    return sum(hits) / len(hits)


def taught(seed: int, lesson: Callable[[AfsdHead, int], Tensor]) -> tuple[AfsdHead, list[float]]:
    """A head after 80 steps, each on windows of its own, and its losses."""
    head = built(seed)
    optimizer, losses = torch.optim.Adam(head.parameters(), lr=5e-3), []
    for step in range(80):
        optimizer.zero_grad()
        loss = lesson(head, step)
        loss.backward()
        optimizer.step()
        losses.append(loss.item())
    return head.eval(), losses


def recall_on_new_windows(head: AfsdHead) -> float:
    features, mask, targets = problem(seed=1000)
    with torch.no_grad():
        return recall(head, head(features, mask), targets)


def from_truth(head: AfsdHead, step: int) -> Tensor:
    features, mask, targets = problem(step)
    return OBJECTIVE.loss(head(features, mask), targets).mean()


@pytest.fixture(scope="module")
def teacher() -> tuple[AfsdHead, list[float]]:
    return taught(0, from_truth)


def test_it_learns_from_ground_truth(teacher: tuple[AfsdHead, list[float]]) -> None:
    head, losses = teacher
    assert losses[-1] < losses[0] / 2
    assert recall_on_new_windows(built(0)) < 0.5 < 0.9 < recall_on_new_windows(head)


def test_it_learns_from_a_teacher_alone(teacher: tuple[AfsdHead, list[float]]) -> None:
    def from_teacher(head: AfsdHead, step: int) -> Tensor:
        features, mask, _ = problem(step)
        with torch.no_grad():
            said = teacher[0](features, mask)
        return OBJECTIVE.imitate(head(features, mask), said).mean()

    student, _ = taught(1, from_teacher)
    assert recall_on_new_windows(student) > 0.9
