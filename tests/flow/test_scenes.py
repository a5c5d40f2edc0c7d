"""The benchmark's scenes must be true themselves: what they call the flow is where the texture went."""

import numpy as np
import pytest

from benchmarks.flow_scenes import (
    PICTURE_BORDER_PX,
    affine,
    moving_object,
    moving_picture,
    moving_texture,
    picture_scenes,
    standard_scenes,
)


def test_whole_pixel_translation_moves_the_picture():
    scene = moving_texture("shift", 20, 30, affine(20, 30, shift_px=(4, -2)))
    assert (scene.flow[0] == 4).all() and (scene.flow[1] == -2).all()
    np.testing.assert_array_equal(scene.second[:-2, 4:], scene.first[2:, :-4])
    assert scene.visible.sum() == (20 - 2) * (30 - 4)


def test_rotation_turns_about_the_centre():
    scene = moving_texture("turn", 21, 21, affine(21, 21, degrees=90))
    np.testing.assert_array_equal(scene.second, np.rot90(scene.first, k=-1))  # x to the right becomes y down
    np.testing.assert_allclose(scene.flow[:, 10, 20], [-10, 10], atol=1e-9)


def test_zoom_keeps_the_centre_and_spreads_the_rest():
    scene = moving_texture("zoom", 11, 11, affine(11, 11, zoom=2))
    np.testing.assert_allclose(scene.flow[:, 5, 5], 0, atol=1e-9)
    np.testing.assert_allclose(scene.flow[:, 5, 7], [2, 0], atol=1e-9)
    np.testing.assert_array_equal(scene.second[1::2, 1::2], scene.first[3:-3, 3:-3])


def test_object_covers_what_it_moves_over():
    background, motion = affine(40, 40), affine(40, 40, shift_px=(5, 0))
    scene = moving_object("object", 40, 40, background, motion)
    assert scene.flow[0, 20, 20] == 5 and scene.flow[0, 2, 2] == 0
    inside = scene.flow[0] == 5
    covered = ~inside & np.roll(inside, 5, axis=1)
    np.testing.assert_array_equal(~scene.visible, covered)
    np.testing.assert_array_equal(scene.second[np.roll(inside, 5, axis=1)], scene.first[inside])


def test_end_point_error_counts_visible_pixels_alone():
    scene = moving_texture("shift", 16, 16, affine(16, 16, shift_px=(8, 0)))
    estimate = scene.flow + np.array([3.0, 4.0]).reshape(2, 1, 1)
    estimate[:, ~scene.visible] = 1e6
    assert scene.end_point_error(estimate) == pytest.approx(5)


def test_standard_scenes_have_texture_and_differ():
    scenes = standard_scenes(48, 64)
    assert len({scene.name for scene in scenes}) == len(scenes)
    assert all(scene.first.std() > 20 and scene.visible.mean() > 0.4 for scene in scenes)


def test_a_picture_moves_by_twice_its_half():
    border = PICTURE_BORDER_PX
    picture = np.random.default_rng(0).integers(0, 256, (20 + 2 * border, 30 + 2 * border), dtype=np.uint8)
    scene = moving_picture("shift", picture, affine(20, 30, shift_px=(2, -1)))
    assert (scene.flow[0] == 4).all() and (scene.flow[1] == -2).all()
    np.testing.assert_array_equal(scene.first, picture[border - 1 : border + 19, border + 2 : border + 32])
    np.testing.assert_array_equal(scene.second[:-2, 4:], scene.first[2:, :-4])


def test_noise_is_each_frames_own():
    picture = np.full((20 + 2 * PICTURE_BORDER_PX, 30 + 2 * PICTURE_BORDER_PX), 128, np.uint8)
    for scene in picture_scenes(picture, noise=4):
        difference = scene.first.astype(float) - scene.second
        assert difference.std() == pytest.approx(4 * 2**0.5, rel=0.15)
