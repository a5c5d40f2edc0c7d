"""The G-TAD head: assignment and regression against slow loops, perfect predictions, decoding, fusion, imitation."""

import pytest
import torch
from torch import Tensor

from tadscale.models.heads.base import Predictions
from tadscale.models.heads.gtad.network import GTADConfig, GTADHead
from tadscale.models.heads.gtad.objective import GTADObjective, tiou_regression
from tadscale.models.heads.objective import Targets

CLASSES, STRIDE, STEPS = 3, 2, 32
SETTINGS = GTADConfig(dim=8, paths=2, path_width=2, places=6, map_dim=8, max_duration=20)
OBJECTIVE = GTADObjective(SETTINGS, CLASSES)


@pytest.fixture
def head() -> GTADHead:
    torch.manual_seed(0)
    return SETTINGS.build(in_dim=8, num_classes=CLASSES, stride_frames=STRIDE)


@pytest.fixture
def targets() -> Targets:
    """On the grid of anchors; two actions share a place, and one lies across two others."""
    segments = torch.tensor([[[4.0, 12.0], [4.0, 12.0], [20.0, 56.0]], [[30.0, 34.0], [28.0, 44.0], [0.0, 0.0]]])
    return Targets(segments_frames=segments, labels=torch.tensor([[0, 2, 1], [1, 0, -1]]))


def predict(head: GTADHead) -> Predictions:
    mask = torch.ones(2, STEPS, dtype=torch.bool)
    mask[1, 28:] = False
    return head(torch.randn(2, 8, STEPS), mask)


def tiou(one: list[float], other: list[float]) -> float:
    overlap = max(0.0, min(one[1], other[1]) - max(one[0], other[0]))
    return overlap / (one[1] - one[0] + other[1] - other[0] - overlap)


def annotated(targets: Targets, window: int) -> list[tuple[list[float], int]]:
    rows = zip(targets.segments_frames[window].tolist(), targets.labels[window].tolist(), strict=True)
    return [(segment, label) for segment, label in rows if label >= 0]


def slow_assignment(segments: Tensor, mask: Tensor, targets: Targets) -> tuple[Tensor, Tensor]:
    best, classes = torch.zeros(mask.shape), torch.zeros(*mask.shape, CLASSES)
    for window, anchor in mask.nonzero().tolist():
        for segment, label in annotated(targets, window):
            overlap = tiou(segments[window, anchor].tolist(), segment)
            best[window, anchor] = max(best[window, anchor], overlap)
            if overlap > 0.5:
                classes[window, anchor, label] += overlap
        classes[window, anchor] /= max(float(classes[window, anchor].sum()), 0.5)
    return best, classes


def test_assignment_equals_a_slow_loop(head, targets):
    predictions = predict(head)
    found = OBJECTIVE.assign(predictions["segments"], predictions["mask"], targets)
    best, classes = slow_assignment(predictions["segments"], predictions["mask"], targets)
    torch.testing.assert_close(found.tiou, best)
    torch.testing.assert_close(found.classes, classes)
    assert (found.tiou > 0.5).sum() > 20
    assert (classes.gt(0).sum(dim=2) == 2).any()  # anchors of two classes, half each


def test_node_targets_equal_a_slow_loop(head, targets):
    near = OBJECTIVE.node_targets(predict(head)["points"], targets)
    for window in range(2):
        for step in range(STEPS):
            for side in range(2):
                distances = [abs(step * STRIDE - segment[side]) for segment, _ in annotated(targets, window)]
                assert near[window, step, side] == (min(distances) <= SETTINGS.node_radius * STRIDE)


def test_low_middle_and_high_tiou_weigh_the_same():
    torch.manual_seed(0)
    predicted, target, mask = torch.rand(2, 30), torch.rand(2, 30), torch.rand(2, 30) > 0.2
    target[1] = target[1].clamp(max=0.6)  # a window without a high one
    for window, found in enumerate(tiou_regression(predicted, target, mask)):
        strata: dict[int, list[float]] = {0: [], 1: [], 2: []}
        for p, t, exists in zip(
            predicted[window].tolist(), target[window].tolist(), mask[window].tolist(), strict=True
        ):
            if exists:
                strata[(t > 0.3) + (t > 0.7)].append((p - t) ** 2 / 2)
        expected = sum(sum(errors) / len(errors) for errors in strata.values() if errors) / 3
        assert found.item() == pytest.approx(expected, rel=1e-5)


def perfect(head: GTADHead, targets: Targets) -> Predictions:
    predictions = predict(head)
    anchors = OBJECTIVE.assign(predictions["segments"], predictions["mask"], targets)
    action = (anchors.tiou > 0.5).float() * 40 - 20
    confidences = torch.stack([action, anchors.tiou.clamp(1e-6, 1 - 1e-6).logit()], dim=2)
    nodes = OBJECTIVE.node_targets(predictions["points"], targets) * 40 - 20
    return predictions | {
        "logits": anchors.classes.clamp(min=1e-9).log(),
        "confidences": confidences,
        "nodes": nodes,
    }


def test_loss_is_least_for_perfect_predictions(head, targets):
    """What is left is the entropy of anchors that two classes share."""
    shares = OBJECTIVE.assign(*(predict(head)[key] for key in ("segments", "mask")), targets)
    entropy = torch.special.entr(shares.classes).sum(dim=2)
    left = entropy.sum(dim=1) / (shares.tiou > 0.5).sum(dim=1)
    torch.testing.assert_close(OBJECTIVE.loss(perfect(head, targets), targets), left, atol=1e-4, rtol=0)
    assert (OBJECTIVE.loss(predict(head), targets) > left + 1.0).all()


def test_decode_returns_the_annotated_segments_of_perfect_predictions_first(head, targets):
    decoded = head.decode(perfect(head, targets), top_k=1000, min_score=0.1)
    for window, found in enumerate(decoded):
        expected = {(label, *segment) for segment, label in annotated(targets, window)}
        rows = zip(found.labels.tolist(), found.segments_frames.tolist(), strict=True)
        best: dict[int, tuple[float, ...]] = {}
        for label, segment in rows:
            best.setdefault(label, (label, *segment))
        assert set(best.values()) == expected
        assert (found.scores.diff() <= 0).all()


def test_the_score_is_class_times_the_mean_of_both_confidences(head):
    predictions = predict(head)
    found = head.decode(predictions, top_k=1, min_score=0.0)[0]
    anchor = (predictions["segments"][0] == found.segments_frames[0]).all(dim=1).nonzero().item()
    action, tiou = (1 / (1 + (-predictions["confidences"][0, anchor]).exp())).tolist()
    named = predictions["logits"][0, anchor].exp()
    expected = (named / named.sum())[found.labels[0]] * (action * tiou) ** 0.5
    torch.testing.assert_close(found.scores[0], expected)


def test_padding_a_window_changes_nothing(head):
    """Steps that are masked are as steps that are not there."""
    head = head.double()
    torch.manual_seed(1)
    features = torch.randn(1, 8, 21).double()
    alone = head(features, torch.ones(1, 21, dtype=torch.bool))
    padded = torch.cat([features, torch.randn(1, 8, 11)], dim=2)
    among = head(padded, torch.arange(STEPS).unsqueeze(0) < 21)
    there = among["mask"][0]
    torch.testing.assert_close(among["confidences"][:, there], alone["confidences"][:, alone["mask"][0]])
    torch.testing.assert_close(among["logits"][:, there], alone["logits"][:, alone["mask"][0]])
    torch.testing.assert_close(among["nodes"][:, :21], alone["nodes"])


def test_imitating_a_teacher_costs_nothing_once_it_is_equalled(head, targets):
    for teacher in (perfect(head, targets), predict(head)):
        assert OBJECTIVE.imitate(teacher, teacher).abs().max() < 1e-5
    assert (OBJECTIVE.imitate(predict(head), perfect(head, targets)) > 0.3).all()


def test_fused_logits_are_the_mean_of_both(head):
    first, second = predict(head), predict(head)
    fused = OBJECTIVE.fuse([first, second])
    for name in ("logits", "confidences", "nodes"):
        torch.testing.assert_close(fused[name], (first[name] + second[name]) / 2)
    assert torch.equal(fused["segments"], first["segments"])
