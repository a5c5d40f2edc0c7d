"""What every detection head keeps to, whatever its family. A head that is added to `HeadConfig` is held to it at once."""

import inspect
from pathlib import Path

import pytest
import torch
from pydantic import TypeAdapter
from torch import Tensor

from tadscale.config import choices
from tadscale.models.heads import HeadConfig
from tadscale.models.heads.base import Head, HeadSettings, Predictions, WindowDetections
from tadscale.models.heads.objective import Objective, Targets, build_objective
from tadscale.runtime.models.shipped_code import ROOT, shipped_files

# Settings small enough that a head answers in milliseconds; every head of `HeadConfig` has a line.
TINY = {
    "actionformer": {"dim": 8, "levels": 3, "heads": 2, "reach": 2, "min_positives": 1.0},
    "tags": {"dim": 8, "blocks": 1, "heads": 2, "mask_dim": 4},
    "gtad": {"dim": 8, "paths": 2, "places": 8, "map_dim": 16, "max_duration": 32},
    "tadtr": {"dim": 8, "heads": 2, "levels": 2, "encoder_layers": 1, "decoder_layers": 2, "queries": 5, "bins": 4},
    "afsd": {"dim": 8, "levels": 3, "heads": 2, "reach": 2, "min_positives": 1.0},
}
IN_DIM, CLASSES, STRIDE_FRAMES, STEPS = 6, 3, 4, 33
ALL = 100_000  # more than any head here could find
HEADS = choices(HeadConfig)


@pytest.fixture(params=HEADS)
def settings(request: pytest.FixtureRequest) -> HeadSettings:
    name = request.param
    if name not in TINY:
        pytest.fail(f"no tiny settings for the head {name!r}: add a line for it to TINY in {Path(__file__).name}")
    return HEADS[name](**TINY[name])


@pytest.fixture
def head(settings: HeadSettings) -> Head:
    return built(settings)


@pytest.fixture
def objective(settings: HeadSettings) -> Objective:
    return build_objective(settings, CLASSES)


def built(settings: HeadSettings, seed: int = 0, classes: int = CLASSES) -> Head:
    torch.manual_seed(seed)
    return settings.build(in_dim=IN_DIM, num_classes=classes, stride_frames=STRIDE_FRAMES)


def inputs(batch: int = 4, steps: int = STEPS, seed: int = 1) -> tuple[Tensor, Tensor]:
    """Random features; every second window has its last two fifths masked."""
    generator = torch.Generator().manual_seed(seed)
    mask = torch.ones(batch, steps, dtype=torch.bool)
    mask[1::2, steps - 2 * steps // 5 :] = False
    return torch.randn(batch, IN_DIM, steps, generator=generator), mask


def truth() -> Targets:
    """One segment, two of which one overlaps the other, none, and one as long as the window."""
    segments = torch.zeros(4, 2, 2)
    segments[0, 0] = torch.tensor([40.0, 62.0])
    segments[1] = torch.tensor([[10.0, 70.0], [16.0, 30.0]])
    segments[3, 0] = torch.tensor([0.0, 76.0])
    return Targets(segments_frames=segments, labels=torch.tensor([[0, -1], [1, 2], [-1, -1], [2, -1]]))


def test_every_parameter_has_a_dimension(head: Head) -> None:
    """DeepSpeed sends parameters as bytes, and a scalar has no such view: a job would end with its first rank's start."""
    assert [name for name, value in head.named_parameters() if not value.dim()] == []


def window_of(predictions: Predictions, index: int) -> Predictions:
    return {name: value[index, None] for name, value in predictions.items()}


def targets_of(targets: Targets, index: int) -> Targets:
    return Targets(segments_frames=targets.segments_frames[index, None], labels=targets.labels[index, None])


def differentiable(predictions: Predictions) -> Predictions:
    """The same numbers, each a leaf that would collect a gradient."""
    return {
        name: value.detach().clone().requires_grad_(value.is_floating_point()) for name, value in predictions.items()
    }


def assert_same_detections(first: list[WindowDetections], second: list[WindowDetections]) -> None:
    for one, other in zip(first, second, strict=True):
        for found, expected in zip(one, other, strict=True):
            torch.testing.assert_close(found, expected)


@pytest.mark.parametrize("steps", [1, 7, 33])
def test_every_prediction_is_led_by_the_batch_at_any_length(head: Head, steps: int) -> None:
    predictions = head(*inputs(3, steps))
    assert predictions
    assert {value.shape[0] for value in predictions.values()} == {3}
    assert all(value.isfinite().all() for value in predictions.values())
    assert len(head.decode(predictions, top_k=5, min_score=0.0)) == 3


def test_shapes_are_known_without_data(settings: HeadSettings) -> None:
    """On the meta device, where a job's networks are tried before anything is spent."""
    with torch.device("meta"):
        head = settings.build(in_dim=IN_DIM, num_classes=CLASSES, stride_frames=STRIDE_FRAMES)
        tried = head(torch.zeros(2, IN_DIM, STEPS), torch.ones(2, STEPS, dtype=torch.bool))
    real = built(settings)(*inputs(2))
    assert {name: value.shape for name, value in tried.items()} == {name: value.shape for name, value in real.items()}


def test_a_window_is_predicted_alike_alone_and_among_others(head: Head) -> None:
    head = head.double().eval()
    features, mask = inputs(4)
    together = head(features.double(), mask)
    for index in range(4):
        alone = head(features[index, None].double(), mask[index, None])
        torch.testing.assert_close(alone, window_of(together, index))


def test_what_is_masked_is_not_read(head: Head) -> None:
    features, mask = inputs()
    other = torch.where(mask.unsqueeze(1), features, torch.full_like(features, 50.0))
    read = [head.decode(head(given, mask), top_k=ALL, min_score=1e-6) for given in (features, other)]
    assert all(len(found.scores) for found in read[0])
    assert_same_detections(*read)


@pytest.mark.parametrize("min_score", [0.0, 1e-6])
def test_what_is_masked_is_not_decoded(head: Head, min_score: float) -> None:
    features, mask = inputs()
    mask[0] = False
    found = head.decode(head(features, mask), top_k=ALL, min_score=min_score)
    assert len(found[0].scores) == 0
    for window, valid in zip(found[1:], mask[1:], strict=True):
        assert window.segments_frames[:, 0].max() < valid.sum() * STRIDE_FRAMES


def test_decode_takes_the_best_that_are_good_enough(head: Head) -> None:
    predictions = {name: value.detach() for name, value in head(*inputs()).items()}
    for window, (found, best) in enumerate(
        zip(
            head.decode(predictions, top_k=ALL, min_score=0.0),
            head.decode(predictions, top_k=3, min_score=0.0),
            strict=True,
        )
    ):
        count = len(found.scores)
        assert found.segments_frames.shape == (count, 2) and found.labels.shape == (count,)
        assert found.labels.dtype == torch.int64 and set(found.labels.tolist()) <= set(range(CLASSES))
        assert (found.segments_frames[:, 1] >= found.segments_frames[:, 0]).all()
        torch.testing.assert_close(best.scores, found.scores.sort(descending=True).values[:3])
        middle = float(found.scores.median())
        good = head.decode(predictions, top_k=ALL, min_score=middle)[window].scores
        assert good.min() >= middle and len(good) == (found.scores >= middle).sum()
        assert len(head.decode(predictions, top_k=ALL, min_score=1.1)[window].scores) == 0


@pytest.mark.parametrize("classes", [CLASSES, 1])
def test_a_segment_that_was_learned_is_decoded_in_sampled_frames(settings: HeadSettings, classes: int) -> None:
    """A head that decoded in steps would miss it by the stride, here 4. ActivityNet's detectors know one class."""
    head, objective = built(settings, classes=classes), build_objective(settings, classes)
    features, mask = inputs(1)
    label = classes // 2
    wanted = Targets(segments_frames=torch.tensor([[[40.0, 84.0]]]), labels=torch.tensor([[label]]))
    optimizer = torch.optim.Adam(head.parameters(), lr=0.01)
    for _ in range(120):
        optimizer.zero_grad()
        objective.loss(head(features, mask), wanted).mean().backward()
        optimizer.step()
    with torch.no_grad():
        best = head.eval().decode(head(features, mask), top_k=1, min_score=0.0)[0]
    assert best.labels.tolist() == [label]
    torch.testing.assert_close(best.segments_frames[0], torch.tensor([40.0, 84.0]), atol=STRIDE_FRAMES, rtol=0)


def test_the_loss_of_a_window_does_not_depend_on_its_batch(head: Head, objective: Objective) -> None:
    predictions, targets = head(*inputs()), truth()
    together = objective.loss(predictions, targets)
    imitation = objective.imitate(predictions, head(*inputs(seed=2)))
    assert together.shape == imitation.shape == (4,)
    for index in range(4):
        alone = objective.loss(window_of(predictions, index), targets_of(targets, index))
        torch.testing.assert_close(alone[0], together[index])
        teacher = window_of(head(*inputs(seed=2)), index)
        torch.testing.assert_close(objective.imitate(window_of(predictions, index), teacher)[0], imitation[index])


def test_padding_segments_weigh_nothing(head: Head, objective: Objective) -> None:
    predictions, targets = head(*inputs()), truth()
    wider = Targets(
        segments_frames=torch.cat([targets.segments_frames, torch.zeros(4, 3, 2)], dim=1),
        labels=torch.cat([targets.labels, torch.full((4, 3), -1)], dim=1),
    )
    torch.testing.assert_close(objective.loss(predictions, wider), objective.loss(predictions, targets))


def test_losses_of_windows_without_a_segment_or_a_step_are_finite(head: Head, objective: Objective) -> None:
    features, mask = inputs()
    mask[0] = False  # an empty slot of a batch
    nothing = Targets(segments_frames=torch.zeros(4, 2, 2), labels=torch.full((4, 2), -1))
    predictions = head(features, mask)
    loss = objective.loss(predictions, nothing) + objective.imitate(predictions, head(features, mask))
    loss.sum().backward()
    assert loss.isfinite().all()
    assert all(parameter.grad.isfinite().all() for parameter in head.parameters() if parameter.grad is not None)


def test_imitation_is_least_at_the_teacher_and_sends_it_no_gradient(head: Head, objective: Objective) -> None:
    student, teacher = differentiable(head(*inputs())), differentiable(head(*inputs(seed=2)))
    distance = objective.imitate(student, teacher)
    distance.sum().backward()
    assert all(value.grad is None for value in teacher.values())
    assert any(value.grad is not None and value.grad.any() for value in student.values())
    assert (objective.imitate(teacher, teacher) < distance).all()


def test_fusing_predictions_with_themselves_changes_nothing(head: Head, objective: Objective) -> None:
    predictions = head(*inputs())
    torch.testing.assert_close(objective.fuse([predictions, predictions]), predictions)


def test_every_parameter_learns(head: Head, objective: Objective) -> None:
    """In the second step at the latest: what is before a layer that begins at zero has no gradient in the first."""
    optimizer = torch.optim.SGD(head.parameters(), lr=1e-3)
    for _ in range(2):
        optimizer.zero_grad()
        objective.loss(head(*inputs()), truth()).sum().backward()
        optimizer.step()
    assert [name for name, p in head.named_parameters() if p.grad is None or not p.grad.any()] == []


def test_predictions_under_bfloat16_are_close(head: Head, objective: Objective) -> None:
    with torch.no_grad():
        exact = head.eval()(*inputs())
        with torch.autocast("cpu", dtype=torch.bfloat16):
            rounded = head(*inputs())
    rounded = {name: value.float() if value.is_floating_point() else value for name, value in rounded.items()}
    for name, value in exact.items():  # 8 bits: 0.4 % a rounding, and several add up
        limit = 0.02 * float(value.abs().max()) if value.is_floating_point() else 0.0
        torch.testing.assert_close(rounded[name], value, atol=limit, rtol=0, msg=lambda text, name=name: name + text)
    assert objective.loss(rounded, truth()).isfinite().all()


def test_the_network_is_exported_by_torch(head: Head) -> None:
    """With the lengths it was traced at."""
    exported = torch.export.export(head.eval(), inputs(2)).module()
    with torch.no_grad():
        torch.testing.assert_close(exported(*inputs(2, seed=3)), head(*inputs(2, seed=3)))


def test_settings_survive_json_and_build_the_same_twice(settings: HeadSettings) -> None:
    read = TypeAdapter(HeadConfig).validate_json(settings.model_dump_json())
    assert read == settings
    first, second = built(settings).state_dict(), built(read).state_dict()
    assert first.keys() == second.keys()
    assert all(torch.equal(first[name], second[name]) for name in first)
    other = built(settings, seed=1).state_dict()
    assert any(not torch.equal(first[name], other[name]) for name in first)


def test_the_network_is_shipped_and_its_objective_is_not(settings: HeadSettings, objective: Objective) -> None:
    network, taught = (Path(inspect.getfile(type(part))).relative_to(ROOT) for part in (settings, objective))
    assert network in shipped_files()
    assert taught not in shipped_files()
