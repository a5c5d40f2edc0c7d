"""The ActionFormer head: assignment and imitation against slow loops, perfect predictions, decoding, fusion."""

import math

import pytest
import torch

from tadscale.models.heads.actionformer.network import ActionFormerConfig, ActionFormerHead
from tadscale.models.heads.actionformer.objective import ActionFormerObjective
from tadscale.models.heads.objective import Targets

CLASSES = 3
SETTINGS = ActionFormerConfig(dim=16, levels=3, heads=2, reach=2, min_positives=1.0)
OBJECTIVE = ActionFormerObjective(SETTINGS, CLASSES)


@pytest.fixture
def head() -> ActionFormerHead:
    torch.manual_seed(0)
    return SETTINGS.build(in_dim=8, num_classes=CLASSES, stride_frames=2)


@pytest.fixture
def targets() -> Targets:
    segments = torch.tensor([[[4.0, 12.0], [20.0, 56.0], [0.0, 0.0]], [[30.0, 34.0], [28.0, 44.0], [2.0, 60.0]]])
    return Targets(segments_frames=segments, labels=torch.tensor([[0, 2, -1], [1, 1, 0]]))


def _predict(head, steps: int = 32):
    mask = torch.ones(2, steps, dtype=torch.bool)
    mask[1, 28:] = False
    return head(torch.randn(2, 8, steps), mask)


def test_every_level_predicts_and_masked_moments_are_marked(head):
    predictions = _predict(head)
    moments = 32 + 16 + 8
    assert predictions["logits"].shape == (2, moments, CLASSES)
    assert predictions["segments"].shape == (2, moments, 2)
    assert predictions["mask"].sum(dim=1).tolist() == [moments, 28 + 14 + 7]
    assert predictions["points"][0, :, 1].unique().tolist() == [2.0, 4.0, 8.0]


def test_moments_are_where_they_are_under_bfloat16(head):
    """bfloat16 rounds frame 514 to 512."""
    with torch.no_grad(), torch.autocast("cpu", dtype=torch.bfloat16):
        predictions = head(torch.randn(1, 8, 300, dtype=torch.bfloat16), torch.ones(1, 300, dtype=torch.bool))
    assert predictions["points"][0, :300, 0].tolist() == [2.0 * step for step in range(300)]


def test_weights_are_named_and_shaped_as_in_models_that_are_registered(head):
    """They are convolutions' in every file, however they are applied."""
    shapes = {name: tuple(weight.shape) for name, weight in head.state_dict().items()}
    assert len(shapes) == 102
    assert shapes["embed.weight"] == (16, 8, 3)
    assert shapes["embed_norm.norm.weight"] == (16,)
    assert shapes["stem.0.attention.mixers.0.weight"] == (16, 1, 3)
    assert shapes["pyramid.1.attention.projections.2.weight"] == shapes["stem.0.attention.out.weight"] == (16, 16, 1)
    assert shapes["pyramid.0.mlp.0.weight"] == (64, 16, 1)
    assert shapes["classify.0.weight"] == shapes["regress.3.weight"] == (16, 16, 3)
    assert shapes["classify.6.weight"] == (CLASSES, 16, 3)


@pytest.fixture
def crowded() -> Targets:
    """A short action within a longer one, and two of one extent within a longer one: all of them claim some moments."""
    segments = torch.tensor([[[3.0, 13.0], [4.0, 12.0], [20.0, 56.0]], [[29.0, 41.0], [30.0, 40.0], [30.0, 40.0]]])
    return Targets(segments_frames=segments, labels=torch.tensor([[2, 0, 2], [0, 1, 2]]))


def slow_assignment(points, mask, targets, overlapping_classes):
    """Centre sampling, one moment and one action at a time."""
    labels = torch.zeros(*mask.shape, CLASSES)
    segments, positive = torch.zeros(*mask.shape, 2), torch.zeros_like(mask)
    strides = points[0, :, 1].unique()
    for b in range(mask.shape[0]):
        for p in range(mask.shape[1]):
            place, stride = points[b, p].tolist()
            low = 0.0 if stride == strides.min() else 2 * stride
            high = float("inf") if stride == strides.max() else 4 * stride
            claiming = []
            for (start, end), label in zip(
                targets.segments_frames[b].tolist(), targets.labels[b].tolist(), strict=True
            ):
                reach = max(place - start, end - place)
                central = abs(place - (start + end) / 2) <= SETTINGS.centre_radius * stride
                if label >= 0 and mask[b, p] and start <= place <= end and central and low <= reach < high:
                    claiming.append((end - start, start, end, label))
            if claiming:
                least = min(length for length, *_ in claiming)
                positive[b, p] = True
                segments[b, p] = torch.tensor(
                    next([start, end] for length, start, end, _ in claiming if length == least)
                )
                for length, _, _, label in claiming:
                    if overlapping_classes == "all" or length == least:
                        labels[b, p, label] = 1
    return labels, segments, positive


@pytest.mark.parametrize("overlapping_classes", ["shortest", "all"])
@pytest.mark.parametrize("given", ["targets", "crowded"])
def test_assignment_equals_a_slow_loop(head, given, overlapping_classes, request):
    given = request.getfixturevalue(given)
    objective = ActionFormerObjective(SETTINGS.model_copy(update={"overlapping_classes": overlapping_classes}), CLASSES)
    predictions = _predict(head)
    labels, segments, positive = objective.assign(predictions["points"], predictions["mask"], given)
    slow_labels, slow_segments, slow_positive = slow_assignment(
        predictions["points"], predictions["mask"], given, overlapping_classes
    )
    assert positive.sum() > 10
    assert torch.equal(positive, slow_positive)
    assert torch.equal(labels, slow_labels)
    assert torch.equal(segments[positive], slow_segments[positive])


def test_the_shortest_action_gives_the_class_unless_all_are_asked_for(head, crowded):
    predictions = _predict(head)
    moment = (predictions["points"][0] == torch.tensor([8.0, 2.0])).all(dim=1).nonzero().item()  # in both of window 0
    shortest, _, _ = OBJECTIVE.assign(predictions["points"], predictions["mask"], crowded)
    every = ActionFormerObjective(SETTINGS.model_copy(update={"overlapping_classes": "all"}), CLASSES)
    assert shortest[0, moment].tolist() == [1, 0, 0]
    assert every.assign(predictions["points"], predictions["mask"], crowded)[0][0, moment].tolist() == [1, 0, 1]


def _perfect(head, targets):
    predictions = _predict(head)
    labels, segments, positive = OBJECTIVE.assign(predictions["points"], predictions["mask"], targets)
    exact = torch.where(positive.unsqueeze(2), segments, predictions["segments"])
    return predictions | {"logits": (labels * 2 - 1) * 12.0, "segments": exact}


def test_loss_is_zero_for_perfect_predictions_and_not_for_others(head, targets):
    assert OBJECTIVE.loss(_perfect(head, targets), targets).max() < 1e-4
    assert OBJECTIVE.loss(_predict(head), targets).min() > 0.5


def test_decode_returns_the_annotated_segments_of_perfect_predictions(head, targets):
    for found, segments, labels in zip(
        head.decode(_perfect(head, targets), top_k=50, min_score=0.5),
        targets.segments_frames,
        targets.labels,
        strict=True,
    ):
        pairs = {
            (label, *segment)
            for label, segment in zip(found.labels.tolist(), found.segments_frames.tolist(), strict=True)
        }
        annotated = {
            (int(label), *segment.tolist()) for label, segment in zip(labels, segments, strict=True) if label >= 0
        }
        assert len(pairs) > 0
        assert pairs <= annotated
        assert (found.scores.diff() <= 0).all()


def test_imitating_a_perfect_teacher_costs_nothing_once_it_is_equalled(head, targets):
    teacher = _perfect(head, targets)
    assert (OBJECTIVE.imitate(teacher, teacher) < 1e-3).all()
    assert (OBJECTIVE.imitate(_predict(head), teacher) > 0.1).all()


def slow_diou(first: list[float], second: list[float]) -> float:
    shared = max(0.0, min(first[1], second[1]) - max(first[0], second[0]))
    iou = shared / (first[1] - first[0] + second[1] - second[0] - shared)
    apart = sum(first) / 2 - sum(second) / 2
    return 1 - iou + (apart / (max(first[1], second[1]) - min(first[0], second[0]))) ** 2


def slow_imitation(student, teacher, window: int) -> float:
    """One window's distance from the teacher, one moment and class at a time."""
    own, said = ({name: value[window].tolist() for name, value in each.items()} for each in (student, teacher))
    total, positives = 0.0, 0.0
    for p, exists in enumerate(own["mask"]):
        if not exists:
            continue
        scores = [1 / (1 + math.exp(-logit)) for logit in said["logits"][p]]
        for logit, score in zip(own["logits"][p], scores, strict=True):
            found = 1 / (1 + math.exp(-logit))
            total -= (score - found) ** 2 * (score * math.log(found) + (1 - score) * math.log(1 - found))
        total += max(scores) * slow_diou(own["segments"][p], said["segments"][p])
        positives += max(scores)
    return total / max(SETTINGS.min_positives, positives)


@pytest.mark.parametrize("doubt", [0.0, -8.0])
def test_imitation_equals_a_slow_loop(head, doubt):
    """Also of a teacher that sees less than one action in all moments."""
    student, teacher = _predict(head), _predict(head)
    student["logits"] = torch.randn(student["logits"].shape) * 2
    teacher["logits"] = torch.randn(student["logits"].shape) * (1 if doubt else 2) + doubt
    found = OBJECTIVE.imitate(student, teacher)
    assert found.tolist() == pytest.approx([slow_imitation(student, teacher, window) for window in range(2)], rel=1e-4)


def test_fused_segments_follow_the_confident_detector(head):
    first = _predict(head)
    second = first | {"segments": first["segments"] + 10.0, "logits": first["logits"] - 8.0}
    fused = OBJECTIVE.fuse([first, second])
    assert (fused["segments"] - first["segments"]).abs().max() < 0.1
