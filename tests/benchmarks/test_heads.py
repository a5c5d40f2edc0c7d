"""The heads' benchmark runs at its small size, and what it compares computes the same."""

import numpy as np
import pytest
import torch

from benchmarks.heads import CLASSES, PLAIN, main, plain_suppress, random_candidates
from benchmarks.plain_actionformer import PlainActionFormer
from tadscale.config import choices
from tadscale.metrics.nms import NmsConfig, suppress
from tadscale.models.heads import HeadConfig
from tadscale.models.heads.actionformer.network import ActionFormerConfig


@pytest.mark.parametrize("embed_layers", [1, 2])
def test_the_plain_head_computes_what_ours_does(embed_layers):
    """With the weights of one in the other, which is also a second reading of the network, in the other layout."""
    torch.manual_seed(0)
    settings = ActionFormerConfig(dim=16, levels=4, heads=2, reach=3, embed_layers=embed_layers)
    dims = {"in_dim": 8, "num_classes": CLASSES, "stride_frames": 2}
    ours, plain = settings.build(**dims).double(), PlainActionFormer(settings, **dims).double()
    pairs = list(zip(plain.parameters(), ours.parameters(), strict=True))
    with torch.no_grad():
        for to, source in pairs:
            source.add_(0.1 * torch.randn_like(source))  # no norm is without effect
            to.copy_(source.view_as(to))
    mask = torch.arange(70) < torch.tensor([[70], [45]])
    features = torch.randn(2, 8, 70).double() * mask.unsqueeze(1)
    found, expected = (dict(head(features, mask)) for head in (ours, plain))
    valid = found["mask"]
    assert torch.equal(valid, expected.pop("mask")) and not valid.all()
    for name, value in expected.items():
        torch.testing.assert_close(value[valid], found[name][valid], check_dtype=False)
    for predictions in (found, expected):
        (predictions["logits"][valid].sum() + predictions["segments"][valid].sum()).backward()
    for to, source in pairs:
        torch.testing.assert_close(to.grad.view_as(source), source.grad, rtol=1e-6, atol=1e-8)


@pytest.mark.parametrize("method", ["soft", "hard"])
def test_the_plain_loop_suppresses_as_ours_does(method):
    candidates, config = random_candidates(2000), NmsConfig(method=method)
    np.testing.assert_allclose(plain_suppress(*candidates, config), suppress(*candidates, config).score)


@pytest.mark.slow  # every head in a fresh process that imports torch
def test_the_benchmark_prints_a_row_for_every_head(capsys):
    main(["--small", "--repeats", "1"])
    printed = capsys.readouterr().out
    for row in (PLAIN, *choices(HeadConfig), "soft", "hard"):
        assert row in printed
