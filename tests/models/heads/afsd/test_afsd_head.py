"""The AFSD head: what it reads around coarse boundaries, what refines what, decoding against a plain loop."""

import math

import pytest
import torch

from tadscale.models.heads.afsd.frame_level import FrameLevelFeature
from tadscale.models.heads.afsd.network import AfsdConfig, AfsdHead
from tadscale.models.heads.base import Predictions

CLASSES, STRIDE_FRAMES, STEPS = 3, 4, 33
MOMENTS = 33 + 17 + 9 + 3  # an invalid one after each level
SETTINGS = AfsdConfig(dim=16, levels=3, heads=2, reach=2, min_positives=1.0)


@pytest.fixture
def head() -> AfsdHead:
    torch.manual_seed(0)
    return SETTINGS.build(in_dim=8, num_classes=CLASSES, stride_frames=STRIDE_FRAMES)


@pytest.fixture
def predictions(head: AfsdHead) -> Predictions:
    mask = torch.ones(2, STEPS, dtype=torch.bool)
    mask[1, 28:] = False
    return head(torch.randn(2, 8, STEPS), mask)


def test_every_level_predicts_and_what_does_not_exist_is_marked(predictions: Predictions) -> None:
    assert predictions["logits"].shape == predictions["coarse_logits"].shape == (2, MOMENTS, CLASSES)
    assert predictions["segments"].shape == predictions["coarse_segments"].shape == (2, MOMENTS, 2)
    assert predictions["mask"].sum(dim=1).tolist() == [33 + 17 + 9, 28 + 14 + 7]
    assert predictions["activations"].shape == (2, 32 * STRIDE_FRAMES + 1, 2)
    assert predictions["frame_mask"].sum(dim=1).tolist() == [129, 112]
    assert predictions["points"][0, :, 1].unique().tolist() == [4.0, 8.0, 16.0]


def test_heads_that_cannot_share_the_channels_are_refused() -> None:
    with pytest.raises(ValueError, match="choose a number of heads that divides dim"):
        AfsdConfig(dim=16, heads=3)


def test_a_step_stands_at_its_frame_in_the_frame_level_feature() -> None:
    torch.manual_seed(0)
    feature = FrameLevelFeature(4, STRIDE_FRAMES)
    moved = [torch.rand(1, 4, 9) for _ in range(2)]
    moved[1][:, :, 1:] = moved[0][:, :, 1:]  # the first step alone differs
    mask = torch.ones(1, 9, dtype=torch.bool)
    first, second = (feature(each, mask)[0] for each in moved)
    differs = (first - second).abs().sum(dim=1)[0] > 1e-7
    assert differs.nonzero().max() == STRIDE_FRAMES - 1 + 1  # its ramp ends before frame 4; the convolution reaches on


def test_coarse_segments_hold_their_moment(predictions: Predictions) -> None:
    place, (start, end) = predictions["points"][..., 0], predictions["coarse_segments"].unbind(-1)
    assert (start < place).all() and (place < end).all()


def test_refinement_sends_no_gradient_into_the_coarse_segments(head: AfsdHead, predictions: Predictions) -> None:
    refined = predictions["segments"].sum() + predictions["logits"].sum() + predictions["quality"].sum()
    assert torch.autograd.grad(refined, head.regress.weight, allow_unused=True, retain_graph=True) == (None,)
    assert torch.autograd.grad(predictions["coarse_segments"].sum(), head.regress.weight)[0].any()


def test_refinement_reads_what_lies_at_the_coarse_boundaries(head: AfsdHead) -> None:
    """A feature farther than the network sees (10 steps) is noticed where a coarse segment ends at it, and there alone."""
    features, mask = torch.randn(1, 8, 65), torch.ones(1, 65, dtype=torch.bool)
    other = features.clone()
    other[:, :, 50] += 5.0
    read = {}
    for end_steps in (10.0, 30.0):  # of the first level
        torch.nn.init.zeros_(head.regress.weight)
        assert head.regress.bias is not None
        head.regress.bias.data = torch.tensor([0.0, math.log(end_steps)])
        before, after = head(features, mask), head(other, mask)
        changed = {name: (after[name] - before[name])[0, 20].abs().max().item() for name in ("quality", "logits")}
        read[end_steps] = sorted(changed.values())
    assert read[10.0] == [0.0, 0.0] and read[30.0][0] > 1e-4


def test_what_is_refined_equals_a_plain_loop(head: AfsdHead) -> None:
    """The class anew, the boundaries by offsets in halves of the coarse duration; each from its own refined feature."""
    torch.nn.init.normal_(head.correct.weight, std=0.1)
    refined: dict[str, torch.Tensor] = {}
    for name in ("refine_class", "refine_boundary"):
        head.get_submodule(name).register_forward_hook(lambda *call, name=name: refined.update({name: call[2]}))
    with torch.no_grad():
        predictions = head(torch.randn(2, 8, STEPS), torch.arange(STEPS) < torch.tensor([[STEPS], [28]]))
        for b in range(2):
            for p in range(MOMENTS):
                of_class, of_boundary = refined["refine_class"][b, p], refined["refine_boundary"][b, p]
                start, end = predictions["coarse_segments"][b, p].tolist()
                left, right = (head.correct.weight @ of_boundary + head.correct.bias).tolist()
                segment = [start + (end - start) / 2 * left, end + (end - start) / 2 * right]
                assert predictions["segments"][b, p].tolist() == pytest.approx(segment, rel=1e-4, abs=1e-4)
                logits = head.reclassify.weight @ of_class + head.reclassify.bias
                torch.testing.assert_close(predictions["logits"][b, p], logits)
                quality = head.judge.weight[0] @ of_boundary + head.judge.bias[0]
                torch.testing.assert_close(predictions["quality"][b, p], quality)


def test_decode_equals_a_plain_loop(head: AfsdHead, predictions: Predictions) -> None:
    predictions = {name: value.detach() for name, value in predictions.items()}
    for window, found in enumerate(head.decode(predictions, top_k=10_000, min_score=0.004)):
        expected = []
        for p in range(MOMENTS):
            place = float(predictions["points"][window, p, 0])
            start, end = predictions["segments"][window, p].tolist()
            quality = 1 / (1 + math.exp(-float(predictions["quality"][window, p])))
            for k in range(CLASSES):
                pair = (float(predictions[name][window, p, k]) for name in ("coarse_logits", "logits"))
                score = quality * sum(1 / (1 + math.exp(-logit)) for logit in pair) / 2
                if predictions["mask"][window, p] and score >= 0.004:
                    expected.append((score, k, min(start, place), max(end, place)))
        expected.sort(reverse=True)
        assert 10 < len(expected) < MOMENTS * CLASSES
        assert found.labels.tolist() == [row[1] for row in expected]
        torch.testing.assert_close(found.scores, torch.tensor([row[0] for row in expected]))
        torch.testing.assert_close(found.segments_frames, torch.tensor([row[2:] for row in expected]))
