"""It learns: from ground truth, and from a trained teacher's predictions alone."""

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


def problem(seed: int = 0) -> tuple[Tensor, Tensor, Targets]:
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


@pytest.fixture(scope="module")
def teacher() -> tuple[AfsdHead, list[float]]:
    """A head that was taught the problem, and its losses."""
    head = built(0)
    features, mask, targets = problem()
    optimizer, losses = torch.optim.Adam(head.parameters(), lr=5e-3), []
    for _ in range(80):
        optimizer.zero_grad()
        loss = OBJECTIVE.loss(head(features, mask), targets).mean()
        loss.backward()
        optimizer.step()
        losses.append(loss.item())
    return head.eval(), losses


def test_it_learns_from_ground_truth(teacher: tuple[AfsdHead, list[float]]) -> None:
    head, losses = teacher
    assert losses[-1] < losses[0] / 4
    features, mask, targets = problem(seed=1)  # not those that it was taught
    with torch.no_grad():
        assert recall(head, head(features, mask), targets) >= 0.9
        assert recall(built(0), built(0)(features, mask), targets) < 0.5


def test_it_learns_from_a_teacher_alone(teacher: tuple[AfsdHead, list[float]]) -> None:
    student = built(1)
    features, mask, _ = problem()
    with torch.no_grad():
        taught = teacher[0](features, mask)
    optimizer = torch.optim.Adam(student.parameters(), lr=5e-3)
    for _ in range(80):
        optimizer.zero_grad()
        OBJECTIVE.imitate(student(features, mask), taught).mean().backward()
        optimizer.step()
    features, mask, targets = problem(seed=1)
    with torch.no_grad():
        assert recall(student.eval(), student(features, mask), targets) >= 0.9
