"""Motion as pictures."""

import numpy as np
import pytest
import torch

from tadscale.flow.codes import ZERO, changed_view, motion_pictures
from tadscale.flow.motion import MotionConfig, build_motion
from tadscale.flow.precomputed import Precomputed


def test_fields_come_back_to_half_a_step():
    motion = torch.rand(2, 5, 7, 9) * 2 - 1
    read = Precomputed()(torch.from_numpy(motion_pictures(motion.numpy()))[None])
    assert read.shape == (1, 2, 5, 7, 9)
    assert (read[0] - motion).abs().max() <= 0.5 / 127 + 1e-6


def test_the_bounds_and_zero_are_exact():
    motion = np.array([-2.0, -1.0, 0.0, 1.0, 3.0], np.float32).reshape(1, 5, 1, 1).repeat(2, axis=0)
    assert Precomputed()(torch.from_numpy(motion_pictures(motion))[None])[0, 0].flatten().tolist() == [-1, -1, 0, 1, 1]


def test_a_mirrored_enlarged_view_moves_the_other_way_and_faster():
    motion = torch.rand(2, 3, 8, 8) - 0.5  # what is enlarged by 1.5 stays below the bound
    pictures = motion_pictures(motion.numpy())
    seen = Precomputed()(torch.from_numpy(changed_view(pictures[:, :, ::-1], zoom=1.5, flip=True))[None])[0]
    expected = torch.stack([-motion[0], motion[1]]).flip(-1) * 1.5
    assert (seen - expected).abs().max() <= (1.5 * 0.5 + 0.5) / 127 + 1e-6


def test_a_view_that_moves_too_fast_is_clipped():
    fast = motion_pictures(np.full((2, 1, 1, 1), -0.9, np.float32))
    assert changed_view(fast, zoom=2.0, flip=False)[0, 0, 0].tolist() == [1, 1, ZERO]
    assert changed_view(fast, zoom=2.0, flip=True)[0, 0, 0].tolist() == [255, 1, ZERO]


def test_the_name_and_the_place_go_together():
    assert isinstance(build_motion(MotionConfig(name="precomputed", flow_url="s3://bucket/flow")), Precomputed)
    with pytest.raises(ValueError, match="flow_url says where"):
        MotionConfig(name="precomputed")
    with pytest.raises(ValueError, match="flow_url says where"):
        MotionConfig(name="dis", flow_url="s3://bucket/flow")
    with pytest.raises(ValueError, match="bounded already"):
        MotionConfig(name="precomputed", flow_url="x", clip_px=3.0)


def test_frames_of_another_kind_are_refused():
    with pytest.raises(ValueError, match="uint8 pictures"):
        Precomputed()(torch.zeros(1, 2, 8, 8, 3))
