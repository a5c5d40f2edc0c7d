"""How TadTR is taught, against plain loops: matching cost, loss, imitation, late fusion."""

import math

import pytest
import torch

from tadscale.models.heads.base import Predictions
from tadscale.models.heads.objective import Targets
from tadscale.models.heads.tadtr.matching import match
from tadscale.models.heads.tadtr.network import TadTRConfig
from tadscale.models.heads.tadtr.objective import TadTRObjective

CLASSES, LAYERS, QUERIES, FRAMES = 3, 2, 5, 80.0
SETTINGS = TadTRConfig(
    class_weight=3.0, matching_class_weight=7.0, extent_weight=5.0, tiou_weight=1.5, actionness_weight=2.0
)
OBJECTIVE = TadTRObjective(SETTINGS, CLASSES)


def predictions(seed: int = 0, queries: int = QUERIES) -> Predictions:
    """Two windows of random predictions."""
    generator = torch.Generator().manual_seed(seed)
    centre = torch.rand(2, LAYERS, queries, generator=generator).double() * FRAMES
    width = torch.rand(2, LAYERS, queries, generator=generator).double() * FRAMES / 2 + 1
    return {
        "logits": torch.randn(2, LAYERS, queries, CLASSES, generator=generator).double() * 3,
        "segments": torch.stack([centre - width / 2, centre + width / 2], dim=-1),
        "actionness": torch.randn(2, queries, generator=generator).double(),
        "frames": torch.full((2,), FRAMES).double(),
    }


@pytest.fixture
def targets() -> Targets:
    segments = torch.tensor([[[4.0, 12.0], [20.0, 56.0], [0.0, 0.0]], [[30.0, 34.0], [28.0, 44.0], [2.0, 60.0]]])
    return Targets(segments_frames=segments.double(), labels=torch.tensor([[0, 2, -1], [1, 1, 0]]))


def tiou(first, second) -> float:
    shared = max(0.0, min(first[1], second[1]) - max(first[0], second[0]))
    return shared / (first[1] - first[0] + second[1] - second[0] - shared)


def segment_distance(first, second) -> float:
    centre = abs(sum(first) / 2 - sum(second) / 2)
    width = abs((first[1] - first[0]) - (second[1] - second[0]))
    return 5.0 * (centre + width) / FRAMES + 1.5 * (1 - tiou(first, second))


def focal(logit: float, is_positive: bool) -> float:
    p = 1 / (1 + math.exp(-logit))
    return -0.25 * (1 - p) ** 2 * math.log(p) if is_positive else -0.75 * p**2 * math.log(1 - p)


def quality(logit: float, score: float) -> float:
    p = 1 / (1 + math.exp(-logit))
    return -((score - p) ** 2) * (score * math.log(p) + (1 - score) * math.log(1 - p))


def test_the_cost_is_the_distance_and_what_the_class_loss_changes_by_at_a_weight_of_its_own(targets):
    given = predictions()
    logits, segments = given["logits"][:, 0], given["segments"][:, 0]
    cost = OBJECTIVE.matching_cost(logits, segments, given["frames"], targets)
    for b, q, n in [(0, 0, 0), (0, 3, 1), (1, 1, 0), (1, 4, 2)]:
        logit = float(logits[b, q, targets.labels[b, n]])
        expected = 7.0 * (focal(logit, True) - focal(logit, False))
        expected += segment_distance(segments[b, q].tolist(), targets.segments_frames[b, n].tolist())
        assert float(cost[b, q, n]) == pytest.approx(expected)


def slow_loss(given: Predictions, targets: Targets, window: int) -> float:
    """One window's loss, one layer, query and class at a time."""
    actions = [
        (segment.tolist(), int(label))
        for segment, label in zip(targets.segments_frames[window], targets.labels[window], strict=True)
        if label >= 0
    ]
    total = 0.0
    for layer in range(LAYERS):
        logits, segments = given["logits"][:, layer], given["segments"][:, layer]
        cost = OBJECTIVE.matching_cost(logits, segments, given["frames"], targets)
        answers = match(cost, targets.labels >= 0)[window].tolist()
        for query, answer in enumerate(answers):
            for label in range(CLASSES):
                positive = answer >= 0 and actions[answer][1] == label
                total += 3.0 * focal(float(logits[window, query, label]), positive) / LAYERS / len(actions)
            if answer >= 0:
                distance = segment_distance(segments[window, query].tolist(), actions[answer][0])
                total += distance / LAYERS / len(actions)
    for query in range(QUERIES):
        best = max(tiou(given["segments"][window, -1, query].tolist(), segment) for segment, _ in actions)
        fit = 1 / (1 + math.exp(-float(given["actionness"][window, query])))
        total += 2.0 * abs(fit - best) / QUERIES / LAYERS
    return total


def test_the_loss_equals_a_slow_loop(targets):
    given = predictions()
    found = OBJECTIVE.loss(given, targets)
    assert found.tolist() == pytest.approx([slow_loss(given, targets, window) for window in range(2)])


def perfect(targets: Targets) -> Predictions:
    """One query on each action, sure of it, and the others on nothing."""
    given = predictions()
    logits, segments = torch.full_like(given["logits"], -12.0), given["segments"].clone()
    actionness = torch.zeros_like(given["actionness"])
    for b in range(2):
        for n, label in enumerate(targets.labels[b].tolist()):
            if label >= 0:
                logits[b, :, n + 1, label] = 12.0
                segments[b, :, n + 1] = targets.segments_frames[b, n]
        for q in range(QUERIES):
            real = [
                s.tolist() for s, label in zip(targets.segments_frames[b], targets.labels[b], strict=True) if label >= 0
            ]
            best = max(tiou(segments[b, -1, q].tolist(), segment) for segment in real)
            actionness[b, q] = torch.logit(torch.tensor(best), eps=1e-6)
    return given | {"logits": logits, "segments": segments, "actionness": actionness}


def test_perfect_predictions_cost_nothing_and_a_second_query_on_an_action_does(targets):
    exact = perfect(targets)
    assert OBJECTIVE.loss(exact, targets).max() < 1e-3
    twice = {name: value.clone() for name, value in exact.items()}
    twice["logits"][0, :, 4] = exact["logits"][0, :, 1]
    twice["segments"][0, :, 4] = exact["segments"][0, :, 1]
    assert OBJECTIVE.loss(twice, targets)[0] > 1.0


def slow_imitation(student: Predictions, teacher: Predictions, window: int, answers: list[list[int]]) -> float:
    """One window's distance from the teacher, given who imitates whom in each layer."""
    total = 0.0
    for layer in range(LAYERS):
        scores = torch.sigmoid(teacher["logits"][window, layer]).tolist()
        confidence = [max(row) for row in scores]
        part = 0.0
        for query, answer in enumerate(answers[layer]):
            wanted = scores[answer] if answer >= 0 else [0.0] * CLASSES
            own = student["logits"][window, layer, query].tolist()
            part += 3.0 * sum(quality(logit, score) for logit, score in zip(own, wanted, strict=True))
            if answer >= 0:
                segments = student["segments"][window, layer, query], teacher["segments"][window, layer, answer]
                part += confidence[answer] * segment_distance(*(segment.tolist() for segment in segments))
        total += part / max(1.0, sum(confidence)) / LAYERS
    for query, answer in enumerate(answers[-1]):
        if answer >= 0:
            segments = student["segments"][window, -1, query], teacher["segments"][window, -1, answer]
            own, fit = torch.sigmoid(student["actionness"][window, query]), teacher["actionness"][window, answer]
            agreement = tiou(*(segment.tolist() for segment in segments))
            total += 2.0 * agreement * abs(float(own - torch.sigmoid(fit))) / len(answers[-1]) / LAYERS
    return total


@pytest.mark.parametrize(("students", "teachers"), [(4, 4), (4, 3), (3, 4)])
def test_imitation_is_the_least_over_who_imitates_whom(students, teachers):
    """Against all assignments, layer by layer; the actionness follows the last layer's."""
    student, teacher = predictions(1, students), predictions(2, teachers)
    found = OBJECTIVE.imitate(student, teacher)
    for window in range(2):
        best = []
        for layer in range(LAYERS):
            _, answers = OBJECTIVE._imitate_layer(student, teacher, layer - LAYERS)
            best.append(answers[window].tolist())
        assert float(found[window]) == pytest.approx(slow_imitation(student, teacher, window, best))
        if students == teachers:
            swapped = [best[0], [best[1][1], best[1][0], *best[1][2:]]]
            silent = {"actionness": torch.full((2, students), -99.0).double()}
            parts = [slow_imitation(student | silent, teacher | silent, window, way) for way in (best, swapped)]
            assert parts[0] < parts[1]


def test_imitation_does_not_mind_the_order_of_the_teachers_queries():
    student, teacher = predictions(1), predictions(2)
    order = torch.tensor([3, 0, 4, 1, 2])
    turned = teacher | {
        "logits": teacher["logits"][:, :, order],
        "segments": teacher["segments"][:, :, order],
        "actionness": teacher["actionness"][:, order],
    }
    torch.testing.assert_close(OBJECTIVE.imitate(student, turned), OBJECTIVE.imitate(student, teacher))
    assert OBJECTIVE.imitate(teacher, turned).max() < 1e-9


def test_a_teacher_with_more_queries_teaches_by_its_most_confident():
    teacher = predictions(2, 5)
    teacher["logits"][:, :, :2] = -20.0
    confident = {name: value[..., 2:, :] for name, value in teacher.items() if name in ("logits", "segments")}
    confident |= {"actionness": teacher["actionness"][:, 2:], "frames": teacher["frames"]}
    student = predictions(1, 3)
    torch.testing.assert_close(OBJECTIVE.imitate(student, teacher), OBJECTIVE.imitate(student, confident))


def test_fusion_finds_queries_that_mean_the_same(targets):
    first = perfect(targets)
    order = torch.tensor([2, 4, 1, 0, 3])
    second = first | {
        "logits": first["logits"][:, :, order] - 8.0,
        "segments": first["segments"][:, :, order] + 1.0,
        "actionness": first["actionness"][:, order] - 2.0,
    }
    fused = OBJECTIVE.fuse([first, second])
    for b in range(2):
        for n, label in enumerate(targets.labels[b].tolist()):
            if label >= 0:
                torch.testing.assert_close(fused["logits"][b, :, n + 1], first["logits"][b, :, n + 1] - 4.0)
                torch.testing.assert_close(fused["actionness"][b, n + 1], first["actionness"][b, n + 1] - 1.0)
                sure, less = 1 / (1 + math.exp(-12.0)), 1 / (1 + math.exp(-4.0))
                moved = targets.segments_frames[b, n] + less / (sure + less)
                torch.testing.assert_close(fused["segments"][b, -1, n + 1], moved)
