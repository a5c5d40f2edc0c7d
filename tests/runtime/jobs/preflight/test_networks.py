"""Networks that cannot be trained as jobs train them."""

from types import SimpleNamespace
from typing import Any

import pytest
import torch
from torch import nn

from tadscale.network import NetworkSpec
from tadscale.runtime.jobs.preflight import networks
from tadscale.runtime.stage.job import JobConfig


class Scalar(nn.Module):
    """As a head of one's own may be."""

    def __init__(self) -> None:
        super().__init__()
        self.bias = nn.Parameter(torch.tensor(1.0))

    def forward(self, *inputs: Any) -> None:
        """Nothing."""


def test_a_parameter_that_cannot_be_sent_is_named_before_a_rank_starts(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(NetworkSpec, "build", lambda self, *, for_training: Scalar())
    window = {"frames": 61, "height": 24, "width": 40}  # as nowhere else: what was found of a network is remembered
    job = JobConfig.model_validate(
        {"kind": "distill", "name": "x", "storage": "runs", "data": {"url": "data", "window": window}}
    )
    [fault] = networks.shapes(SimpleNamespace(modes=["baseline"], job=job))
    assert "its parameter bias has no dimension" in fault and "give it the shape [1]" in fault
