"""One clip of each kind of file that is fetched in part, or is not: containers, places of the index, timings.

They are of a megabyte and stand for videos of a hundred: `small_blocks` makes blocks as much smaller.
"""

import io
import tempfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from fractions import Fraction
from functools import lru_cache
from pathlib import Path
from typing import NamedTuple

import av
import numpy as np
import pytest

from tadscale.data.manifest import VideoRow, read_manifest
from tadscale.data.shards import VideoSample, write_shards
from tests.data.clips import encode_clip

BLOCK = 16 << 10
SIZE = (96, 160)
PICTURES, GOP, FPS = 250, 25, 25
BASE = Fraction(1, FPS)
NOTE = {"subset": "train", "annotations": [{"label": "a", "segment": [1.0, 2.0]}]}


@contextmanager
def small_blocks() -> Iterator[None]:
    """Blocks of 16 KiB, also of files of a megabyte."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("tadscale.data.survey.WHOLE_BYTES", 4 * BLOCK)
        patch.setattr("tadscale.data.survey.BLOCK_BYTES", BLOCK)
        patch.setattr("tadscale.data.fetching.NEXT_KEY_BYTES", BLOCK)
        patch.setattr("tadscale.data.blocks.GAP_BYTES", 2 * BLOCK)
        yield


@lru_cache
def moving() -> list[np.ndarray]:
    """A rough picture that drifts, with some noise of its own in each: there are no key frames but those asked for."""
    rng = np.random.default_rng(0)
    base = rng.integers(30, 200, (SIZE[0] // 4, SIZE[1] // 4, 3)).repeat(4, 0).repeat(4, 1)
    noise = rng.integers(0, 60, (PICTURES, *SIZE, 1))
    return [(np.roll(base, nth // 2, axis=1) + noise[nth]).astype(np.uint8) for nth in range(PICTURES)]


def clip(pictures: int = PICTURES, **changes: object) -> bytes:
    """The drift, as `encode_clip` encodes it."""
    return encode_clip(moving()[:pictures], **({"time_base": BASE, "gop": GOP} | changes))


def index_in_front(video: bytes) -> bytes:
    """The same packets in an MP4 whose `moov` comes first. FFmpeg needs a file for it, which it writes twice."""
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder, "clip.mp4")
        with av.open(io.BytesIO(video)) as given, av.open(str(path), "w", options={"movflags": "faststart"}) as output:
            stream = output.add_stream_from_template(given.streams.video[0])
            for packet in given.demux(video=0):
                if packet.size:
                    packet.stream = stream
                    output.mux(packet)
        return path.read_bytes()


def with_sound(video: bytes, container: str) -> bytes:
    """The same pictures, noise beside them."""
    buffer, rng = io.BytesIO(), np.random.default_rng(1)
    with av.open(io.BytesIO(video)) as given, av.open(buffer, "w", format=container) as output:
        stream = output.add_stream_from_template(given.streams.video[0])
        sound = output.add_stream("aac", rate=16000)
        for nth, packet in enumerate(packet for packet in given.demux(video=0) if packet.size):
            packet.stream = stream
            output.mux(packet)
            samples = rng.normal(0, 0.2, (1, 16000 // FPS)).astype(np.float32)
            frame = av.AudioFrame.from_ndarray(samples, format="fltp", layout="mono")
            frame.sample_rate, frame.pts = 16000, nth * 16000 // FPS
            output.mux(sound.encode(frame))
        output.mux(sound.encode(None))
    return buffer.getvalue()


class Kind(NamedTuple):
    """A kind of file."""

    make: Callable[[], bytes]
    in_part: bool = True
    """Whether windows of it are fetched without the rest."""


LATE = [*range(70, 70 + PICTURES)]
GAPS = np.random.default_rng(2).choice([1, 1, 1, 2, 5, 40], PICTURES, p=[0.3, 0.3, 0.2, 0.1, 0.08, 0.02])
VARIABLE = np.cumsum(GAPS).tolist()
FRAGMENTS = {"movflags": "frag_keyframe+empty_moov"}
KINDS = {
    "mp4": Kind(clip),
    "mp4, index in front": Kind(lambda: index_in_front(clip(b_frames=3))),
    "mp4, variable rate": Kind(lambda: clip(times=VARIABLE)),
    "mp4, variable rate, B-frames": Kind(lambda: clip(times=VARIABLE, b_frames=2)),
    "mp4, edit list": Kind(lambda: clip(times=LATE, b_frames=2)),
    "mp4, starts late without one": Kind(lambda: clip(times=LATE, options={"use_editlist": "0"})),
    "mp4, sound": Kind(lambda: with_sound(clip(b_frames=3), "mp4")),
    "mp4, only key frames": Kind(lambda: clip(gop=1)),
    "mp4, fragments": Kind(lambda: clip(options=FRAGMENTS), False),
    "matroska": Kind(lambda: clip(b_frames=2, container="matroska")),
    "matroska, sound": Kind(lambda: with_sound(clip(b_frames=3), "matroska")),
    "webm": Kind(lambda: clip(container="webm", codec="libvpx")),
    "ts": Kind(lambda: clip(b_frames=2, container="mpegts"), False),
    "avi": Kind(lambda: clip(container="avi"), False),
}


def packed(video: bytes, url: str) -> VideoRow:
    """The video's row, after packing it alone."""
    write_shards([VideoSample("v", video, NOTE)], url)
    return read_manifest(url).row(0)
