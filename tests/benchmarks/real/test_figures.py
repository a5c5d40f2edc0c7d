"""Figures: seen from the right side, in the right place and size, and standing out from what is behind them."""

import numpy as np
import pytest

from benchmarks.real.figures import FINER, STATURE_CM, Camera, draw_figure, draw_look, project
from benchmarks.real.takes import Skeleton
from tests.benchmarks.real.conftest import NAMES, PARENTS, standing

SKELETON = Skeleton(tuple(NAMES), PARENTS)
CAMERA = Camera(x=40.0, y=40.0, stature=60.0, tilt=0.0)
LOOK = draw_look(np.random.default_rng(0))


def _drawn(joints, camera=CAMERA):
    canvas = np.full((80 * FINER, 80 * FINER, 3), 128, np.uint8)
    draw_figure(canvas, SKELETON, joints, camera, LOOK)
    return (canvas != 128).any(axis=2)


def test_the_left_hand_of_who_faces_the_camera_is_on_the_right():
    places, _ = project(standing(), CAMERA)
    assert places[NAMES.index("Hand_L"), 0] > 40 > places[NAMES.index("Hand_R"), 0]
    assert places[NAMES.index("Head"), 1] < places[NAMES.index("Hips"), 1] < places[NAMES.index("Foot_L"), 1]


def test_what_is_nearer_is_larger_and_at_the_middle_a_centimetre_has_the_cameras_scale():
    _, (near, middle, far) = project(np.array([[0, 80, 50], [0, 80, 0], [0, 80, -50]], np.float32), CAMERA)
    assert near > middle > far
    assert middle == pytest.approx(CAMERA.stature / STATURE_CM)


def test_a_figure_has_its_stature_and_its_place():
    rows, columns = np.nonzero(_drawn(standing()))
    assert np.ptp(rows) / FINER == pytest.approx(CAMERA.stature, rel=0.1)
    assert columns.mean() / FINER == pytest.approx(40, abs=1)


def test_a_raised_hand_shows():
    raised = standing()
    raised[NAMES.index("LowerArm_L")] = [25, 130, 0]
    raised[NAMES.index("Hand_L")] = [30, 160, 0]
    more = _drawn(raised) & ~_drawn(standing())
    rows, columns = np.nonzero(more)
    assert more.sum() > 100 and columns.mean() > 40 * FINER and rows.mean() < 30 * FINER
