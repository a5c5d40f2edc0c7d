"""What a figure does in one shot: it stands, acts, stands again.

A pose is taken apart into a heading and joints that face the camera, with the hips above the origin. So poses of different
takes can be blended, a walk stays in the picture, and every action is seen from a direction that its class does not tell.
"""

import math
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from benchmarks.real.takes import Joints, Take

HIPS, LEFT_ARM, RIGHT_ARM = 1, 8, 12  # in the skeleton of `takes`
BLEND_S = 0.5  # from standing into a take, out of it, and from one way of standing into another
SHIFT_S = 2.5  # who stands for longer shifts weight in between: what moves is not always an action
MIN_IDLE_S = 2 * BLEND_S
MAX_HEADING = math.radians(60)  # from facing the camera: further round, left and right hands look alike


class Motion(NamedTuple):
    """Poses in time."""

    joints: Joints  # [T, J, 3] facing the camera (+z), hips at x = z = 0
    heading: NDArray[np.float32]  # [T] radians about the vertical

    def turned(self) -> Joints:
        """Joints `[T, J, 3]` as the camera sees them: every pose turned to its heading."""
        return turn(self.joints, self.heading)


def turn(joints: Joints, angle: NDArray[np.float32]) -> Joints:
    """Poses `[T, J, 3]` turned about the vertical by an angle each `[T]`; +z goes to +x."""
    cos, sin = np.cos(angle)[:, None], np.sin(angle)[:, None]
    x, y, z = joints[..., 0], joints[..., 1], joints[..., 2]  # [T, J]
    return np.stack([cos * x + sin * z, y, cos * z - sin * x], axis=-1)


def take_apart(joints: Joints) -> Motion:
    """Heading and pose of recorded joints `[T, J, 3]`: the upper arms say where the chest faces."""
    across = joints[:, LEFT_ARM] - joints[:, RIGHT_ARM]  # [T, 3], towards +x where somebody faces +z
    heading = np.unwrap(np.arctan2(-across[:, 2], across[:, 0])).astype(np.float32)
    centred = joints - joints[:, HIPS : HIPS + 1] * np.array([1, 0, 1], np.float32)
    return Motion(turn(centred, -_smooth(heading)), _smooth(heading))


def _smooth(heading: NDArray[np.float32], reach: int = 5) -> NDArray[np.float32]:
    """A moving mean over 11 frames: the swing of the shoulders belongs to the pose."""
    padded = np.pad(heading, reach, mode="edge")
    return np.convolve(padded, np.full(2 * reach + 1, 1 / (2 * reach + 1), np.float32), mode="valid")


def excerpt(take: Take, longest_s: float, fps: float, rng: np.random.Generator) -> Motion:
    """A take, or up to `longest_s` of it, at a rate, half-way seen at a heading by lot.

    A gesture is shown from its beginning, of a turn the middle, of walking and running any part.
    """
    length_s = min(take.duration_s, longest_s)
    spare_s = take.duration_s - length_s
    if take.motion in ("walk", "run"):
        start_s = float(rng.uniform(0.0, spare_s))
    else:
        start_s = spare_s / 2 if "turn" in take.motion else 0.0
    motion = take_apart(take.between(start_s, math.floor(length_s * fps) + 1, fps))
    wanted = float(rng.uniform(-MAX_HEADING, MAX_HEADING))
    return Motion(motion.joints, motion.heading - motion.heading[len(motion.heading) // 2] + np.float32(wanted))


def stand(frames: int, rests: list[Joints], fps: float, rng: np.random.Generator) -> Motion:
    """Somebody stands, breathes, and shifts to another of the poses `[J, 3]` every few seconds."""
    every = round(SHIFT_S * fps)
    pieces = [_stand_still(min(every, frames - first), rests, fps, rng) for first in range(0, frames, every)]
    whole = Motion(np.concatenate([one.joints for one in pieces]), np.concatenate([one.heading for one in pieces]))
    for place in range(every, frames, every):
        _blend_into(whole, place, fps)
    return whole


def _stand_still(frames: int, rests: list[Joints], fps: float, rng: np.random.Generator) -> Motion:
    pose = rests[int(rng.integers(len(rests)))]
    time = np.arange(frames, dtype=np.float32)[:, None] / fps  # [T, 1]
    breath = np.sin(2 * math.pi * (rng.uniform(0.2, 0.35) * time + rng.uniform()))
    sway = np.sin(2 * math.pi * (rng.uniform(0.1, 0.2) * time + rng.uniform()))
    joints = np.repeat(pose[None], frames, axis=0)
    height = np.clip(pose[None, :, 1] / 100, 0, 1.5)  # [1, J]: feet stand
    joints[..., 0] += 1.2 * sway * height  # cm
    joints[..., 1] += 0.7 * breath * np.clip(2 * height - 1.6, 0, 1)  # the chest and what hangs on it
    heading = float(rng.uniform(-MAX_HEADING, MAX_HEADING))
    return Motion(joints.astype(np.float32), np.full(frames, heading, np.float32))


def join(pieces: list[Motion], fps: float) -> Motion:
    """Standing and acting in turn, standing first and last, as one: who stands eases into the action and out of it, and the
    action stays as it was recorded."""
    whole = Motion(np.concatenate([one.joints for one in pieces]), np.concatenate([one.heading for one in pieces]))
    ends = np.cumsum([len(one.heading) for one in pieces])
    for place in ends[:-1:2]:
        _blend_into(whole, int(place), fps)
    for place in ends[1:-1:2]:
        _blend_out(whole, int(place), fps)
    return whole


def _blend_into(motion: Motion, place: int, fps: float) -> None:
    """Ease the frames before `place` towards the pose there, in place."""
    count = min(round(BLEND_S * fps), place)
    weight = _ease(np.arange(1, count + 1) / (count + 1))
    _mix(motion, np.arange(place - count, place), place, weight)


def _blend_out(motion: Motion, place: int, fps: float) -> None:
    """Ease the frames from `place` on away from the pose before, in place."""
    count = min(round(BLEND_S * fps), len(motion.heading) - place)
    weight = _ease(np.arange(count, 0, -1) / (count + 1))
    _mix(motion, np.arange(place, place + count), place - 1, weight)


def _mix(motion: Motion, rows: NDArray[np.int64], towards: int, weight: NDArray[np.float32]) -> None:
    joints, heading = motion
    share = weight[:, None, None]
    joints[rows] = (1 - share) * joints[rows] + share * joints[towards]
    heading[rows] = (1 - weight) * heading[rows] + weight * heading[towards]


def _ease(share: NDArray[np.floating]) -> NDArray[np.float32]:
    """From 0 to 1 with no velocity at either end."""
    return (share * share * (3 - 2 * share)).astype(np.float32)
