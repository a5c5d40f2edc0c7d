"""Self-attention of queries against its equation, one pair at a time."""

import torch

from tadscale.models.heads.tadtr.query_attention import QueryAttention

DIM, HEADS = 6, 2


def tiou(first: list[float], second: list[float]) -> float:
    shared = max(0.0, min(first[1], second[1]) - max(first[0], second[0]))
    return shared / (first[1] - first[0] + second[1] - second[0] - shared)


def test_it_equals_its_equation():
    torch.manual_seed(0)
    attention = QueryAttention(DIM, heads=HEADS).double().requires_grad_(False)
    x, position = torch.randn(2, 4, DIM).double(), torch.randn(2, 4, DIM).double()
    start = torch.rand(2, 4).double() * 5
    segments = torch.stack([start, start + torch.rand(2, 4).double() * 5 + 0.1], dim=2)
    found = attention(x, position, segments)
    for b in range(2):
        projected = (x[b] + position[b]) @ attention.query_key.weight.T + attention.query_key.bias
        query, key = projected[:, :DIM], projected[:, DIM:]
        value = x[b] @ attention.value.weight.T + attention.value.bias
        for q in range(4):
            heads = []
            for head in range(HEADS):
                part = slice(head * DIM // HEADS, (head + 1) * DIM // HEADS)
                scores = torch.stack([query[q, part] @ key[n, part] / (DIM // HEADS) ** 0.5 for n in range(4)])
                for n in range(4):
                    scores[n] += attention.overlap[head] * tiou(segments[b, q].tolist(), segments[b, n].tolist())
                heads.append(scores.softmax(dim=0) @ value[:, part])
            expected = attention.out.weight @ torch.cat(heads) + attention.out.bias
            torch.testing.assert_close(found[b, q], expected)


def test_at_the_start_some_heads_look_for_overlap_and_one_does_not():
    overlap = QueryAttention(DIM, heads=HEADS).overlap.tolist()
    assert overlap[0] == 0.0 and overlap[-1] > 4.0
