"""A video on disk is read at several places at once, and as it was when it was opened."""

import io
from pathlib import Path

import pytest

from tadscale.data.stored import StoredVideo, open_video

DATA = bytes(range(256)) * 1000


@pytest.fixture
def path(tmp_path: Path) -> Path:
    (tmp_path / "clip.mp4").write_bytes(DATA)
    return tmp_path / "clip.mp4"


def test_readers_have_places_of_their_own(path: Path) -> None:
    video = StoredVideo(open(path, "rb"))  # noqa: SIM115
    first, second = video.open(), open_video(video)
    assert first.read(10) == second.read(10) == DATA[:10]
    assert second.seek(-100, io.SEEK_END) == len(DATA) - 100 and second.read() == DATA[-100:]
    assert first.tell() == 10 and first.read(3) == DATA[10:13]
    assert first.seek(5, io.SEEK_CUR) == 18
    with pytest.raises(ValueError, match="before the beginning"):
        first.seek(-1)
    assert video.read() == DATA and video.size_bytes == len(DATA)


def test_what_was_opened_is_read_and_a_file_cut_short_ends_early(path: Path) -> None:
    video = StoredVideo(open(path, "rb"))  # noqa: SIM115
    path.rename(path.with_name("moved"))
    path.write_bytes(b"another")
    assert video.read() == DATA
    with open(path.with_name("moved"), "r+b") as file:
        file.truncate(1000)
    assert video.read() == DATA[:1000]


def test_bytes_are_read_alike() -> None:
    assert open_video(DATA).read() == DATA
