"""How AFSD is taught: the whole loss against a plain loop over moments, its parts, imitation, fusion."""

import math
from collections.abc import Iterator

import pytest
import torch

from tadscale.models.heads.afsd.network import AfsdConfig, class_scores
from tadscale.models.heads.afsd.objective import AfsdObjective, activation_loss, boundary_frames, offset_error
from tadscale.models.heads.base import Predictions
from tadscale.models.heads.objective import Targets
from tadscale.models.tiou import temporal_iou

CLASSES, STRIDE_FRAMES = 3, 2
SETTINGS = AfsdConfig(
    dim=16, levels=3, heads=2, reach=2, min_positives=2.0, localisation_weight=3.0, activation_weight=0.5
)
OBJECTIVE = AfsdObjective(SETTINGS, CLASSES)


@pytest.fixture
def predictions() -> Predictions:
    torch.manual_seed(0)
    head = SETTINGS.build(in_dim=8, num_classes=CLASSES, stride_frames=STRIDE_FRAMES)
    torch.nn.init.normal_(head.correct.weight, std=0.1)
    mask = torch.ones(3, 32, dtype=torch.bool)
    mask[1, 28:] = False
    with torch.no_grad():
        return head(torch.randn(3, 8, 32) * 3, mask)


@pytest.fixture
def targets() -> Targets:
    """Two apart, three of which two overlap, none."""
    segments = torch.tensor(
        [
            [[4.0, 12.0], [20.0, 56.0], [0.0, 0.0]],
            [[30.0, 34.0], [28.0, 44.0], [2.0, 50.0]],
            [[0.0, 0.0], [0.0, 0.0], [0.0, 0.0]],
        ]
    )
    return Targets(segments_frames=segments, labels=torch.tensor([[0, 2, -1], [1, 1, 0], [-1, -1, -1]]))


def slow_action(point: list[float], targets: Targets, window: int) -> tuple[float, float, int] | None:
    """The shortest action that a moment is in and that suits its level, one action at a time."""
    place, stride = point
    low = 0.0 if stride == STRIDE_FRAMES else 2 * stride
    high = math.inf if stride == 4 * STRIDE_FRAMES else 4 * stride
    claims = []
    for (start, end), label in zip(
        targets.segments_frames[window].tolist(), targets.labels[window].tolist(), strict=True
    ):
        if label >= 0 and start <= place <= end and low <= max(place - start, end - place) < high:
            claims.append((end - start, start, end, label))
    return min(claims)[1:] if claims else None


def slow_iou(first: list[float], second: list[float]) -> float:
    shared = max(0.0, min(first[1], second[1]) - max(first[0], second[0]))
    return shared / (first[1] - first[0] + second[1] - second[0] - shared)


def slow_focal(logits: list[float], label: int | None) -> float:
    total = 0.0
    for k, logit in enumerate(logits):
        p = 1 / (1 + math.exp(-logit))
        total -= 0.25 * (1 - p) ** 2 * math.log(p) if k == label else 0.75 * p**2 * math.log(1 - p)
    return total


def slow_loss(predictions: Predictions, targets: Targets, window: int) -> float:
    """One moment at a time, without the activations."""
    of = {name: value[window].tolist() for name, value in predictions.items()}
    coarse, fine, positives, refined = 0.0, 0.0, 0, 0
    for p, exists in enumerate(of["mask"]):
        if not exists:
            continue
        action = slow_action(of["points"][p], targets, window)
        label, good = None, False
        if action is not None:
            start, end, label = action
            overlap = slow_iou(of["coarse_segments"][p], [start, end])
            good = overlap >= SETTINGS.refined_tiou
            fit = slow_iou(of["segments"][p], [start, end])
            quality = 1 / (1 + math.exp(-of["quality"][p]))
            coarse += 3.0 * (1 - overlap) - fit * math.log(quality) - (1 - fit) * math.log(1 - quality)
            positives += 1
        coarse += slow_focal(of["coarse_logits"][p], label)
        fine += slow_focal(of["logits"][p], label if good else None)
        if good:
            refined += 1
            half = (of["coarse_segments"][p][1] - of["coarse_segments"][p][0]) / 2
            for side, boundary in enumerate((start, end)):
                offset = (of["segments"][p][side] - of["coarse_segments"][p][side]) / half
                fine += 3.0 * abs(offset - (boundary - of["coarse_segments"][p][side]) / half)
    return coarse / max(positives, 2.0) + fine / max(refined, 2.0)


def test_the_loss_equals_a_plain_loop(predictions: Predictions, targets: Targets) -> None:
    expected = torch.tensor([slow_loss(predictions, targets, window) for window in range(3)])
    expected += 0.5 * activation_loss(predictions, targets)
    torch.testing.assert_close(OBJECTIVE.loss(predictions, targets), expected, rtol=1e-4, atol=1e-5)


def test_assignment_equals_a_plain_loop(predictions: Predictions, targets: Targets) -> None:
    points, mask = predictions["points"], predictions["mask"]
    labels, segments, positive = OBJECTIVE.assign(points, mask, targets)
    assert 10 < positive.sum() < positive.numel()
    for b in range(3):
        for p in range(mask.shape[1]):
            action = slow_action(points[b, p].tolist(), targets, b) if mask[b, p] else None
            assert bool(positive[b, p]) == (action is not None)
            assert labels[b, p].nonzero().flatten().tolist() == ([] if action is None else [action[2]])
            assert action is None or segments[b, p].tolist() == list(action[:2])


def test_boundary_frames_equal_a_plain_loop(targets: Targets) -> None:
    near = boundary_frames(63, targets)
    for b in range(3):
        for frame in range(63):
            for side in range(2):
                expected = any(
                    label >= 0 and abs(frame - segment[side]) <= max((segment[1] - segment[0]) / 20, 0.5)
                    for segment, label in zip(targets.segments_frames[b], targets.labels[b], strict=True)
                )
                assert bool(near[b, frame, side]) == expected


def test_activations_cost_least_where_the_boundaries_are(predictions: Predictions, targets: Targets) -> None:
    wanted = boundary_frames(63, targets)
    there = activation_loss(predictions | {"activations": wanted}, targets)
    elsewhere = activation_loss(predictions | {"activations": wanted.roll(7, dims=1)}, targets)
    assert there.max() < 1e-3 and (elsewhere[:2] > 0.3).all()


def perfect(predictions: Predictions, targets: Targets) -> Predictions:
    labels, segments, positive = OBJECTIVE.assign(predictions["points"], predictions["mask"], targets)
    logits = (labels * 2 - 1) * 12.0
    exact = torch.where(positive.unsqueeze(2), segments, predictions["segments"])
    activations = boundary_frames(63, targets)
    quality = torch.full_like(predictions["quality"], 12.0)
    found = {"coarse_logits": logits, "logits": logits, "quality": quality, "activations": activations}
    return predictions | found | {"coarse_segments": exact, "segments": exact}


def test_loss_is_zero_for_perfect_predictions_and_not_for_others(predictions: Predictions, targets: Targets) -> None:
    assert OBJECTIVE.loss(perfect(predictions, targets), targets).max() < 1e-3
    assert OBJECTIVE.loss(predictions, targets)[:2].min() > 0.5


def test_imitating_a_perfect_teacher_costs_nothing_once_it_is_equalled(
    predictions: Predictions, targets: Targets
) -> None:
    teacher = perfect(predictions, targets)
    assert (OBJECTIVE.imitate(teacher, teacher) < 1e-3).all()
    assert (OBJECTIVE.imitate(predictions, teacher)[:2] > 0.5).all()


def test_each_thing_that_a_teacher_says_is_imitated(predictions: Predictions, targets: Targets) -> None:
    teacher = perfect(predictions, targets)
    for name in ("coarse_logits", "logits", "quality", "coarse_segments", "segments"):
        student = teacher | {name: predictions[name]}
        assert (OBJECTIVE.imitate(student, teacher)[:2] > 1e-2).all(), name


def slow_quality_focal(logit: float, taught: float) -> float:
    """Quality focal loss to what a teacher says, both before the sigmoid."""
    p, q = 1 / (1 + math.exp(-logit)), 1 / (1 + math.exp(-taught))
    return -((q - p) ** 2) * (q * math.log(p) + (1 - q) * math.log(1 - p))


def both(of: dict[str, list], p: int) -> Iterator[tuple[float, float]]:
    """A moment's coarse and refined score of each class, before the sigmoid."""
    return zip(of["coarse_logits"][p], of["logits"][p], strict=True)


def slow_imitation(student: Predictions, teacher: Predictions, window: int) -> float:
    """One window's distance from the teacher, one moment at a time."""
    own, said = ({name: value[window].tolist() for name, value in each.items()} for each in (student, teacher))
    total, positives = 0.0, 0.0
    for p, exists in enumerate(own["mask"]):
        if not exists:
            continue
        for found, taught in zip(both(own, p), both(said, p), strict=True):
            total += sum(slow_quality_focal(*pair) for pair in zip(found, taught, strict=True))
        sure = [1 / (1 + math.exp(-logit)) + 1 / (1 + math.exp(-finer)) for logit, finer in both(said, p)]
        confidence = max(sure) / 2 / (1 + math.exp(-said["quality"][p]))
        positives += confidence
        part = slow_quality_focal(own["quality"][p], said["quality"][p])
        part += 3.0 * (1 - slow_iou(own["coarse_segments"][p], said["coarse_segments"][p]))
        if slow_iou(own["coarse_segments"][p], said["segments"][p]) >= SETTINGS.refined_tiou:
            start, end = own["coarse_segments"][p]
            away = [abs(one - other) for one, other in zip(own["segments"][p], said["segments"][p], strict=True)]
            part += 3.0 * sum(away) / ((end - start) / 2)
        total += confidence * part
    return total / max(2.0, positives)


@pytest.mark.parametrize("doubt", [0.0, -6.0])
def test_imitation_equals_a_plain_loop(predictions: Predictions, targets: Targets, doubt: float) -> None:
    """Of a teacher whose segments are near some of the student's, and of one that sees hardly an action."""
    teacher = perfect(predictions, targets)
    teacher["segments"] = teacher["segments"] + torch.randn(teacher["segments"].shape) / 2
    student = dict(predictions)
    for name in ("coarse_logits", "logits", "quality"):
        student[name] = torch.randn(predictions[name].shape) * 2
        teacher[name] = torch.randn(predictions[name].shape) * (1 if doubt else 2) + doubt
    near = temporal_iou(student["coarse_segments"], teacher["segments"]) >= 0.5
    assert 10 < near.sum() < near.numel() - 10
    found = OBJECTIVE.imitate(student, teacher)
    assert found.tolist() == pytest.approx([slow_imitation(student, teacher, window) for window in range(3)], rel=1e-4)


def test_the_offset_error_is_measured_in_halves_of_the_coarse_duration() -> None:
    found = {"coarse_segments": torch.tensor([[[10.0, 30.0]]]), "segments": torch.tensor([[[12.0, 25.0]]])}
    assert offset_error(found, torch.tensor([[[14.0, 26.0]]])).item() == pytest.approx((2 + 1) / 10)


def test_fused_segments_follow_the_confident_detector(predictions: Predictions) -> None:
    unsure = predictions | {"segments": predictions["segments"] + 10.0, "quality": predictions["quality"] - 8.0}
    fused = OBJECTIVE.fuse([predictions, unsure])
    exists = predictions["mask"]
    assert (fused["segments"] - predictions["segments"])[exists].abs().max() < 0.1
    torch.testing.assert_close(fused["quality"], predictions["quality"] - 4.0)
    assert (class_scores(fused)[exists] < class_scores(predictions)[exists]).all()
