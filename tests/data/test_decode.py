"""Each rule of decoding, on a clip made to break a reader that ignores it."""

import io
import struct
from fractions import Fraction
from pathlib import Path

import av
import numpy as np
import pytest

from tadscale.data.decode import HOLD_S, UndecodableVideo, decode_frames, probe_video, verify_video
from tadscale.data.encode import encode_h264
from tests.data.clips import audio_only, encode_clip, no_pictures, numbered, read_numbers, with_cover

SIZE = (64, 128)


def test_every_picture_of_a_constant_rate_video_is_found_at_its_time() -> None:
    video = encode_h264(numbered(50), 10)
    assert read_numbers(decode_frames(video, np.arange(50) / 10, SIZE)) == list(range(50))
    assert probe_video(video) == pytest.approx((5.0, 10.0, 50, 128, 64, 5.0))


@pytest.mark.parametrize("container", ["mp4", "matroska", "avi"])
@pytest.mark.parametrize("b_frames", [0, 2])
@pytest.mark.parametrize("fps", [10, Fraction(30000, 1001)])
def test_any_start_gives_the_same_pictures_as_reading_from_the_beginning(
    container: str, b_frames: int, fps: Fraction
) -> None:
    """Seeking lands on key frames, in containers that round times (Matroska) or keep decode times only (AVI)."""
    video = encode_clip(numbered(60), time_base=1 / Fraction(fps), container=container, b_frames=b_frames)
    for start in (1, 11, 12, 13, 35, 59):
        wanted = np.arange(start, min(start + 9, 60))
        assert read_numbers(decode_frames(video, wanted / float(fps), SIZE)) == wanted.tolist()


def test_variable_frame_rate_is_sampled_by_time() -> None:
    times = [0, 1, 2, 3, 10, 11, 30, 31, 32, 60]  # tenths of a second
    video = encode_clip(numbered(len(times)), times=times)
    asked_s = np.array([0.05, 0.35, 0.95, 1.0, 2.9, 3.0, 5.9, 6.0])
    assert read_numbers(decode_frames(video, asked_s, SIZE)) == [0, 3, 3, 4, 5, 6, 8, 9]
    assert read_numbers(decode_frames(video, asked_s[4:], SIZE)) == [5, 6, 8, 9]


STALL = [
    *range(35),
    *range(65, 70),
]  # tenths of a second: the recording stands still for 3 s, half a second before its end


@pytest.mark.parametrize("container", ["mp4", "matroska", "avi"])
@pytest.mark.parametrize("b_frames", [0, 1, 2, 3])
def test_the_length_of_a_video_that_stalls_is_that_of_its_times_of_display(container: str, b_frames: int) -> None:
    """Around a stall an MP4 packet of a B-frame says that it lasts 3.1 s: until the next packet is decoded."""
    if container == "avi" and b_frames:
        pytest.skip("AVI stores no times")
    video = encode_clip(numbered(40), times=STALL, container=container, b_frames=b_frames)
    assert probe_video(video).duration_s == pytest.approx(7.0, abs=2e-3)
    numbers = read_numbers(decode_frames(video, np.arange(70) / 10, SIZE))
    assert numbers == [*range(35), *[34] * 30, *range(35, 40)]


@pytest.mark.parametrize("last", [36, 37, 38, 39, 40])
def test_a_stall_at_the_very_end_does_not_make_a_video_longer(last: int) -> None:
    video = encode_clip(numbered(last), times=STALL[:last], b_frames=3)
    assert probe_video(video).duration_s == pytest.approx((STALL[last - 1] + 1) / 10)


def test_damage_behind_a_stall_ends_the_picture_before_it_on_time() -> None:
    """The picture before the damage lasts a tenth of a second, whatever its packet says."""
    clean = encode_clip(numbered(40), times=STALL, b_frames=3)
    with av.open(io.BytesIO(clean)) as container:
        packets = [packet for packet in container.demux(video=0) if packet.size]
    longest = max(range(len(packets)), key=lambda index: packets[index].duration)
    first, behind = packets[longest], packets[longest + 1]
    assert first.duration * first.time_base > 3
    damaged = bytearray(clean)
    damaged[behind.pos : behind.pos + behind.size] = bytes(behind.size)
    with pytest.raises(UndecodableVideo):
        decode_frames(bytes(damaged), np.array([8.0]), SIZE)


def test_a_time_of_display_that_was_forged_is_no_length() -> None:
    video = encode_clip(numbered(3), times=[0, 1, 10**8], container="matroska")
    with pytest.raises(UndecodableVideo, match="damaged, or to be cut into parts"):
        probe_video(video)


@pytest.mark.parametrize("container", ["mp4", "matroska"])
def test_time_zero_is_the_start_of_the_stream(container: str) -> None:
    """A stream that starts at 7 s (broadcast captures, cut files): the first picture is at 0 s all the same."""
    options = {"use_editlist": "0"} if container == "mp4" else {}  # an edit list would hide the offset
    video = encode_clip(numbered(30), times=list(range(70, 100)), container=container, options=options)
    assert read_numbers(decode_frames(video, np.array([0.0, 1.5, 2.9]), SIZE)) == [0, 15, 29]
    assert read_numbers(decode_frames(video, np.array([1.5, 2.9]), SIZE)) == [15, 29]
    assert probe_video(video).duration_s == pytest.approx(3.0)


def turned(video: bytes, matrix: tuple[int, int, int, int]) -> bytes:
    """The same MP4 file with `a b c d` of its track header's display matrix replaced (16.16 fixed point)."""
    a, b, c, d = (value << 16 for value in matrix)
    at = video.index(b"tkhd") + 4 + 40  # version and flags, times, ids, layer, group, volume
    return video[:at] + struct.pack(">9i", a, b, 0, c, d, 0, 0, 0, 1 << 30) + video[at + 36 :]


@pytest.mark.parametrize(
    ("matrix", "quarter_turns"),  # anticlockwise
    [((1, 0, 0, 1), 0), ((0, 1, -1, 0), 3), ((-1, 0, 0, -1), 2), ((0, -1, 1, 0), 1)],
)
def test_rotation_is_applied(matrix: tuple[int, int, int, int], quarter_turns: int) -> None:
    """Phones write pictures as the sensor stands, and how to turn them beside."""
    upright = numbered(5)
    upright[:, :32] //= 2  # tell top from bottom
    video = turned(encode_h264(upright, 10, crf=10), matrix)
    wanted = np.rot90(upright, quarter_turns, axes=(1, 2))
    frames = decode_frames(video, np.arange(5) / 10, wanted.shape[1:3])
    assert np.abs(frames.astype(int) - wanted).mean() < 5
    assert (probe_video(video).height, probe_video(video).width) == wanted.shape[1:3]


@pytest.mark.parametrize(
    ("matrix", "axes", "swapped"),  # directions of the stored rows and columns; whether rows become columns
    [
        ((-1, 0, 0, 1), (1, -1), False),
        ((1, 0, 0, -1), (-1, 1), False),
        ((0, 1, 1, 0), (1, 1), True),
        ((0, -1, -1, 0), (-1, -1), True),
    ],
)
def test_a_mirrored_video_is_shown_as_in_the_mirror(
    matrix: tuple[int, int, int, int], axes: tuple[int, int], swapped: bool
) -> None:
    """Front cameras write such, and a turn alone puts them upside down."""
    stored = numbered(5)
    stored[:, :32] //= 2  # tell top from bottom
    wanted = stored[:, :: axes[0], :: axes[1]]
    wanted = wanted.swapaxes(1, 2) if swapped else wanted
    video = turned(encode_h264(stored, 10, crf=10), matrix)
    frames = decode_frames(video, np.arange(5) / 10, wanted.shape[1:3])
    assert np.abs(frames.astype(int) - wanted).mean() < 5
    assert (probe_video(video).height, probe_video(video).width) == wanted.shape[1:3]


def test_size_may_change_in_mid_stream() -> None:
    pictures = [*numbered(5, 64, 128), *numbered(5, 96, 256, first=5)]
    video = encode_clip(pictures, codec="mjpeg", container="matroska")
    assert read_numbers(decode_frames(video, np.arange(10) / 10, SIZE)) == list(range(10))


def test_a_cover_picture_is_not_the_video() -> None:
    video = with_cover(numbered(20))
    assert probe_video(video).frames == 20
    assert read_numbers(decode_frames(video, np.arange(20) / 10, SIZE)) == list(range(20))
    with pytest.raises(UndecodableVideo, match="only a cover picture"):
        probe_video(with_cover([]))


def test_damage_ends_the_video_and_leaves_what_came_before() -> None:
    """Bits flipped in mid-stream: a picture is right, or it is refused."""
    pictures = _moving(100)
    clean = encode_h264(pictures, 10)
    whole = decode_frames(clean, np.arange(100) / 10, (96, 128)).astype(int)
    rng = np.random.default_rng(0)
    delivered = wrong = refused = 0
    for _ in range(12):
        damaged = bytearray(clean)
        for at in rng.integers(clean.index(b"mdat") + 3000, len(clean) - 3000, 3):
            damaged[at] ^= 1 << rng.integers(8)
        for start in range(0, 100, 10):
            try:
                frames = decode_frames(bytes(damaged), np.arange(start, start + 10) / 10, (96, 128))
            except UndecodableVideo:
                refused += 10
                continue
            delivered += 10
            wrong += int((np.abs(frames - whole[start : start + 10]).max(axis=(1, 2, 3)) > 8).sum())
    assert delivered > 300  # windows before the damage and from the next key frame on survive
    assert refused > 100
    assert wrong < 0.1 * delivered  # a flip inside a picture's residual can be undetectable


def _moving(count: int) -> np.ndarray:
    y, x = np.mgrid[0:96, 0:128]
    rng = np.random.default_rng(1)
    frames = np.stack(
        [np.stack([128 + 80 * np.sin(x / 17 + t / 9), 128 + 80 * np.cos(y / 13 - t / 7), (x + y + 2 * t) % 256], -1)
         for t in range(count)]
    ).astype(np.uint8)  # fmt: skip
    frames[:, 20:40, 20:40] = rng.integers(0, 255, (count, 20, 20, 3))
    return frames


def test_a_file_cut_short_is_as_long_as_what_is_left() -> None:
    video = encode_clip(numbered(100), container="matroska")
    cut = video[: len(video) // 2]
    info = probe_video(cut)
    assert 2 < info.duration_s < 8
    last = info.frames - 2  # the last packet may be cut, too
    assert read_numbers(decode_frames(cut, np.array([last / 10]), SIZE)) == [last]
    with pytest.raises(UndecodableVideo, match=r"no picture at 9\.5"):
        decode_frames(cut, np.array([0.0, 9.5]), SIZE)


def test_the_last_picture_holds_for_a_moment_and_no_longer() -> None:
    video = encode_h264(numbered(10), 10)
    assert read_numbers(decode_frames(video, np.array([0.9, 1.0 + HOLD_S - 0.1]), SIZE)) == [9, 9]
    with pytest.raises(UndecodableVideo, match=r"no picture at 3\.000 s: the last one ends at 1"):
        decode_frames(video, np.array([0.9, 3.0]), SIZE)


@pytest.mark.parametrize(
    ("video", "reason"),
    [
        (b"", "not a readable container"),
        (b"\0" * 5000, "not a readable container"),
        (encode_h264(numbered(3), 10)[:-100], "not a readable container"),  # an MP4 file without its index
        (audio_only(), "audio only"),
        (no_pictures(), "zero length"),
    ],
)
def test_what_is_no_video_is_refused_with_a_reason(video: bytes, reason: str) -> None:
    with pytest.raises(UndecodableVideo, match=reason):
        probe_video(video)
    with pytest.raises(UndecodableVideo, match=reason):
        decode_frames(video, np.zeros(1), SIZE)


def test_a_playlist_cannot_make_us_open_other_files(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """FFmpeg takes a concat script for a container, and opens the files that it names."""
    (tmp_path / "other.ts").write_bytes(encode_clip(numbered(30), container="mpegts"))
    monkeypatch.chdir(tmp_path)
    script = b"ffconcat version 1.0\nfile 'other.ts'\n"
    assert av.open(io.BytesIO(script)).streams.video, "the script works where nothing forbids it"
    with pytest.raises(UndecodableVideo, match="not a readable container"):
        probe_video(script)


def test_a_picture_larger_than_any_camera_makes_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("tadscale.data.container.MAX_PIXELS", 64 * 128 - 1)
    with pytest.raises(UndecodableVideo, match="damaged"):
        decode_frames(encode_h264(numbered(3), 10), np.zeros(1), SIZE)


def test_running_out_of_memory_is_the_systems_fault_unless_the_file_asks_too_much(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    def fail(*_: object, **__: object) -> None:
        raise av.error.MemoryError(12, "Cannot allocate memory")

    monkeypatch.setattr(av, "open", fail)
    with pytest.raises(UndecodableVideo, match="Cannot allocate memory"):
        probe_video(b"a forged header, on a machine with memory to spare")
    monkeypatch.setattr("tadscale.data.container._memory_left", lambda: False)
    with pytest.raises(MemoryError):
        probe_video(b"any")


@pytest.mark.parametrize("container", ["mp4", "matroska", "avi"])
def test_no_damage_whatever_raises_anything_but_a_data_error(container: str) -> None:
    """Random bytes anywhere: in headers, names, tables, pictures."""
    clean = encode_clip(numbered(40), container=container, b_frames=2)
    rng = np.random.default_rng(0)
    refused = 0
    for trial in range(120):
        damaged = bytearray(clean)
        for at in rng.integers(0, len(clean), 6):
            damaged[at] = rng.integers(256)
        video = bytes(damaged[: rng.integers(len(clean)) if trial % 4 == 0 else None])
        for read in (probe_video, verify_video, lambda v: decode_frames(v, np.array([1.0, 2.0]), (32, 64))):
            try:
                read(video)
            except UndecodableVideo:
                refused += 1
    assert 50 < refused < 350


def test_tags_in_any_encoding_do_not_matter() -> None:
    """Old files carry titles in Latin-1."""
    video = encode_clip(numbered(5), container="matroska").replace(b"Lavf", b"\xe9\xe8\xfc\xff")
    assert probe_video(video).frames == 5


def test_colours_survive() -> None:
    """Primaries, black and white through limited-range YUV and back."""
    colours = np.array([[255, 255, 255], [0, 0, 0], [220, 30, 30], [30, 200, 40], [40, 40, 210]], np.uint8)
    pictures = np.broadcast_to(colours[:, None, None], (5, 64, 64, 3)).copy()
    frames = decode_frames(encode_h264(pictures, 10, crf=5), np.arange(5) / 10, (64, 64))
    assert np.abs(frames.astype(int) - pictures).max() <= 4


def test_resizing_averages_and_does_not_skip_pixels() -> None:
    checks = np.indices((128, 128)).sum(0) % 2 * 255  # [128, 128], one-pixel checkerboard
    pictures = np.repeat(checks.astype(np.uint8)[None, :, :, None], 3, axis=3)  # [1, 128, 128, 3]
    small = decode_frames(encode_h264(pictures, 10, crf=5), np.zeros(1), (32, 32))
    assert small.shape == (1, 32, 32, 3)
    assert np.abs(small.astype(int) - 127).max() < 12


CLIPS = {  # duration_s, fps, frames, width, height, as FFmpeg's own tools count them
    "nasa_13013.mp4": (13.013, 29.97, 390, 480, 270),  # two video streams: FFmpeg's choice is the larger
    "av1_video.mkv": (5.0, 25.0, 125, 640, 360),
    "h265_video.mp4": (1.0, 10.0, 10, 128, 128),
    "h264_10bits.mp4": (1.0, 30.0, 30, 200, 200),
    "h265_10bits.mp4": (1.0, 30.0, 30, 200, 200),
    "bt709_full_range.mp4": (1.0, 30.0, 30, 1280, 720),
    "test.mp4": (10.0, 30.0, 300, 340, 256),
    "test.avi": (6.56, 25.0, 164, 320, 240),  # MPEG-4 with packed B-frames
}


@pytest.mark.parametrize("name", CLIPS)
def test_real_clips(shared_data: Path, name: str) -> None:
    video = (shared_data / "clips" / name).read_bytes()
    info = probe_video(video)
    assert info[:5] == pytest.approx(CLIPS[name], rel=1e-3)
    assert info.promised_s == pytest.approx(info.duration_s, rel=0.01)  # nothing is missing
    times_s = np.arange(0, info.duration_s - 1e-6, 0.1)
    frames = decode_frames(video, times_s, (64, 64))
    assert frames.shape == (len(times_s), 64, 64, 3)
    for start in (1, len(times_s) // 2, len(times_s) - 1):
        np.testing.assert_array_equal(decode_frames(video, times_s[start:], (64, 64)), frames[start:])


def test_a_real_clip_agrees_with_opencv(shared_data: Path) -> None:
    """An independent reader of the same file: every third picture of a constant-rate clip."""
    cv2 = pytest.importorskip("cv2")
    path = shared_data / "clips" / "test.mp4"
    reader = cv2.VideoCapture(str(path))
    reference = [reader.read()[1][:, :, ::-1] for _ in range(60)]
    frames = decode_frames(path.read_bytes(), np.arange(0, 60, 3) / 30, reference[0].shape[:2])
    for frame, wanted in zip(frames, reference[::3], strict=True):
        assert np.abs(frame.astype(int) - wanted).mean() < 2


def test_full_range_hd_colours_are_converted_by_their_own_matrix(shared_data: Path) -> None:
    """BT.709, full range: checked against the matrix itself, on the decoder's raw planes."""
    video = (shared_data / "clips" / "bt709_full_range.mp4").read_bytes()
    with av.open(io.BytesIO(video)) as container:
        picture = next(container.decode(video=0))
        planes = [np.frombuffer(p, np.uint8).reshape(p.height, p.line_size)[:, : p.width] for p in picture.planes]
    luma = planes[0].astype(float)
    cb, cr = (np.kron(plane.astype(float) - 128, np.ones((2, 2))) for plane in planes[1:])
    wanted = np.stack([luma + 1.5748 * cr, luma - 0.1873 * cb - 0.4681 * cr, luma + 1.8556 * cb], -1).clip(0, 255)
    frames = decode_frames(video, np.zeros(1), luma.shape)
    assert np.abs(frames[0] - wanted).mean() < 2
