"""DIS flow by its end-point error on scenes whose flow is known, and by what it refuses."""

import numpy as np
import pytest
import torch

from benchmarks.flow_scenes import standard_scenes
from tadscale.flow.dis import Dis, DisConfig

cv2 = pytest.importorskip("cv2")


def frames_of(scenes):
    return tuple(torch.from_numpy(np.stack([getattr(s, name) for s in scenes])) for name in ("first", "second"))


@pytest.mark.parametrize(("preset", "bound_px"), [("medium", 0.2), ("fast", 0.6), ("ultrafast", 0.9)])
def test_end_point_error(preset, bound_px):
    scenes = [scene for scene in standard_scenes(160, 176) if scene.name != "translation 16 px"]
    flows = Dis(DisConfig(preset=preset)).flow(*frames_of(scenes))
    assert flows.shape == (len(scenes), 2, 160, 176) and flows.dtype == torch.float32
    errors = {scene.name: scene.end_point_error(flow.numpy()) for scene, flow in zip(scenes, flows, strict=True)}
    assert {name: error for name, error in errors.items() if error > bound_px} == {}


def test_float_frames_are_rounded_to_grey_levels():
    first, second = frames_of(standard_scenes(64, 64)[:2])
    torch.testing.assert_close(Dis().flow(first + 0.3, second - 0.3), Dis().flow(first, second))


def test_opencv_keeps_to_one_thread():
    cv2.setNumThreads(2)
    Dis().flow(*frames_of(standard_scenes(32, 32)[:1]))
    assert cv2.getNumThreads() == 1


@pytest.mark.parametrize("size", [(12, 12), (24, 96), (8, 40)])  # the last two would kill the process
def test_frames_too_small_for_opencv_are_refused(size):
    frames = torch.zeros(1, *size, dtype=torch.uint8)
    with pytest.raises(ValueError, match=f"{size[0]} x {size[1]}"):
        Dis().flow(frames, frames)


@pytest.mark.parametrize("size", [(16, 16), (40, 16), (32, 200)])
def test_small_frames_work(size):
    frames = torch.randint(0, 256, (2, *size), dtype=torch.uint8)
    assert Dis().flow(frames, frames).shape == (2, 2, *size)
