"""Frames of a stream are those of the same file, and what is lost on the way is passed over."""

import io
import os
import threading
from pathlib import Path

import av
import numpy as np
import pytest

from tadscale.data.decode import UndecodableVideo, probe_video
from tadscale.data.windows import WindowConfig, read_frames, video_frames
from tadscale.serving.download import UnavailableVideo
from tadscale.serving.live_frames import _Sampler, live_frames
from tests.serving.tiny import SPEC, clip

WINDOW = SPEC.window


def as_stream(video: bytes) -> bytes:
    """The same packets in MPEG-TS, which can be read forward only."""
    out = io.BytesIO()
    with av.open(io.BytesIO(video)) as read, av.open(out, "w", format="mpegts") as write:
        source = read.streams.video[0]
        target = write.add_stream_from_template(source)
        for packet in read.demux(source):
            if packet.dts is not None:
                packet.stream = target
                write.mux(packet)
    return out.getvalue()


def expected(video: bytes, window: WindowConfig = WINDOW) -> np.ndarray:
    count = int(video_frames(probe_video(video).duration_s, WINDOW.fps))
    return read_frames(video, 0, count, window)


@pytest.mark.parametrize("window", [WINDOW, WINDOW.model_copy(update={"resize": "crop", "width": 20})])
def test_a_file_gives_the_frames_that_evaluation_reads(video: bytes, tmp_path: Path, window: WindowConfig) -> None:
    (tmp_path / "clip.mp4").write_bytes(video)
    frames = list(live_frames(str(tmp_path / "clip.mp4"), window))
    np.testing.assert_array_equal(np.stack(frames), expected(video, window))


def test_a_pipe_gives_frames_while_it_is_being_written(video: bytes) -> None:
    stream, (read, write) = as_stream(video), os.pipe()
    cut, first_came = len(stream) * 3 // 4, threading.Event()

    def slowly() -> None:
        with os.fdopen(write, "wb") as pipe:
            pipe.write(stream[:cut])
            pipe.flush()
            assert first_came.wait(20)  # else the reader waits for the end
            pipe.write(stream[cut:])

    writer = threading.Thread(target=slowly, daemon=True)
    writer.start()
    with os.fdopen(read, "rb") as pipe:
        frames = []
        for frame in live_frames(pipe, WINDOW):
            first_came.set()
            frames.append(frame)
    writer.join(20)
    np.testing.assert_array_equal(np.stack(frames), expected(video))


@pytest.mark.parametrize("begun", [False, True])
def test_a_pipe_that_falls_silent_ends_with_an_error(
    video: bytes, begun: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("tadscale.serving.live_frames.SILENCE_S", 0.5)
    read, write = os.pipe()
    hung = threading.Timer(20, os.close, [write])  # else the test would hang with what it tests
    hung.start()
    stream = as_stream(video)
    feeder = threading.Thread(target=os.write, args=(write, stream if begun else b""), daemon=True)
    feeder.start()
    frames = []
    with os.fdopen(read, "rb") as pipe, pytest.raises(UnavailableVideo, match=r"the pipe has been silent for 0\.5 s"):
        frames.extend(live_frames(pipe, WINDOW))
    hung.cancel()
    os.close(write)
    assert bool(frames) == begun


def test_bytes_in_memory_may_stand_for_a_pipe(video: bytes) -> None:
    frames = list(live_frames(io.BytesIO(as_stream(video)), WINDOW))
    np.testing.assert_array_equal(np.stack(frames), expected(video))


def test_damage_is_passed_over_and_the_clock_goes_on(tmp_path: Path) -> None:
    video = clip(20.0)
    stream = bytearray(as_stream(video))
    middle = len(stream) // 2 // 188 * 188
    stream[middle : middle + 188 * 40] = b""  # forty packets of the transport stream are lost
    (tmp_path / "clip.ts").write_bytes(stream)
    frames, wanted = list(live_frames(str(tmp_path / "clip.ts"), WINDOW)), expected(video)
    assert len(frames) == len(wanted)
    same = [bool((got == true).all()) for got, true in zip(frames, wanted, strict=True)]
    assert all(same[:50]) and all(same[-50:]) and not all(same)


@pytest.mark.parametrize("source", ["none.mp4", "text.mp4", "sound.wav"])
def test_what_is_no_stream_is_said(source: str, tmp_path: Path) -> None:
    (tmp_path / "text.mp4").write_text("no video")
    with av.open(str(tmp_path / "sound.wav"), "w") as container:
        sound = container.add_stream("pcm_s16le", rate=8000)
        frame = av.AudioFrame.from_ndarray(np.zeros((1, 800), np.int16), layout="mono")
        frame.sample_rate = 8000
        container.mux(sound.encode(frame))
    with pytest.raises((UnavailableVideo, UndecodableVideo), match=source):
        next(live_frames(str(tmp_path / source), WINDOW))


def test_a_clock_that_jumps_is_taken_for_set_anew() -> None:
    sampler = _Sampler(10.0)
    stamps = [100.0, 100.2, 100.4, 5000.0, 5000.2, 3.0, 3.3]
    assert [sampler.due(stamp) for stamp in stamps] == [0, 2, 2, 1, 2, 1, 3]
    assert sampler.due_at_end(0.2) == 2
