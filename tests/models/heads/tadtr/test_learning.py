"""The head learns: from ground truth, and from a trained teacher's predictions alone."""

import pytest
import torch
from torch import Tensor

from tadscale.models.heads.objective import Targets
from tadscale.models.heads.tadtr.network import TadTRConfig, TadTRHead
from tadscale.models.heads.tadtr.objective import TadTRObjective
from tadscale.models.tiou import temporal_iou

CLASSES, CHANNELS, STEPS, STRIDE_FRAMES, WINDOWS = 2, 6, 32, 2, 32
SETTINGS = TadTRConfig(dim=32, heads=4, decoder_layers=2, queries=8)
OBJECTIVE = TadTRObjective(SETTINGS, CLASSES)


def problem() -> tuple[Tensor, Targets]:
    """Two segments a window, one in each half; a channel for each class marks its steps, under noise."""
    generator = torch.Generator().manual_seed(0)
    length = torch.randint(4, 12, (WINDOWS, 2), generator=generator)
    start = torch.tensor([0, STEPS // 2]) + torch.randint(0, 5, (WINDOWS, 2), generator=generator)
    labels = torch.randint(0, CLASSES, (WINDOWS, 2), generator=generator)
    features = 0.3 * torch.randn(WINDOWS, CHANNELS, STEPS, generator=generator)
    for window in range(WINDOWS):
        for s, n, label in zip(start[window].tolist(), length[window].tolist(), labels[window].tolist(), strict=True):
            features[window, label, s : s + n] += 1.0
    segments = torch.stack([start, start + length], dim=2).float() * STRIDE_FRAMES
    return features, Targets(segments_frames=segments, labels=labels)


FEATURES, TARGETS = problem()
MASK = torch.ones(WINDOWS, STEPS, dtype=torch.bool)


def learn(seed: int, teacher: TadTRHead | None, steps: int) -> tuple[TadTRHead, list[float]]:
    """A head and its losses, on half of the windows a step."""
    torch.manual_seed(seed)
    head = SETTINGS.build(in_dim=CHANNELS, num_classes=CLASSES, stride_frames=STRIDE_FRAMES)
    optimizer = torch.optim.AdamW(head.parameters(), lr=3e-3)
    losses = []
    for step in range(steps):
        rows = slice(step % 2 * WINDOWS // 2, (step % 2 + 1) * WINDOWS // 2)
        predictions = head(FEATURES[rows], MASK[rows])
        if teacher is None:
            targets = Targets(segments_frames=TARGETS.segments_frames[rows], labels=TARGETS.labels[rows])
            loss = OBJECTIVE.loss(predictions, targets).mean()
        else:
            loss = OBJECTIVE.imitate(predictions, teacher(FEATURES[rows], MASK[rows])).mean()
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        losses.append(float(loss.detach()))
    return head.eval().requires_grad_(False), losses


def recall(head: TadTRHead) -> float:
    """The share of segments that one of their window's two best detections finds at a tIoU of 0.5, label and all."""
    found = head.decode(head(FEATURES, MASK), top_k=2, min_score=0.0)
    hits = 0
    for window, (segments, labels) in enumerate(zip(TARGETS.segments_frames, TARGETS.labels, strict=True)):
        same = found[window].labels.unsqueeze(1) == labels
        close = temporal_iou(found[window].segments_frames.unsqueeze(1), segments) >= 0.5
        hits += int((same & close).any(dim=0).sum())
    return hits / TARGETS.labels.numel()


@pytest.fixture(scope="module")
def taught() -> tuple[TadTRHead, list[float]]:
    return learn(0, None, steps=80)


def test_the_best_detections_come_to_lie_on_the_ground_truth(taught):
    head, losses = taught
    assert sum(losses[-10:]) < 0.3 * sum(losses[:10])
    assert recall(head) > 0.9


def test_a_student_of_the_predictions_alone_finds_the_segments(taught):
    student, losses = learn(1, taught[0], steps=80)
    assert sum(losses[-10:]) < 0.3 * sum(losses[:10])
    assert recall(student) > 0.9
