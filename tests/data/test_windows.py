"""Tiling covers every frame; a window's pixels and segments agree."""

from itertools import product
from pathlib import Path

import numpy as np
import pytest

from tadscale.data.augment import Augment, AugmentDraw
from tadscale.data.decode import UndecodableVideo
from tadscale.data.encode import encode_h264
from tadscale.data.features import FeatureRows
from tadscale.data.manifest import Manifest, VideoRow, make_manifest
from tadscale.data.shards import VideoSample, write_shards
from tadscale.data.storage import CorruptMember
from tadscale.data.windows import (
    WindowConfig,
    WindowTable,
    clip_segments,
    cut_window,
    drawn_start,
    load_window,
    tile,
    video_frames,
)
from tests.data.clips import numbered, read_numbers


def row(key: str, duration_s: float, **changes: object) -> VideoRow:
    facts = {"url": "u/s.tar", "subset": "train", "video_offset": 0, "video_bytes": 1, "video_sha256": "x", "fps": 10.0,
             "frames": 1, "width": 4, "height": 4, "labels": (), "start_s": (), "end_s": ()}  # fmt: skip
    return VideoRow(key=key, duration_s=duration_s, **(facts | changes))


def manifest(*durations_s: float) -> Manifest:
    return make_manifest("u", [row(f"v{i}", duration_s) for i, duration_s in enumerate(durations_s)])


@pytest.mark.parametrize(("frames", "stride"), [(16, 16), (16, 8), (16, 5), (16, 1), (1, 1)])
def test_every_frame_of_every_video_is_in_a_window(frames: int, stride: int) -> None:
    durations_s = [0.01, 0.1, 0.3, 1.5, 1.6, 1.61, 1.7, 3.2, 7.77]
    config = WindowConfig(frames=frames, stride_frames=stride, fps=10)
    windows = tile(manifest(*durations_s), config)
    for video, duration_s in enumerate(durations_s):
        total = max(1, sum(k / 10 < duration_s for k in range(1000)))  # the definition, counted
        mine = windows.video == video
        starts, valid = windows.start_frames[mine], windows.valid_frames[mine]
        covered = np.concatenate([np.arange(start, start + n) for start, n in zip(starts, valid, strict=True)])
        assert set(covered.tolist()) == set(range(total))
        assert (np.diff(starts) > 0).all()
        assert (np.diff(starts) <= stride).all()
        assert (valid == min(frames, total)).all()
        assert starts[-1] + valid[-1] == total  # aligned to the end
        assert len(starts) == 1 + -(-max(total - frames, 0) // stride)  # not one more than needed
    assert (np.diff(windows.video) >= 0).all()


def test_a_shifted_window_stays_in_its_video_and_may_begin_anywhere() -> None:
    config = WindowConfig(frames=16, stride_frames=8, fps=10, augment=Augment(shift=0.5))
    durations_s = [0.3, 1.6, 1.7, 5.0]
    starts: dict[int, set[int]] = {}
    for video, start, _ in zip(*_columns(tile(manifest(*durations_s), config)), strict=True):
        for seed in range(300):
            shifted = drawn_start(row("v", durations_s[video]), start, config, config.augment.draw(seed))
            starts.setdefault(video, set()).add(shifted)
            assert abs(shifted - start) <= 4
    assert starts == {0: {0}, 1: {0}, 2: {0, 1}, 3: set(range(35))}


def test_windows_of_features_are_shifted_within_their_rows() -> None:
    features = FeatureRows(channels=2, stride=4, offset=8, video_fps=30)
    config = WindowConfig(frames=16, stride_frames=8, fps=7.5, features=features, augment=Augment(shift=0.5))
    of_video = row("v", 100.0, frames=18)  # fewer rows than its length has room for
    starts = {drawn_start(of_video, 2, config, config.augment.draw(seed)) for seed in range(300)}
    assert starts == {0, 1, 2}


def _columns(table: WindowTable) -> tuple[list[int], list[int], list[int]]:
    return table.video.tolist(), table.start_frames.tolist(), table.valid_frames.tolist()


def test_frames_whose_time_is_the_videos_end_do_not_exist() -> None:
    for fps, frames in product([10, 25, 30, 29.97, 12.5], [1, 7, 100, 12345]):
        assert video_frames(frames / fps, fps) == frames
        assert video_frames((frames + 0.01) / fps, fps) == frames + 1


def test_a_stride_that_leaves_gaps_is_refused() -> None:
    with pytest.raises(ValueError, match=r"stride_frames=9 exceeds window\.frames=8"):
        tile(manifest(3.0), WindowConfig(frames=8, stride_frames=9))


def test_tables_and_settings_have_digests() -> None:
    config = WindowConfig(frames=8, stride_frames=4)
    digests = {tile(manifest(*d), config).digest for d in ([3.0], [3.0, 1.0], [1.0, 3.0], [3.1])}
    assert len(digests) == 4
    other = {
        "frames": 9, "stride_frames": 5, "fps": 11, "height": 8, "width": 8, "min_visible": 0.4,
        "augment": Augment(flip_probability=0.5), "sampling": "segments",
    }  # fmt: skip
    fingerprints = {config.model_copy(update={name: value}).fingerprint() for name, value in other.items()}
    assert len(fingerprints | {config.fingerprint()}) == len(other) + 1
    assert config.fingerprint() == WindowConfig(frames=8, stride_frames=4).fingerprint()


def test_segments_are_clipped_and_slivers_dropped() -> None:
    segments = np.array(
        [[-5, 5], [-9, 1], [2, 4], [15, 25], [20, 30], [-10, 90], [-90, 6], [-90, 2], [16, 16.5]], float
    )
    clipped, kept = clip_segments(segments, 16, 0.3)
    assert kept.tolist() == [True, False, True, False, False, True, True, False, False]
    np.testing.assert_array_equal(clipped, np.array([[0, 5], [2, 4], [0, 16], [0, 6]], np.float32))


VIDEO = encode_h264(numbered(40), 10, crf=10)
ROW = make_manifest(
    "u", [row("v", 4.0, labels=("b", "a", "b"), start_s=(0.5, 1.0, 3.0), end_s=(1.2, 2.05, 3.9))]
).row(0)  # fmt: skip
CONFIG = WindowConfig(frames=16, stride_frames=8, fps=10, height=64, width=128)


def test_a_window_holds_its_frames_and_its_segments() -> None:
    window = cut_window(VIDEO, ROW, 8, 16, CONFIG)
    assert read_numbers(window.frames) == list(range(8, 24))
    assert window.mask.all()
    np.testing.assert_allclose(window.segments_frames, [[0, 4], [2, 12.5]], atol=1e-5)
    assert window.labels.tolist() == [1, 0]


def test_a_short_video_leaves_the_end_of_its_window_empty() -> None:
    window = cut_window(encode_h264(numbered(5), 10), row("v", 0.5), 0, 5, CONFIG)
    assert read_numbers(window.frames[:5]) == list(range(5))
    assert not window.frames[5:].any()
    assert window.mask.tolist() == [True] * 5 + [False] * 11
    assert window.segments_frames.shape == (0, 2)
    assert window.labels.shape == (0,)


def test_a_flip_exchanges_left_and_right_of_every_frame() -> None:
    plain, flipped = (cut_window(VIDEO, ROW, 3, 16, CONFIG, AugmentDraw(1.0, 0.0, 0.0, flip)) for flip in (False, True))
    np.testing.assert_array_equal(flipped.frames, plain.frames[:, :, ::-1])


@pytest.mark.parametrize(("crop_y", "crop_x"), [(0.0, 0.0), (1.0, 1.0), (0.5, 0.25)])
def test_a_crop_shows_that_part_of_the_picture_at_full_size(crop_y: float, crop_x: float) -> None:
    y, x = np.mgrid[0:128, 0:128]
    ramps = np.stack([2 * y, 2 * x, np.full_like(x, 128)], -1).astype(np.uint8)[None].repeat(16, 0)
    config = WindowConfig(frames=16, stride_frames=8, fps=10, height=64, width=64)
    draw = AugmentDraw(0.25, crop_y, crop_x, False)  # a quarter of the area: half of each side
    window = cut_window(encode_h264(ramps, 10, crf=5), row("v", 1.6), 0, 16, config, draw)
    assert window.frames.shape == (16, 64, 64, 3)
    top, left = round(crop_y * 64), round(crop_x * 64)
    wanted = ramps[:, top : top + 64, left : left + 64].astype(int)
    assert np.abs(window.frames - wanted).max() < 12
    assert (window.frames == window.frames[:1]).mean() > 0.5  # the same crop in every frame


def test_a_window_is_loaded_by_one_ranged_read(tmp_path: Path) -> None:
    note = {"subset": "train", "annotations": [{"label": "a", "segment": [1.0, 2.0]}]}
    samples = [VideoSample(f"v{i}", encode_h264(numbered(30, first=i * 30), 10), note) for i in range(3)]
    shards = write_shards(samples, str(tmp_path))
    config = WindowConfig(frames=8, stride_frames=8, fps=10, height=64, width=128)
    window = load_window(shards.row(2), 10, 8, config)
    assert read_numbers(window.frames) == list(range(70, 78))
    np.testing.assert_allclose(window.segments_frames, [[0, 8]])
    with pytest.raises(CorruptMember):
        load_window(shards.row(2)._replace(video_offset=shards.row(1).video_offset), 10, 8, config)
    with pytest.raises(UndecodableVideo, match="no picture"):
        load_window(shards.row(2), 60, 8, config)
