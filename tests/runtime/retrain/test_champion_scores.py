"""The champion's confidence in new videos, by the predictor that serves it."""

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from tadscale.network import save_network
from tadscale.retrain.config import DriftConfig
from tadscale.retrain.profile import profile_of, video_digest
from tadscale.runtime.retrain import champion_scores
from tadscale.runtime.retrain.champion_scores import confidence_shift
from tests.retrain.videos import manifest, row
from tests.serving.tiny import SPEC, clip, student_weights

CHAMPION: Any = SimpleNamespace(name="tiny", version=1)
CONFIG = DriftConfig(min_videos=5, score_videos=6)


@pytest.fixture
def registry(tmp_path: Path) -> Any:
    save_network(str(tmp_path / "network"), SPEC, student_weights())

    @contextmanager
    def fetch(name: str, version: int) -> Iterator[Path]:
        yield tmp_path / "network"

    return SimpleNamespace(fetch=fetch)


@pytest.fixture
def read(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """The videos that were read; one of them is none."""
    seen: list[str] = []

    def read_video(video: Any) -> bytes:
        seen.append(video.key)
        return b"no video" if video.key == "v3" else clip(1.0, seed=int(video.key[1:]))

    monkeypatch.setattr(champion_scores, "read_video", read_video)
    return seen


def test_a_bounded_number_is_looked_at_and_what_is_far_from_the_test_videos_has_moved(registry, read):
    new = [row(index) for index in range(20)]
    sure = profile_of(manifest(1), [], lambda video: None, [0.99 + index / 10000 for index in range(60)])
    shift = confidence_shift(registry, CHAMPION, sure, new, CONFIG)
    assert shift is not None and shift.size == 1.0 and shift.moved
    assert read == [video.key for video in sorted(new, key=video_digest)[:6]]


def test_too_few_and_none_wanted_are_not_looked_at(registry, read):
    unknown = profile_of(manifest(1), [], lambda video: None, [0.5] * 4)
    known = profile_of(manifest(1), [], lambda video: None, [0.5] * 40)
    new = [row(index) for index in range(20)]
    assert confidence_shift(registry, CHAMPION, unknown, new, CONFIG) is None
    assert confidence_shift(registry, CHAMPION, known, new[:4], CONFIG) is None
    assert confidence_shift(registry, CHAMPION, known, new, DriftConfig(score_videos=0)) is None
    assert read == []
