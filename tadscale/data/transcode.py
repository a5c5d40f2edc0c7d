"""Videos at another rate and size, for training."""

from collections.abc import Iterator
from typing import Annotated

import numpy as np
from numpy.typing import NDArray
from pydantic import Field, PositiveFloat, PositiveInt

from tadscale.config import Config
from tadscale.data.decode import VideoInfo, decode_frames
from tadscale.data.encode import encode_pictures
from tadscale.data.windows import video_frames

CHUNK_FRAMES = 256


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

    Raises:
        UndecodableVideo: a picture cannot be had.
    """
    scale = min(1.0, config.short_side / min(info.height, info.width))
    height, width = (max(2, 2 * round(side * scale / 2)) for side in (info.height, info.width))  # even: 4:2:0 chroma
    times_s = np.arange(int(video_frames(info.duration_s, config.fps))) / config.fps  # [T]

    def pictures() -> Iterator[NDArray[np.uint8]]:
        for first in range(0, len(times_s), CHUNK_FRAMES):  # an hour of pictures does not fit into memory
            yield from decode_frames(video, times_s[first : first + CHUNK_FRAMES], (height, width))

    return encode_pictures(pictures(), height, width, config.fps, crf=config.crf)
