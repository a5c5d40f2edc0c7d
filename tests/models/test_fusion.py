"""Local attentive fusion against a slow loop of its formula, and its locality."""

import math

import pytest
import torch

from tadscale.models.fusion import FUSIONS, LocalAttentiveFusion, masked_mean


@pytest.fixture
def fusion() -> LocalAttentiveFusion:
    """One whose gate has learned: its keys start at zero."""
    torch.manual_seed(0)
    fusion = LocalAttentiveFusion(6).double()
    torch.nn.init.normal_(fusion.key.weight, std=0.3)
    return fusion


def _inputs(batch: int = 2, dim: int = 6, steps: int = 9):
    torch.manual_seed(1)
    mask = torch.ones(batch, steps, dtype=torch.bool)
    mask[1, 6:] = False
    return torch.randn(batch, dim, steps).double(), torch.randn(batch, dim, steps).double(), mask


def slow_fusion(fusion: LocalAttentiveFusion, target, reference, mask):
    """The formula of Fig. 4, one number at a time."""
    batch, dim, steps = target.shape
    wq, wk = fusion.query.weight.tolist(), fusion.key.weight.tolist()
    out = torch.zeros_like(target)
    for b in range(batch):
        valid = [t for t in range(steps) if mask[b, t]]
        pooled = [sum(float(target[b, d, t]) for t in valid) / len(valid) for d in range(dim)]
        query = [sum(wq[o][i] * pooled[i] for i in range(dim)) for o in range(dim)]
        for t in range(steps):
            key = [sum(wk[o][i] * float(reference[b, i, t]) for i in range(dim)) for o in range(dim)]
            for d in range(dim):
                out[b, d, t] = float(target[b, d, t]) / (1 + math.exp(-query[d] * key[d]))
    return out


def test_equals_the_formula_computed_by_loops(fusion):
    target, reference, mask = _inputs()
    expected = slow_fusion(fusion, target, reference, mask)
    torch.testing.assert_close(fusion(target, reference, mask), expected, rtol=1e-10, atol=1e-12)


def test_starts_with_all_weights_equal_and_learns_from_there():
    fusion = LocalAttentiveFusion(6).double()
    target, reference, mask = _inputs()
    torch.testing.assert_close(fusion(target, reference, mask), target / 2)
    fusion(target, reference, mask).square().sum().backward()
    assert fusion.key.weight.grad is not None
    assert fusion.key.weight.grad.abs().min() > 0


@pytest.mark.parametrize("step", [0, 4, 8])
def test_reference_at_one_time_changes_the_output_there_alone(fusion, step):
    target, reference, mask = _inputs()
    mask[:] = True
    changed = reference.clone()
    changed[:, :, step] += 1.0
    difference = (fusion(target, changed, mask) - fusion(target, reference, mask)).abs().amax(dim=(0, 1))
    assert difference[step] > 1e-3
    assert difference[torch.arange(9) != step].max() == 0


def test_target_reaches_other_times_through_the_pooled_query_only(fusion):
    target, reference, mask = _inputs()
    mask[:] = True
    # Two changes that cancel in the mean leave the query as it was: then only their own two steps may change.
    changed = target.clone()
    changed[:, :, 2] += 0.7
    changed[:, :, 5] -= 0.7
    difference = (fusion(changed, reference, mask) - fusion(target, reference, mask)).abs().amax(dim=(0, 1))
    assert difference[[2, 5]].min() > 1e-3
    assert difference[[0, 1, 3, 4, 6, 7, 8]].max() < 1e-12


def test_steps_outside_the_mask_do_not_reach_the_query(fusion):
    target, reference, mask = _inputs()
    changed = target.clone()
    changed[1, :, 6:] = 100.0
    before, after = fusion(target, reference, mask), fusion(changed, reference, mask)
    torch.testing.assert_close(after[1, :, :6], before[1, :, :6], rtol=0, atol=0)


def test_mean_of_a_wholly_masked_window_is_zero():
    assert masked_mean(torch.ones(1, 3, 4), torch.zeros(1, 4, dtype=torch.bool)).tolist() == [[0.0, 0.0, 0.0]]


@pytest.mark.parametrize("name", FUSIONS)
def test_every_fusion_keeps_shapes_and_ignores_what_is_masked(name):
    torch.manual_seed(0)
    fusion = FUSIONS[name](6).double()
    target, reference, mask = _inputs()
    target, reference = target * mask.unsqueeze(1), reference * mask.unsqueeze(1)
    fused = fusion(target, reference, mask)
    changed = reference.clone()
    changed[1, :, 6:] = 9.0
    assert fused.shape == target.shape
    torch.testing.assert_close(fusion(target, changed, mask)[1, :, :6], fused[1, :, :6])


def test_cross_attention_is_the_softmax_of_its_formula():
    torch.manual_seed(0)
    fusion = FUSIONS["cross_attention"](6).double()
    target, reference, mask = _inputs()
    fused = fusion(target, reference, mask)
    query = fusion.query.weight @ target[1, :, 2]
    scores = [
        float((query @ (fusion.key.weight @ reference[1, :, t])).detach()) / math.sqrt(6) for t in range(6)
    ]  # 6 steps exist
    total = sum(map(math.exp, scores))
    added = sum(math.exp(score) / total * (fusion.value.weight @ reference[1, :, t]) for t, score in enumerate(scores))
    torch.testing.assert_close(fused[1, :, 2], target[1, :, 2] + added)
