"""Clips of what the teacher sees."""

import subprocess
import sys

import numpy as np
import pytest

from tadscale.data.decode import probe_video
from tadscale.data.shards import write_shards
from tadscale.data.sprites import SpritesConfig, class_names, draw_videos
from tadscale.data.windows import Window, WindowConfig
from tadscale.flow.motion import MotionConfig, build_motion
from tadscale.report.preview import CLIP_FRAMES, GAP, STRIP, previews, side_by_side

SPRITES = SpritesConfig(train=3, validation=1, test=1, size=32, duration_s=8)
WINDOW = WindowConfig(frames=40, stride_frames=40, height=32, width=32)


def _window(frames: int = 12) -> Window:
    pictures = np.random.default_rng(0).integers(0, 255, (frames, 32, 40, 3), np.uint8)
    return Window(pictures, np.ones(frames, bool), np.array([[3.0, 9.0]], np.float32), np.array([1]))


@pytest.mark.parametrize(("name", "pictures"), [("dis", 3), ("temporal_gradient_slow", 2)])
def test_pictures_stand_side_by_side_over_the_actions(name, pictures):
    shown = side_by_side(_window(), build_motion(MotionConfig(name=name)), ["fall", "jump"])
    assert shown.shape == (12, 160 + STRIP, pictures * 200 + (pictures - 1) * GAP, 3)
    assert (shown[4, 0:5, 0:5] == _window().frames[4, 0, 0]).all()  # the RGB picture, enlarged fivefold
    strip, width = shown[0, -1], shown.shape[2]
    assert (strip[: width // 4 - 2, 0] != strip[width // 2, 0]).sum() >= width // 4 - 4  # before and in the action


def test_long_windows_are_cut_to_a_short_clip():
    assert len(side_by_side(_window(CLIP_FRAMES + 30), build_motion(MotionConfig(name="dis")), ["fall", "jump"])) == (
        CLIP_FRAMES
    )


def test_damaged_videos_are_passed_over(tmp_path):
    manifest = write_shards(draw_videos(SPRITES), str(tmp_path), classes=class_names(SPRITES)).subset("train")
    [shard] = {row.url for row in manifest.rows}
    with open(shard.removeprefix("file://"), "r+b") as file:  # spoil the first video
        file.seek(manifest.row(0).video_offset)
        file.write(b"\0" * manifest.row(0).video_bytes)
    made = list(previews(manifest, WINDOW, MotionConfig(name="dis"), 2))
    assert [preview.key for preview in made] == [manifest.row(1).key, manifest.row(2).key]
    info = probe_video(made[0].clip_mp4)
    assert info.duration_s == pytest.approx(4.0)
    assert made[0].still_png.startswith(b"\x89PNG")


def test_opencv_is_imported_where_a_picture_is_written_and_not_by_every_job():
    code = "import sys, tadscale.report.preview; sys.exit('cv2' in sys.modules)"
    subprocess.run([sys.executable, "-c", code], check=True, timeout=60)
