"""The TAGS head: assignment, loss and imitation against slow loops, perfect predictions, decoding, and that it learns."""

import math

import pytest
import torch
from torch import Tensor

from tadscale.models.heads.base import Predictions
from tadscale.models.heads.objective import Targets
from tadscale.models.heads.tags.network import TagsConfig, TagsHead
from tadscale.models.heads.tags.objective import TagsObjective, branch_distance

CLASSES, STRIDE_FRAMES, STEPS = 3, 2, 32
SETTINGS = TagsConfig(dim=16, blocks=1, heads=2, mask_dim=8)
OBJECTIVE = TagsObjective(SETTINGS, CLASSES)


@pytest.fixture
def head() -> TagsHead:
    return built()


def built() -> TagsHead:
    torch.manual_seed(0)
    return SETTINGS.build(in_dim=8, num_classes=CLASSES, stride_frames=STRIDE_FRAMES)


@pytest.fixture
def targets() -> Targets:
    """Two apart; one in another, one that begins between two steps, and one that covers half of no step."""
    segments = torch.tensor([[[5.0, 13.0], [21.0, 55.0], [0.0, 0.0]], [[30.4, 44.6], [33.0, 41.0], [48.6, 49.4]]])
    return Targets(segments_frames=segments, labels=torch.tensor([[0, 2, -1], [1, 1, 0]]))


def predict(head: TagsHead) -> Predictions:
    mask = torch.ones(2, STEPS, dtype=torch.bool)
    mask[1, 28:] = False
    return head(torch.randn(2, 8, STEPS, generator=torch.Generator().manual_seed(1)), mask)


def slow_assignment(mask: Tensor, targets: Targets) -> tuple[Tensor, Tensor]:
    """Labels and masks, one snippet and one action at a time."""
    labels = torch.full(mask.shape, CLASSES)
    masks = torch.zeros(*mask.shape, mask.shape[1])
    for b in range(mask.shape[0]):
        shortest = [float("inf")] * mask.shape[1]
        for (start, end), label in zip(targets.segments_frames[b].tolist(), targets.labels[b].tolist(), strict=True):
            cells = [(STRIDE_FRAMES * t - 1, STRIDE_FRAMES * t + 1) for t in range(mask.shape[1])]
            cover = [max(0.0, min(end, last) - max(start, first)) / STRIDE_FRAMES for first, last in cells]
            cover = [share * bool(mask[b, t]) if label >= 0 else 0.0 for t, share in enumerate(cover)]
            for t, share in enumerate(cover):
                claims = share >= 0.5 or (share > 0 and share == max(cover))
                if claims and end - start < shortest[t]:
                    shortest[t], labels[b, t], masks[b, t] = end - start, label, torch.tensor(cover)
    return labels, masks


def test_assignment_equals_a_slow_loop(head, targets):
    predictions = predict(head)
    assigned = OBJECTIVE.assign(predictions["cells"], predictions["mask"], targets)
    labels, masks = slow_assignment(predictions["mask"], targets)
    assert set(labels.unique().tolist()) == {0, 1, 2, 3}
    assert torch.equal(assigned.labels, labels)
    assert torch.equal(assigned.foreground, labels < CLASSES)
    torch.testing.assert_close(assigned.masks, masks)


WEIGHED = SETTINGS.model_copy(update={"dice_share": 0.3, "boundary_weight": 0.7, "consistency_weight": 0.5})
"""Every term at a weight of its own."""


def slow_shape(mask: list[float], target: list[float]) -> float:
    """Dice and the IoU of boundaries of one mask, as `WEIGHED`; both masks are nothing beyond the window."""
    overlap = sum(m * g for m, g in zip(mask, target, strict=True))
    dice = 1 - 2 * overlap / max(sum(m * m for m in mask) + sum(g * g for g in target), 1e-6)
    ends = [
        [abs(after - before) for before, after in zip([0.0, *side], [*side, 0.0], strict=True)]
        for side in (mask, target)
    ]
    both, either = (sum(some(pair) for pair in zip(*ends, strict=True)) for some in (min, max))
    return 0.3 * dice + 0.7 * (1 - both / max(either, 1e-6))


def slow_cross_entropy(mask: list[float], target: list[float], steps: list[int]) -> float:
    """Half the mean over what is the action and half that over what is not, a share of a step counting to both."""
    missed = sum(-target[s] * math.log(mask[s]) for s in steps) / max(sum(target[s] for s in steps), 1e-6)
    invented = sum(-(1 - target[s]) * math.log(1 - mask[s]) for s in steps)
    return (missed + invented / max(sum(1 - target[s] for s in steps), 1e-6)) / 2


def slow_distance(action: list[float], masks: list[list[float]], steps: list[int]) -> float:
    """1 less the cosine of what the classes and what the masks take for action at each step."""
    seen = [max(action[t] * masks[t][s] for t in steps) for s in steps]
    own = [action[s] for s in steps]
    lengths = math.sqrt(sum(a * a for a in own)) * math.sqrt(sum(b * b for b in seen))
    return 1 - sum(a * b for a, b in zip(own, seen, strict=True)) / lengths


def read(predictions: Predictions, window: int) -> tuple[list[list[float]], list[list[float]], list[int]]:
    """One window's class probabilities and masks, row by row, and which steps it has; masks are 0 at the others."""
    steps = predictions["mask"][window].nonzero().flatten().tolist()
    odds = [[math.exp(logit) for logit in row] for row in predictions["logits"][window].tolist()]
    masks = [[1 / (1 + math.exp(-logit)) for logit in row] for row in predictions["masks"][window].tolist()]
    masks = [[value * (s in steps) for s, value in enumerate(row)] for row in masks]
    return [[one / sum(row) for one in row] for row in odds], masks, steps


def slow_loss(predictions: Predictions, targets: Targets, window: int, gamma: float) -> float:
    """One window's loss, one snippet at a time."""
    labels, wanted = (each[window].tolist() for each in slow_assignment(predictions["mask"], targets))
    classes, masks, steps = read(predictions, window)
    chosen = [classes[t][labels[t]] for t in steps]
    of_classes = sum(-((1 - p) ** gamma) * math.log(p) for p in chosen) / len(steps)
    inside = [t for t in steps if labels[t] < CLASSES]
    of_masks = sum(
        slow_shape(masks[t], wanted[t]) + 0.7 * slow_cross_entropy(masks[t], wanted[t], steps) for t in inside
    )
    apart = slow_distance([1 - row[-1] for row in classes], masks, steps)
    return of_classes + of_masks / max(1, len(inside)) + 0.5 * apart


@pytest.mark.parametrize("gamma", [0.0, 2.0])
def test_the_loss_equals_a_slow_loop(head, targets, gamma):
    objective = TagsObjective(WEIGHED.model_copy(update={"focal_gamma": gamma}), CLASSES)
    predictions = predict(head)
    found = objective.loss(predictions, targets)
    assert found.tolist() == pytest.approx([slow_loss(predictions, targets, w, gamma) for w in range(2)], rel=1e-4)


def perfect(head: TagsHead, targets: Targets) -> Predictions:
    predictions = predict(head)
    assigned = OBJECTIVE.assign(predictions["cells"], predictions["mask"], targets)
    logits = torch.nn.functional.one_hot(assigned.labels, CLASSES + 1) * 20.0
    return predictions | {"logits": logits, "masks": torch.logit(assigned.masks, eps=1e-6)}


def test_loss_is_zero_for_perfect_predictions_and_not_for_others(head, targets):
    """Without cross-entropy, whose least value for a step that is covered in part is above 0."""
    objective = TagsObjective(
        SETTINGS.model_copy(update={"dice_share": 1.0, "boundary_weight": 1.0, "consistency_weight": 0.0}), CLASSES
    )
    assert objective.loss(perfect(head, targets), targets).max() < 1e-3
    assert objective.loss(predict(head), targets).min() > 0.5


def test_decode_returns_the_annotated_segments_of_perfect_predictions(head, targets):
    found = head.decode(perfect(head, targets), top_k=1000, min_score=0.9)
    for window, segments, labels in zip(found, targets.segments_frames, targets.labels, strict=True):
        for segment, label in zip(segments, labels, strict=True):
            if label >= 0 and segment[1] - segment[0] > STRIDE_FRAMES:
                distance = (window.segments_frames - segment).abs().amax(dim=1)[window.labels == label]
                assert distance.min() < 0.2 * STRIDE_FRAMES
        assert (window.scores.diff() <= 0).all()


def test_score_is_the_class_probability_times_the_iou_of_run_and_mask(head):
    predictions = predict(head)
    predictions["logits"] = torch.zeros(2, STEPS, CLASSES + 1)
    predictions["masks"] = torch.full((2, STEPS, STEPS), -20.0)
    predictions["masks"][0, 10, 8:13] = torch.logit(torch.tensor(0.7))
    found = head.decode(predictions, top_k=1, min_score=0.0)[0]
    assert found.scores.item() == pytest.approx(0.7 / (CLASSES + 1), rel=1e-4)
    assert found.segments_frames[0, 0] < 10 * STRIDE_FRAMES < found.segments_frames[0, 1]


def test_a_run_that_every_threshold_finds_is_one_detection_with_the_ends_of_the_middle_cut(head):
    predictions = predict(head)
    covered = (torch.arange(STEPS) >= 3) & (torch.arange(STEPS) < 7)
    predictions["masks"] = torch.where(covered, 20.0, -20.0).expand(2, STEPS, STEPS)
    scores, segments = head.moments(predictions)
    found = segments[0][scores[0].amax(dim=1) > 0]
    assert found.tolist() == [pytest.approx([2.5 * STRIDE_FRAMES, 6.5 * STRIDE_FRAMES])]


def test_imitating_is_zero_at_a_soft_teacher(head):
    teacher = predict(head)
    assert OBJECTIVE.imitate(teacher, teacher).abs().max() < 1e-5
    for name in ("logits", "masks"):
        other = teacher | {name: teacher[name] + torch.randn(teacher[name].shape)}
        assert OBJECTIVE.imitate(other, teacher).min() > 0.05


def slow_imitation(student: Predictions, teacher: Predictions, window: int) -> float:
    """One window's distance from the teacher, one snippet at a time."""
    classes, masks, steps = read(student, window)
    names, wanted, _ = read(teacher, window)
    of_classes, of_masks, actions = 0.0, 0.0, 0.0
    for t in steps:
        of_classes += sum(q * math.log(q / p) for p, q in zip(classes[t], names[t], strict=True)) / len(steps)
        pairs = [(masks[t][s], wanted[t][s]) for s in steps]
        stepwise = sum(q * math.log(q / p) + (1 - q) * math.log((1 - q) / (1 - p)) for p, q in pairs) / len(steps)
        of_masks += (1 - names[t][-1]) * (slow_shape(masks[t], wanted[t]) + 0.7 * stepwise)
        actions += 1 - names[t][-1]
    return of_classes + of_masks / max(1.0, actions)


@pytest.mark.parametrize("background", [0.0, 8.0])
def test_imitation_equals_a_slow_loop(head, background):
    """Also of a teacher that sees less than one snippet of action."""
    student, teacher = predict(head), predict(head)
    for name in ("logits", "masks"):
        student[name], teacher[name] = (torch.randn(student[name].shape) * 2 for _ in range(2))
    teacher["logits"][..., -1] += background
    found = TagsObjective(WEIGHED, CLASSES).imitate(student, teacher)
    assert found.tolist() == pytest.approx([slow_imitation(student, teacher, w) for w in range(2)], rel=1e-4)


def test_masks_of_a_teacher_s_background_are_not_imitated(head):
    teacher = predict(head)
    sure = torch.zeros_like(teacher["logits"])
    sure[..., -1] = 40.0
    teacher = teacher | {"logits": sure}
    student = teacher | {"masks": teacher["masks"] + 3.0}
    assert OBJECTIVE.imitate(student, teacher).max() < 1e-5


def test_branches_agree_where_classes_and_masks_mark_the_same_steps(head, targets):
    agreeing = perfect(head, targets)
    agreeing["masks"] = agreeing["masks"].round()  # whole steps, as the classes have them
    shifted = agreeing | {"logits": agreeing["logits"].roll(10, dims=1)}
    assert branch_distance(agreeing).max() < 0.1
    assert branch_distance(shifted).min() > 0.2


def drawn(windows: int, seed: int) -> tuple[Tensor, Targets]:
    """Two segments a window, of two classes, that two channels mark under noise; `[B, 8, L]`."""
    generator = torch.Generator().manual_seed(seed)
    features = 0.3 * torch.randn(windows, 8, STEPS, generator=generator)
    firsts = torch.stack([torch.randint(1, 6, (windows,), generator=generator) + shift for shift in (0, 16)], dim=1)
    lasts = firsts + torch.randint(4, 9, (windows, 2), generator=generator)  # [B, 2], both in steps
    labels = torch.randint(0, 2, (windows, 2), generator=generator)
    steps = torch.arange(STEPS)
    inside = (steps >= firsts.unsqueeze(2)) & (steps <= lasts.unsqueeze(2))  # [B, 2, L]
    features[:, :2] += 2.0 * torch.einsum("bnl,bnk->bkl", inside.float(), torch.eye(2)[labels])
    segments = torch.stack([firsts - 0.5, lasts + 0.5], dim=2) * STRIDE_FRAMES
    return features, Targets(segments_frames=segments, labels=labels)


def recall(head: TagsHead, features: Tensor, targets: Targets) -> float:
    """The share of segments of which one of the ten best detections has the class and a tIoU of at least .5."""
    with torch.no_grad():
        found = head.decode(
            head(features, torch.ones(features.shape[0], STEPS, dtype=torch.bool)), top_k=10, min_score=0.0
        )
    hits = []
    for window, segments, labels in zip(found, targets.segments_frames, targets.labels, strict=True):
        for (start, end), label in zip(segments, labels, strict=True):
            first, last = window.segments_frames.unbind(dim=1)
            shared = (last.clamp(max=end) - first.clamp(min=start)).clamp(min=0)
            tiou = shared / ((last - first) + (end - start) - shared)
            hits.append(bool(((tiou >= 0.5) & (window.labels == label)).any()))
    return sum(hits) / len(hits)


def trained(loss_of, steps: int) -> tuple[TagsHead, list[float]]:
    """A head after so many steps on eight windows each, and the loss at every step."""
    head = built()
    optimizer = torch.optim.Adam(head.parameters(), lr=5e-3)
    losses = []
    for step in range(steps):
        features, targets = drawn(8, seed=step)
        optimizer.zero_grad()
        loss = loss_of(head(features, torch.ones(8, STEPS, dtype=torch.bool)), features, targets).mean()
        loss.backward()
        optimizer.step()
        losses.append(loss.item())
    return head, losses


@pytest.fixture(scope="module")
def teacher() -> tuple[TagsHead, list[float]]:
    return trained(lambda predictions, _, targets: OBJECTIVE.loss(predictions, targets), steps=80)


def test_it_learns_to_find_segments(teacher):
    head, losses = teacher
    features, targets = drawn(20, seed=1000)
    assert sum(losses[-5:]) < 0.4 * sum(losses[:5])
    assert recall(head, features, targets) >= 0.9


def test_a_student_that_sees_the_teacher_alone_finds_the_segments(teacher):
    taught_by, _ = teacher

    def imitation(predictions: Predictions, features: Tensor, _: Targets) -> Tensor:
        with torch.no_grad():
            known = taught_by(features, torch.ones(features.shape[0], STEPS, dtype=torch.bool))
        return OBJECTIVE.imitate(predictions, known)

    student, losses = trained(imitation, steps=80)
    features, targets = drawn(20, seed=1000)
    assert sum(losses[-5:]) < 0.4 * sum(losses[:5])
    assert recall(student, features, targets) >= 0.9


def test_positions_need_pairs_of_channels():
    with pytest.raises(ValueError, match="turn pairs of channels"):
        TagsConfig(dim=20, heads=4)
