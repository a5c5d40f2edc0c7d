"""What a registered version costs."""

from collections.abc import Callable, Collection, Iterator
from contextlib import contextmanager
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from tadscale.data.manifest import Manifest, read_manifest
from tadscale.data.quarantine import DataError
from tadscale.errors import UserError
from tadscale.runtime.jobs.gate import contender
from tests.runtime.conftest import save_untrained

FETCH_S, FIRST_S, DETECT_S, LASTS_S = 100.0, 50.0, 3.0, 6.0


@pytest.fixture
def videos(sprites: str) -> Manifest:
    """Three, of 6 seconds each."""
    return read_manifest(sprites).subset("test")


@pytest.fixture
def pace(
    videos: Manifest, make_stage: Callable[..., Any], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> Callable[[Collection[int]], float | None]:
    """Measures a detector on a clock that stands still but for its work and the storage's; some videos may be torn."""
    url = save_untrained(make_stage(tmp_path / "x"), tmp_path / "package", seed=0)
    clock, seen = [0.0], []

    def detect(video: Any, name: str) -> tuple[float, list[Any]]:
        clock[0] += DETECT_S if seen else FIRST_S
        if video is None:
            raise DataError("torn")
        seen.append(name)
        return LASTS_S, []

    @contextmanager
    def fetch(*version: Any) -> Iterator[Path]:
        yield Path(url)

    def measure(torn: Collection[int] = ()) -> float | None:
        def read(row: Any) -> bytes | None:
            clock[0] += FETCH_S
            return None if row.key in {videos.row(index).key for index in torn} else b"video"

        monkeypatch.setattr(contender, "read_video", read)
        version = SimpleNamespace(name="n", version=1)
        laid = contender.lay_out(SimpleNamespace(fetch=fetch), version, str(tmp_path), videos)  # type: ignore[arg-type]
        return laid.cost.seconds_per_video_second

    monkeypatch.setattr(contender, "time", SimpleNamespace(perf_counter=lambda: clock[0]))
    monkeypatch.setattr(contender.Predictor, "from_directory", lambda folder: SimpleNamespace(detect=detect))
    return measure


def test_neither_fetching_nor_what_comes_once_is_a_detector_s_pace(pace):
    assert pace() == DETECT_S / LASTS_S


@pytest.mark.parametrize("torn", [(0,), (1,), (0, 1), (0, 2)])
def test_videos_that_cannot_be_decoded_are_passed_over(pace, torn):
    assert pace(torn) == DETECT_S / LASTS_S


def test_where_none_can_be_decoded_that_is_said(pace):
    with pytest.raises(UserError, match=r"no video of .* can be decoded"):
        pace((0, 1, 2))
