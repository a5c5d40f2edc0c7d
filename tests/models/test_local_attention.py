"""Local attention against attention over an explicit L x L map."""

import torch

from tadscale.models.local_attention import LocalAttention, TransformerBlock


def dense_attention(layer: LocalAttention, x, mask):
    """The same layer with a full map and a band mask."""
    query, key, value = (
        project(norm(mix(x))).unflatten(1, (layer.heads, -1))
        for mix, norm, project in zip(layer.mixers, layer.norms, layer.projections, strict=True)
    )
    steps = torch.arange(query.shape[3])
    band = (steps[:, None] - steps[None, :]).abs() <= layer.reach
    scores = torch.einsum("bhdl,bhdm->bhlm", query, key) / query.shape[2] ** 0.5
    allowed = band[None, None] & mask[:, None, None, :]
    weights = scores.masked_fill(~allowed, -torch.inf).softmax(-1).nan_to_num()
    return layer.out(torch.einsum("bhlm,bhdm->bhdl", weights, value).flatten(1, 2)) * mask.unsqueeze(1)


def test_equals_banded_dense_attention():
    torch.manual_seed(0)
    layer = LocalAttention(8, heads=2, reach=3, stride=1).double()
    x, mask = torch.randn(2, 8, 20).double(), torch.ones(2, 20, dtype=torch.bool)
    mask[1, 13:] = False
    valid = mask.unsqueeze(1)
    torch.testing.assert_close(layer(x, mask) * valid, dense_attention(layer, x, mask) * valid, rtol=1e-9, atol=1e-11)


def test_a_wholly_masked_window_stays_finite():
    layer = LocalAttention(8, heads=2, reach=3, stride=1)
    out = layer(torch.randn(1, 8, 10), torch.zeros(1, 10, dtype=torch.bool))
    assert torch.equal(out, torch.zeros_like(out))


def test_block_of_stride_two_halves_sequence_and_mask():
    block = TransformerBlock(8, heads=2, reach=2, stride=2)
    mask = torch.ones(1, 13, dtype=torch.bool)
    mask[:, 9:] = False
    out, kept = block(torch.randn(1, 8, 13), mask)
    assert out.shape == (1, 8, 7)
    assert kept.tolist() == [[True] * 5 + [False] * 2]
    assert out[:, :, 5:].abs().max() == 0
