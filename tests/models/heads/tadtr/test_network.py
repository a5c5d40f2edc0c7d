"""The TadTR head: where queries start, how segments are refined, what a score is."""

import pytest
import torch

from tadscale.metrics.nms import NmsConfig
from tadscale.models.heads.tadtr.encoder import sinusoids
from tadscale.models.heads.tadtr.network import TadTRConfig, TadTRHead, spread_references

SETTINGS = TadTRConfig(dim=8, heads=2, decoder_layers=3, queries=6, bins=4)


@pytest.fixture
def head() -> TadTRHead:
    torch.manual_seed(0)
    return SETTINGS.build(in_dim=5, num_classes=3, stride_frames=4)


def predict(head: TadTRHead) -> dict[str, torch.Tensor]:
    mask = torch.arange(20) < torch.tensor([[20], [11], [0]])
    return head(torch.randn(3, 5, 20), mask)


def test_every_layer_predicts_within_the_valid_part(head):
    predictions = predict(head)
    assert predictions["logits"].shape == (3, 3, 6, 3) and predictions["segments"].shape == (3, 3, 6, 2)
    assert predictions["frames"].tolist() == [80.0, 44.0, 0.0]
    centre = predictions["segments"].mean(dim=-1)  # [B, M, Q]
    assert (centre >= 0).all() and (centre <= predictions["frames"][:, None, None]).all()


def test_queries_start_evenly_and_at_several_widths():
    centre, width = torch.sigmoid(spread_references(7)).unbind(1)
    torch.testing.assert_close(centre.diff(), torch.full((6,), 1 / 7))
    assert len(set(width[:3].tolist())) == 3 and torch.equal(width[:3], width[3:6])


def test_a_layer_refines_the_segments_of_the_one_before(head):
    # At the start nothing refines: but here the second layer, where widths double in odds.
    head.refine[1][-1].bias.data[1] = 2.0
    segments = predict(head)["segments"][0] / 80  # [M, Q, 2] in windows
    centre, width = segments.mean(dim=-1), segments[..., 1] - segments[..., 0]
    start = spread_references(6)
    for layer, added in enumerate((0.0, 2.0, 2.0)):
        torch.testing.assert_close(centre[layer], torch.sigmoid(start[:, 0]))
        torch.testing.assert_close(width[layer], torch.sigmoid(start[:, 1] + added))


def test_a_layers_loss_does_not_reach_the_segments_it_starts_from(head):
    predict(head)["segments"][:, 1].sum().backward()
    assert head.refine[1][-1].bias.grad.any()
    assert not head.refine[0][-1].bias.grad.any()


def test_actionness_sees_half_a_segment_more_and_sends_it_no_gradient(head):
    predictions = predict(head)
    predictions["actionness"].sum().backward()
    assert all(refine[-1].bias.grad is None for refine in head.refine)
    with torch.no_grad():
        near = torch.tensor([[[5.0, 9.0]]])
        features = torch.zeros(1, 5, 20)
        levels = head.encoder(features, torch.ones(1, 20, dtype=torch.bool))
        before = head._actionness(near, levels[0])
        levels[0].x[0, 4] += 1.0  # four steps of a segment from 5 to 9: one more to each side
        assert not torch.equal(head._actionness(near, levels[0]), before)
        levels[0].x[0, 4] -= 1.0
        levels[0].x[0, 2] += 1.0
        torch.testing.assert_close(head._actionness(near, levels[0]), before)


def test_a_score_is_the_class_times_the_actionness_of_the_last_layer(head):
    predictions = predict(head)
    [best, _, nothing] = head.decode(predictions, top_k=1, min_score=0.0)
    scores = torch.sigmoid(predictions["logits"][0, -1]) * torch.sigmoid(predictions["actionness"][0, :, None])
    query, label = divmod(int(scores.argmax()), 3)
    torch.testing.assert_close(best.scores[0], scores.max())
    assert best.labels.tolist() == [label]
    torch.testing.assert_close(best.segments_frames[0], predictions["segments"][0, -1, query])
    assert len(nothing.scores) == 0


def test_a_head_in_bfloat16_still_speaks_in_float32(head):
    """Times in frames, and the scores that losses are taken of."""
    predictions = head.bfloat16()(torch.randn(1, 5, 20).bfloat16(), torch.ones(1, 20, dtype=torch.bool))
    assert {value.dtype for value in predictions.values()} == {torch.float32}
    assert all(value.isfinite().all() for value in predictions.values())


def test_sinusoids_are_sines_then_cosines():
    found = sinusoids(torch.tensor([3.0]), 5)[0]
    rates = [1.0, 1e4 ** (-1 / 3), 1e4 ** (-2 / 3)]
    expected = [torch.sin(torch.tensor(3.0 * r)) for r in rates] + [torch.cos(torch.tensor(3.0 * r)) for r in rates[:2]]
    torch.testing.assert_close(found, torch.stack(expected))


def test_its_detections_are_not_suppressed():
    assert SETTINGS.suppression == NmsConfig(method="none")


def test_heads_that_cannot_share_the_channels_are_refused():
    with pytest.raises(ValueError, match="3 attention heads cannot share 8 channels"):
        TadTRConfig(dim=8, heads=3)
