"""Local attention against attention over an explicit L x L map."""

import pytest
import torch

from tadscale.models.local_attention import LocalAttention, TransformerBlock, attend_locally


def dense_attention(query, key, value, mask, heads, reach):
    """A full map, a band mask, and the softmax written out."""
    query, key, value = (side.unflatten(2, (heads, -1)) for side in (query, key, value))  # [B, L, H, d]
    steps = torch.arange(query.shape[1])
    band = (steps[:, None] - steps[None, :]).abs() <= reach
    scores = torch.einsum("blhd,bmhd->bhlm", query, key) / query.shape[3] ** 0.5
    powers = scores.exp() * (band[None, None] & mask[:, None, None, :])
    weights = powers / powers.sum(-1, keepdim=True).clamp(min=1e-300)
    return torch.einsum("bhlm,bmhd->blhd", weights, value).flatten(2)


def masked(steps: int) -> torch.Tensor:
    """Two windows: one whole, one that ends early and has a hole."""
    mask = torch.ones(2, steps, dtype=torch.bool)
    mask[1, 2 * steps // 3 :] = False
    mask[1, steps // 4] = False
    return mask


@pytest.mark.parametrize("steps", [1, 2, 31, 32, 33, 70, 130])
@pytest.mark.parametrize("reach", [0, 1, 9, 40])
def test_equals_banded_dense_attention(steps, reach):
    torch.manual_seed(0)
    query, key, value = (torch.randn(2, steps, 8).double() for _ in range(3))
    mask = masked(steps)
    found = attend_locally(query, key, value, mask, heads=2, reach=reach)
    dense = dense_attention(query, key, value, mask, heads=2, reach=reach)
    torch.testing.assert_close(found[mask], dense[mask], rtol=1e-9, atol=1e-11)
    assert found.isfinite().all()


def test_gradients_equal_those_of_dense_attention():
    torch.manual_seed(0)
    mask, weights = masked(50), torch.randn(2, 50, 8).double()
    gradients = []
    for attend in (attend_locally, dense_attention):
        torch.manual_seed(1)
        sides = [torch.randn(2, 50, 8).double().requires_grad_() for _ in range(3)]
        out = attend(*sides, mask, heads=2, reach=5)
        gradients.append(torch.autograd.grad((out * weights)[mask].sum(), sides))
    torch.testing.assert_close(gradients[0], gradients[1], rtol=1e-8, atol=1e-10)


def test_a_wholly_masked_window_stays_finite():
    layer = LocalAttention(8, heads=2, reach=3, stride=1)
    x = torch.randn(1, 10, 8, requires_grad=True)
    out = layer(x, torch.zeros(1, 10, dtype=torch.bool))
    out.sum().backward()
    assert out.isfinite().all() and x.grad.isfinite().all()


def test_block_of_stride_two_halves_sequence_and_mask():
    block = TransformerBlock(8, heads=2, reach=2, stride=2)
    mask = torch.ones(1, 13, dtype=torch.bool)
    mask[:, 9:] = False
    out, kept = block(torch.randn(1, 13, 8), mask)
    assert out.shape == (1, 7, 8)
    assert kept.tolist() == [[True] * 5 + [False] * 2]
    assert out[:, 5:].abs().max() == 0
