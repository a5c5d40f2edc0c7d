"""A network under autocast as training calls it."""

from typing import NamedTuple

import torch
from torch import Tensor, nn

from tadscale.engine.autocast import UnderAutocast


class Output(NamedTuple):
    score: Tensor
    step: Tensor


class Network(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.layer = nn.Linear(8, 8)
        self.seen: list[torch.dtype] = []

    def forward(self, x: Tensor) -> Output:
        score = self.layer(x)
        self.seen.append(score.dtype)
        return Output(score, torch.arange(3))


def test_the_arithmetic_is_halved_and_what_comes_out_is_float32():
    network, x = Network(), torch.randn(4, 8)
    exact, rounded = (UnderAutocast(network, dtype)(x) for dtype in (torch.float32, torch.bfloat16))
    assert network.seen == [torch.float32, torch.bfloat16]
    assert exact.score.dtype == rounded.score.dtype == torch.float32
    assert rounded.step.dtype == torch.int64
    assert torch.equal(exact.score, network.layer(x))
    assert not torch.equal(rounded.score, exact.score)
    torch.testing.assert_close(rounded.score, exact.score, rtol=0.02, atol=0.02)


def test_submodules_keep_their_names():
    network = Network()
    assert UnderAutocast(network, torch.bfloat16).get_submodule("layer") is network.layer
