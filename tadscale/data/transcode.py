"""Videos at another rate and size, for training."""

from typing import Annotated

import numpy as np
from pydantic import Field, PositiveFloat, PositiveInt

from tadscale.config import Config
from tadscale.data.container import MAX_PIXELS, UndecodableVideo
from tadscale.data.decode import VideoInfo, displayed_shape, stream_frames
from tadscale.data.encode import encode_pictures
from tadscale.data.windows import video_frames


class Transcode(Config):
    """Re-encode videos for training: at 112x112 and 10 fps a core decodes some 400 s of video a second, at 720p 10."""

    fps: PositiveFloat = 10.0
    """Pictures a second; that of the windows, or a multiple of it."""
    short_side: PositiveInt = 128
    """Pixels of the shorter side; smaller videos keep their size."""
    crf: Annotated[int, Field(ge=0, le=51)] = 20
    """x264 quality, 0 to 51; less is better and larger."""


def transcode_video(video: bytes, info: VideoInfo, config: Transcode) -> bytes:
    """A video at another rate and size, as H.264 in MP4; picture `k` shows the time `k / fps` of the original.

    Its pixels are square: an anamorphic video becomes as wide as it is displayed.

    Raises:
        UndecodableVideo: a picture cannot be had, or is too long and narrow.
    """
    size = _size(displayed_shape(video), config.short_side)
    times_s = np.arange(int(video_frames(info.duration_s, config.fps))) / config.fps  # [T]
    return encode_pictures(stream_frames(video, times_s, size), *size, config.fps, crf=config.crf)


def _size(shape: tuple[float, float], short_side: int) -> tuple[int, int]:
    """Height and width to encode pictures of a displayed height and width with."""
    scale = min(1.0, short_side / min(shape))
    height, width = (max(2, 2 * round(side * scale / 2)) for side in shape)  # even: 4:2:0 chroma
    if height * width > MAX_PIXELS:  # by the shape that a header says its pixels have
        raise UndecodableVideo(f"pictures of {shape[1]:.0f} x {shape[0]:.0f} (width x height) cannot be encoded")
    return height, width
