"""The G-TAD head: scores, assignment, regression and imitation against slow loops, perfect predictions, decoding, fusion."""

import math

import pytest
import torch
from torch import Tensor

from tadscale.models.heads.base import Predictions
from tadscale.models.heads.gtad.network import GTADConfig, GTADHead
from tadscale.models.heads.gtad.objective import GTADObjective, tiou_regression
from tadscale.models.heads.objective import Targets
from tests.models.heads.gtad.test_alignment import slow_alignment
from tests.models.heads.gtad.test_graph import slow_nearest

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


def slow_aligned(head: GTADHead, nodes: Tensor, neighbours: list[list[int]], valid: list[bool]) -> dict:
    """Of one window, `[D, L]`: what each anchor within its valid steps is aligned to, by duration's place and start."""
    mean = [torch.stack([nodes[:, other] for other in others]).mean(dim=0) for others in neighbours]
    context = torch.stack([each * exists for each, exists in zip(mean, valid, strict=True)], dim=1)
    aligned = {}
    for row, duration in enumerate(head.durations):
        for start in range(sum(valid) - duration + 1):
            own = slow_alignment(head.align, nodes, start, start + duration)
            aligned[row, start] = own + slow_alignment(head.align_context, context, start, start + duration)
    return aligned


def slow_localised(head: GTADHead, aligned: dict) -> dict:
    """Of one window: scores of every anchor, `[2 + K]`; what lies beside an anchor on the map and is none says nothing."""
    layers = head.localise
    found = {place: layers.norms[0].norm(vector).clamp(min=0) for place, vector in aligned.items()}
    for mixer, norm in zip(layers.mixers, layers.norms[1:], strict=True):
        mixed = {}
        for row, start in found:
            around = [(i, j, found.get((row + i - 1, start + j - 1))) for i in range(3) for j in range(3)]
            heard = torch.stack([mixer.weight[..., i, j] @ vector for i, j, vector in around if vector is not None])
            mixed[row, start] = norm.norm(heard.sum(dim=0)).clamp(min=0)
        found = mixed
    return {place: layers.predict.weight[..., 0, 0] @ vector + layers.predict.bias for place, vector in found.items()}


def test_scores_of_anchors_equal_a_slow_loop():
    """With its neighbours in likeness as context, then with its neighbours on the map."""
    settings = SETTINGS.model_copy(update={"places": 3, "context_places": 2, "map_dim": 4, "max_duration": 5})
    torch.manual_seed(0)
    head = settings.build(in_dim=8, num_classes=CLASSES, stride_frames=STRIDE).double().requires_grad_(False)
    for norm in head.localise.norms:  # an offset shows where what does not exist is not kept at zero
        torch.nn.init.normal_(norm.norm.bias)
    features, mask = torch.randn(2, 8, 9).double(), torch.arange(9) < torch.tensor([[9], [6]])
    nodes, predictions = head._graph(features, mask)[0], head(features, mask)
    scores = torch.cat([predictions["confidences"], predictions["logits"]], dim=2)
    for window, neighbours in enumerate(slow_nearest(nodes, mask, settings.neighbours)):
        expected = slow_localised(head, slow_aligned(head, nodes[window], neighbours, mask[window].tolist()))
        found = scores[window].unflatten(0, (len(head.durations), 9))
        assert int(predictions["mask"][window].sum()) == len(expected) > 15
        for (row, start), vector in expected.items():
            torch.testing.assert_close(found[row, start], vector, atol=1e-5, rtol=0)


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


def divergence(logit: float, taught: float) -> float:
    """Kullback-Leibler divergence of one probability from the teacher's, both given before the sigmoid."""
    p, q = 1 / (1 + math.exp(-logit)), 1 / (1 + math.exp(-taught))
    return q * math.log(q / p) + (1 - q) * math.log((1 - q) / (1 - p))


def balanced(losses: list[float], shares: list[float]) -> float:
    """Half the mean over what is affirmed and half that over what is denied, each in its share, of at least one."""
    off = [1 - share for share in shares]
    means = [
        sum(loss * part for loss, part in zip(losses, parts, strict=True)) / max(1.0, sum(parts))
        for parts in (shares, off)
    ]
    return sum(means) / 2


def slow_imitation(student: Predictions, teacher: Predictions, window: int) -> float:
    """One window's distance from the teacher, one anchor and one node at a time."""
    own, said = ({name: value[window].tolist() for name, value in each.items()} for each in (student, teacher))
    anchors, actions, named, sure = [], [], 0.0, 0.0
    for anchor in student["mask"][window].nonzero().flatten().tolist():
        (action, fit), (sees, fits) = own["confidences"][anchor], said["confidences"][anchor]
        seen, fitting = (1 / (1 + math.exp(-logit)) for logit in (sees, fits))
        anchors.append(divergence(action, sees) + SETTINGS.iou_weight * (1 / (1 + math.exp(-fit)) - fitting) ** 2)
        actions.append(seen)
        names, taught = (
            [math.exp(logit) / sum(map(math.exp, each["logits"][anchor])) for logit in each["logits"][anchor]]
            for each in (own, said)
        )
        confidence = math.sqrt(seen * fitting)
        named += confidence * sum(q * math.log(q / p) for p, q in zip(names, taught, strict=True))
        sure += confidence
    total = balanced(anchors, actions) + named / max(1.0, sure)
    steps = student["steps"][window].nonzero().flatten().tolist()
    for side in range(2):
        nodes = [divergence(own["nodes"][step][side], said["nodes"][step][side]) for step in steps]
        total += balanced(nodes, [1 / (1 + math.exp(-said["nodes"][step][side])) for step in steps])
    return total


@pytest.mark.parametrize("doubt", [0.0, -6.0])
def test_imitation_equals_a_slow_loop(head, doubt):
    """Also of a teacher that sees hardly an action: what it affirms sums to less than one."""
    student, teacher = predict(head), predict(head)
    for name in ("logits", "confidences", "nodes"):
        student[name] = torch.randn(student[name].shape) * 2
        teacher[name] = torch.randn(student[name].shape) * (1 if doubt else 2) + doubt
    found = OBJECTIVE.imitate(student, teacher)
    assert found.tolist() == pytest.approx([slow_imitation(student, teacher, window) for window in range(2)], rel=1e-4)


def test_fused_logits_are_the_mean_of_both(head):
    first, second = predict(head), predict(head)
    fused = OBJECTIVE.fuse([first, second])
    for name in ("logits", "confidences", "nodes"):
        torch.testing.assert_close(fused[name], (first[name] + second[name]) / 2)
    assert torch.equal(fused["segments"], first["segments"])
