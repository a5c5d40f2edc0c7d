"""Networks that cannot be trained as jobs train them."""

from types import SimpleNamespace
from typing import Any

import pytest
import torch
from torch import nn

from tadscale.network import NetworkSpec
from tadscale.runtime.jobs.preflight import networks
from tadscale.runtime.jobs.preflight.facts import Facts
from tadscale.runtime.stage.job import JobConfig


class Scalar(nn.Module):
    """As a head of one's own may be."""

    def __init__(self) -> None:
        super().__init__()
        self.bias = nn.Parameter(torch.tensor(1.0))

    def forward(self, *inputs: Any) -> None:
        """Nothing."""


PUBLISHED, OWN = "/data/published.pth", "/runs/earlier/baseline/weights"
VIT, MOBILE = {"name": "vit", "size": "tiny"}, {"name": "tsm_mobilenet_v2", "frozen_stages": 3}


@pytest.mark.parametrize(
    ("changes", "refused"),
    [
        ({"model__backbone": VIT}, ["teacher", "baseline", "decomposed"]),
        ({"model__backbone": VIT | {"weights": PUBLISHED}}, []),
        ({"model__backbone": VIT | {"weights": OWN}}, ["teacher"]),
        ({"model__backbone": VIT | {"weights": OWN}, "teacher": {"url": "/runs/earlier/teacher/weights"}}, []),
        ({"model__backbone": VIT, "pretrain": {"frames": 16}}, ["pretrain", "teacher"]),
        ({"model__backbone": VIT | {"frozen": False}}, []),
        ({"model__backbone": MOBILE, "baseline": False}, ["teacher", "decomposed"]),
        ({"model__backbone": MOBILE | {"frozen_stages": 0}}, []),
    ],
)
def test_layers_that_nobody_trained_are_not_frozen(changes: dict[str, Any], refused: list[str], job: Any) -> None:
    faults = list(networks.frozen(Facts(job(**changes))))
    assert [fault.split()[1] for fault in faults] == refused
    remedy = "set frozen to false" if changes["model__backbone"]["name"] == "vit" else "set frozen_stages to 0"
    assert all(remedy in fault and "published weights" in fault for fault in faults)


def test_the_setting_is_named(job: Any) -> None:
    [fault, _] = networks.frozen(Facts(job(model__backbone=MOBILE, baseline=False)))
    assert "model.backbone.frozen_stages = 3" in fault and "teacher.url" in fault


def test_a_parameter_that_cannot_be_sent_is_named_before_a_rank_starts(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(NetworkSpec, "build", lambda self, *, for_training: Scalar())
    window = {"frames": 61, "height": 24, "width": 40}  # as nowhere else: what was found of a network is remembered
    job = JobConfig.model_validate(
        {"kind": "distill", "name": "x", "storage": "runs", "data": {"url": "data", "window": window}}
    )
    [fault] = networks.shapes(SimpleNamespace(modes=["baseline"], job=job))
    assert "its parameter bias has no dimension" in fault and "give it the shape [1]" in fault
