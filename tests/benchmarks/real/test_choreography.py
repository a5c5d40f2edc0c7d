"""Poses in time: taken apart and put together again, blended without a jump, and the action left as it was recorded."""

import numpy as np
import pytest

from benchmarks.real.choreography import BLEND_S, MAX_HEADING, Motion, excerpt, join, stand, take_apart, turn
from benchmarks.real.takes import Take
from tests.benchmarks.real.conftest import standing

FPS = 10.0


def _take(motion="wave-left-hand", frames=60):
    """The left hand circles."""
    joints = np.repeat(standing()[None], frames, axis=0)
    joints[:, 10, 1] += 30 * np.sin(np.arange(frames) / 4)
    return Take(motion, "normal", joints, 15.0)


def _turning(frames, start, end):
    angle = np.linspace(start, end, frames).astype(np.float32)
    return turn(np.repeat(standing()[None], frames, axis=0), angle), angle


def test_turning_by_a_quarter_takes_ahead_to_the_side():
    ahead = np.array([[[0, 5, 1]]], np.float32)
    np.testing.assert_allclose(turn(ahead, np.array([np.pi / 2], np.float32)), [[[1, 5, 0]]], atol=1e-6)


def test_the_heading_of_a_turn_is_found_also_past_a_half_turn():
    joints, angle = _turning(60, np.pi / 2, 1.6 * np.pi)
    found = take_apart(joints)
    np.testing.assert_allclose(found.heading[5:-5], angle[5:-5], atol=1e-3)
    np.testing.assert_allclose(found.turned()[5:-5], joints[5:-5], atol=0.2)
    still = found.joints[5:-5]
    np.testing.assert_allclose(still, np.broadcast_to(standing(), still.shape), atol=0.5)


def test_a_walk_stays_in_the_picture():
    joints = np.repeat(standing()[None], 30, axis=0)
    joints[..., 2] += np.linspace(-300, 300, 30, dtype=np.float32)[:, None]
    assert np.abs(take_apart(joints).joints[..., [0, 2]]).max() < 20


def test_an_excerpt_has_the_rate_the_length_and_a_heading_within_bounds():
    for seed in range(20):
        motion = excerpt(_take("walk", 120), 3.0, FPS, np.random.default_rng(seed))
        assert motion.joints.shape == (31, 27, 3)
        assert abs(motion.heading[15]) <= MAX_HEADING + 1e-4


def test_a_turn_is_cut_around_its_middle():
    half = np.concatenate([np.zeros(60), np.linspace(0, 1, 20), np.ones(60)]).astype(np.float32)
    take = Take("walk-turn-left", "normal", turn(np.repeat(standing()[None], 140, axis=0), half), 15.0)
    heading = excerpt(take, 3.0, FPS, np.random.default_rng(0)).heading
    assert heading[-1] - heading[0] == pytest.approx(1.0, abs=0.02)


def test_a_take_between_two_frames_is_linear():
    joints = np.arange(4, dtype=np.float32)[:, None, None] * np.ones((1, 2, 3), np.float32)
    found = Take("walk", "normal", joints, 2.0).between(0.25, 3, 4.0)
    np.testing.assert_allclose(found[:, 0, 0], [0.5, 1.0, 1.5])


def test_standing_moves_little_but_is_never_quite_still():
    motion = stand(20, [standing()], FPS, np.random.default_rng(0))
    step = np.abs(np.diff(motion.joints, axis=0))
    assert 0 < step[..., 1].max() < 1.0 and step[..., 0].max() < 1.5  # cm a frame


def test_who_stands_long_shifts_without_a_jump():
    low = standing() * np.array([1, 0.9, 1], np.float32)
    motion = stand(100, [standing(), low], FPS, np.random.default_rng(3))
    assert np.ptp(motion.joints[:, 5, 1]) > 10
    assert np.abs(np.diff(motion.joints[:, 5, 1])).max() < 6  # 13 cm in half a second


def test_joining_eases_into_an_action_and_leaves_it_as_it_is():
    before, after = (stand(20, [standing()], FPS, np.random.default_rng(seed)) for seed in (0, 1))
    lifted = standing() + np.array([0, 40, 0], np.float32)
    action = Motion(np.repeat(lifted[None], 15, axis=0), np.full(15, 1.0, np.float32))
    whole = join([before, action, after], FPS)
    assert len(whole.heading) == 55
    np.testing.assert_array_equal(whole.joints[20:35], action.joints)
    np.testing.assert_array_equal(whole.heading[20:35], action.heading)
    steps = np.abs(np.diff(whole.joints[:, 5, 1]))
    assert steps.max() < 2 * 40 / (BLEND_S * FPS)  # spread over the blend, not in one frame
    untouched = 20 - round(BLEND_S * FPS)
    assert np.abs(whole.joints[:untouched, 5, 1] - standing()[5, 1]).max() < 2
