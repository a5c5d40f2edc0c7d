"""Parts of one's own that keep no promise are told before anything is trained, by name."""

from collections.abc import Iterator
from typing import Any

import pytest
from torch import Tensor, nn

from tadscale.models.backbones.small3d import Small3d
from tadscale.models.heads import objective
from tadscale.models.heads.actionformer.network import ActionFormerHead
from tadscale.runtime.jobs.preflight import networks
from tadscale.runtime.jobs.preflight.facts import Facts


@pytest.fixture(autouse=True)
def _nothing_remembered() -> Iterator[None]:
    networks._fault.cache_clear()
    yield
    networks._fault.cache_clear()


def faults(job: Any, **changes: Any) -> list[str]:
    return list(networks.shapes(Facts(job(**changes))))


def test_parts_as_they_are_here_keep_their_promises(job: Any) -> None:
    assert faults(job, pretrain={"frames": 8}) == []


def test_a_backbone_that_lays_its_features_otherwise(job: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    plain = Small3d.forward
    monkeypatch.setattr(Small3d, "forward", lambda self, video: plain(self, video).transpose(1, 2))
    [fault] = faults(job)
    assert "teacher, baseline, decomposed" in fault
    assert "the features of Small3d, by its out_channels and its stride of" in fault and "and are [2, " in fault


def test_a_backbone_that_a_pretext_cannot_read(job: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    maps = Small3d.maps
    monkeypatch.delattr(Small3d, "maps")
    monkeypatch.setattr(Small3d, "forward", lambda self, video: maps(self, video).mean(dim=(3, 4)))
    [fault] = faults(job, pretrain={"frames": 8})
    assert "the pretrain network" in fault and "Small3d has no maps(), which a pretext reads" in fault


@pytest.mark.parametrize(
    ("broken", "told"),
    [
        (lambda scores, segments: (scores.mean(dim=2), segments), "the scores of ActionFormerHead.moments should be"),
        (lambda scores, segments: (scores, segments.transpose(1, 2)), "the segments of ActionFormerHead.moments"),
        (lambda scores, segments: (scores[:1], segments), "the scores of ActionFormerHead.moments should be [2, "),
    ],
)
def test_a_head_whose_moments_are_none(broken: Any, told: str, job: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    """Else they would be found after the training, by its evaluation."""
    plain = ActionFormerHead.moments

    def moments(self: ActionFormerHead, predictions: dict[str, Tensor]) -> Any:
        return broken(*plain(self, predictions))

    monkeypatch.setattr(ActionFormerHead, "moments", moments)
    [fault] = faults(job)
    assert told in fault


def test_a_head_that_loses_the_batch(job: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    plain = ActionFormerHead.forward

    def forward(self: nn.Module, features: Tensor, mask: Tensor) -> Any:
        assert isinstance(self, ActionFormerHead)
        return {name: value.float().mean(dim=0) for name, value in plain(self, features, mask).items()}

    monkeypatch.setattr(ActionFormerHead, "forward", forward)
    [fault] = faults(job)
    assert "of ActionFormerHead's predictions, which lead with the batch, should be [2, " in fault


def test_a_head_without_what_teaches_it(job: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    def missing(name: str) -> None:
        raise ModuleNotFoundError(f"No module named {name!r}")

    monkeypatch.setattr(objective, "import_module", missing)
    [fault] = faults(job)
    assert "ModuleNotFoundError No module named 'tadscale.models.heads.actionformer.objective'" in fault
