import numpy as np
import pytest

from tadscale.data.encode import encode_h264
from tadscale.retrain import appearance
from tadscale.retrain.appearance import PAIRS, SIDE, look_at, look_at_video, moments_s, normal_flow
from tests.retrain.videos import row


def test_colour_is_as_a_slow_loop_finds_it():
    pairs = np.random.default_rng(0).integers(0, 256, (2, 2, 3, 4, 3), np.uint8)
    lumas, blues, reds = [], [], []
    for red, green, blue in pairs.reshape(-1, 3).tolist():
        luma = 0.299 * red + 0.587 * green + 0.114 * blue
        lumas.append(luma)
        blues.append(0.564 * (blue - luma))
        reds.append(0.713 * (red - luma))
    look = look_at(pairs)
    assert look.luma == pytest.approx(np.mean(lumas), abs=1e-3)
    assert look.contrast == pytest.approx(np.std(lumas), abs=1e-3)
    assert (look.cb, look.cr) == pytest.approx((np.mean(blues), np.mean(reds)), abs=1e-3)


@pytest.mark.parametrize("contrast", [20.0, 100.0])
@pytest.mark.parametrize("moved", [0.0, 0.25, 0.5, 1.0])
def test_speed_is_that_of_a_pattern_that_moves_whatever_its_contrast(moved, contrast):
    at = np.arange(SIDE)
    pictures = [np.tile(128 + contrast * np.sin((at - shift) * 2 * np.pi / 16), (SIDE, 1)) for shift in (0.0, moved)]
    assert normal_flow(np.array([pictures])) == pytest.approx(moved, rel=0.05, abs=1e-9)


def test_a_blank_picture_does_not_move():
    assert normal_flow(np.full((1, 2, 8, 8), 7.0)) == 0.0


@pytest.mark.parametrize("duration_s", [0.1, 0.3, 2.0, 3600.0])
def test_moments_lie_inside_the_video_in_order(duration_s):
    times = moments_s(duration_s)
    assert len(times) == 2 * PAIRS and (np.diff(times) >= 0).all()
    assert times[0] >= 0 and times[-1] < duration_s


def test_a_video_is_read_and_a_broken_one_passed_over(monkeypatch):
    frames = np.full((30, 32, 32, 3), (200, 40, 40), np.uint8)
    videos = {"v1": encode_h264(frames, fps=10.0), "v2": b"no video"}
    monkeypatch.setattr(appearance, "read_video", lambda row: videos[row.key])
    look = look_at_video(row(1, duration_s=3.0))
    assert look is not None and look.cr > 30 > look.contrast and look.speed < 1
    assert look_at_video(row(2)) is None
