"""Videos at another rate and size: the same pictures at the same times."""

import numpy as np
import pytest

from tadscale.data.decode import decode_frames, probe_video
from tadscale.data.encode import encode_h264
from tadscale.data.quarantine import DataError
from tadscale.data.transcode import Transcode, transcode_video
from tests.data.clips import encode_clip, numbered, read_numbers


def test_transcoding_keeps_the_time_axis_of_long_and_odd_videos() -> None:
    times = [0, 3, 4, 9, *range(20, 320)]  # variable rate; longer than a chunk
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
