"""Videos at another rate and size: the same pictures at the same times."""

from fractions import Fraction

import numpy as np
import pytest

from tadscale.data.container import UndecodableVideo
from tadscale.data.crop import Crop
from tadscale.data.decode import decode_frames, probe_video
from tadscale.data.encode import encode_h264
from tadscale.data.quarantine import DataError
from tadscale.data.transcode import Transcode, transcode_video
from tests.data.clips import encode_clip, numbered, read_numbers
from tests.data.test_crop import video_of
from tests.data.test_decode import turned


def test_transcoding_keeps_the_time_axis_of_long_and_odd_videos() -> None:
    times = [0, 3, 4, 9, *range(20, 320)]  # variable rate
    video = encode_clip(numbered(len(times), 62, 128), times=times, container="matroska")
    small = transcode_video(video, probe_video(video), Transcode(fps=10, short_side=31))
    info = probe_video(small)
    assert (info.frames, info.height, info.width) == (320, 32, 64)
    asked_s = np.array([0.0, 0.2, 0.3, 0.8, 0.9, 1.9, 2.0, 25.0, 31.9])
    sizes = (62, 128)
    assert read_numbers(decode_frames(small, asked_s, sizes)) == read_numbers(decode_frames(video, asked_s, sizes))


def test_a_damaged_video_is_not_transcoded() -> None:
    video = bytearray(encode_h264(np.random.default_rng(0).integers(0, 255, (60, 64, 64, 3), np.uint8), 10))
    middle = len(video) // 2
    video[middle : middle + 5000] = bytes(5000)  # the length fields of several pictures
    with pytest.raises(DataError, match="damaged behind"):
        transcode_video(bytes(video), probe_video(bytes(video)), Transcode())


def test_a_very_flat_video_keeps_two_lines() -> None:
    video = encode_h264(numbered(10, 2, 128), 10)
    assert probe_video(transcode_video(video, probe_video(video), Transcode(short_side=1))).height == 2


def disc() -> np.ndarray:
    """A picture `[80, 96, 3]` of pixels twice as wide as high, that shows a white disc of 40 lines."""
    y, x = np.mgrid[0:80, 0:96]
    white = (y - 40) ** 2 + (2 * (x - 48)) ** 2 < 20**2
    return np.repeat(white[:, :, None] * np.uint8(200), 3, axis=2) + np.uint8(28)


def extent(picture: np.ndarray) -> tuple[int, int]:
    """Height and width of what is white."""
    white = picture.mean(-1) > 128
    return int(white.any(1).sum()), int(white.any(0).sum())


@pytest.mark.parametrize(("matrix", "shape"), [((1, 0, 0, 1), (80, 192)), ((0, 1, -1, 0), (192, 80))])
def test_an_anamorphic_video_keeps_the_shape_that_it_is_displayed_in(
    matrix: tuple[int, int, int, int], shape: tuple[int, int]
) -> None:
    video = turned(video_of(disc(), Fraction(2)), matrix)
    packed = transcode_video(video, probe_video(video), Transcode(short_side=80))
    assert (probe_video(packed).height, probe_video(packed).width) == shape
    assert extent(decode_frames(packed, np.zeros(1), shape)[0]) == pytest.approx((40, 40), abs=2)
    cut = [extent(decode_frames(each, np.zeros(1), (40, 40), Crop())[0]) for each in (video, packed)]
    assert cut == [pytest.approx((20, 20), abs=1)] * 2


def test_pictures_that_are_said_to_be_wider_than_any_are_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("tadscale.data.transcode.MAX_PIXELS", 80 * 192 - 1)
    video = video_of(disc(), Fraction(2))
    with pytest.raises(UndecodableVideo, match=r"192 x 80 \(width x height\) cannot be encoded"):
        transcode_video(video, probe_video(video), Transcode())


def test_each_picture_is_decoded_once_where_no_index_helps_to_seek(decoded: list[float]) -> None:
    """3,000 pictures of AVI were decoded 19,907 times by windows of 256."""
    video = encode_clip(numbered(600, 32, 32), container="avi", gop=600)
    info = probe_video(video)
    decoded.clear()
    transcode_video(video, info, Transcode(fps=10))
    assert len(decoded) < 610
