"""Scene, figure and camera of one shot, and the filming of it."""

from functools import lru_cache
from typing import NamedTuple

import cv2
import numpy as np
from numpy.typing import NDArray

from benchmarks.real.figures import FINER, Camera, Look, cast_shadow, draw_figure, draw_look
from benchmarks.real.takes import Joints, Skeleton
from benchmarks.real.ucf import Clip, Picture, middle_picture

MARGIN = 6  # pixels of scene beyond every edge of the frame: room for the camera's shake
SHAKE_PX = 0.25  # standard deviation of a step, in a picture of 56 pixels, as in sprites


class Stage(NamedTuple):
    """What a shot looks like."""

    scene: Clip
    crop: tuple[float, float, float]
    """Where the square of the scene's picture lies that is shown: side as a share of the height, then its corner's place as
    shares of the room there is."""
    mirrored: bool
    camera: Camera
    look: Look
    size: int


def set_stage(scene: Clip, size: int, rng: np.random.Generator) -> Stage:
    """Everything but the motion, by lot."""
    stature = float(rng.uniform(0.66, 0.82)) * size
    camera = Camera(
        x=size * float(rng.uniform(0.36, 0.64)),
        y=size * float(rng.uniform(0.5, 0.56)),
        stature=stature,
        tilt=float(rng.uniform(0.0, 0.25)),
    )
    crop = (float(rng.uniform(0.8, 1.0)), float(rng.uniform()), float(rng.uniform()))
    return Stage(scene, crop, bool(rng.integers(2)), camera, draw_look(rng), size)


def film(skeleton: Skeleton, joints: Joints, stage: Stage, rng: np.random.Generator) -> NDArray[np.uint8]:
    """Frames `[T, S, S, 3]` of a figure's joints `[T, J, 3]` on a stage; the camera shakes."""
    ground = _ground(stage)
    frames = np.empty((len(joints), stage.size, stage.size, 3), np.uint8)
    side = stage.size * FINER
    for t, (dx, dy) in enumerate(_shake(len(joints), SHAKE_PX * stage.size / 56, rng)):
        move = np.array([[1, 0, (dx - MARGIN) * FINER], [0, 1, (dy - MARGIN) * FINER]], np.float32)
        canvas = cv2.warpAffine(ground, move, (side, side), flags=cv2.INTER_LINEAR)
        camera = stage.camera._replace(x=stage.camera.x + dx, y=stage.camera.y + dy)
        draw_figure(canvas, skeleton, joints[t], camera, stage.look)
        frames[t] = cv2.resize(canvas, (stage.size, stage.size), interpolation=cv2.INTER_AREA)
    return frames


def _shake(frames: int, step_px: float, rng: np.random.Generator) -> NDArray[np.float64]:
    """Displacements `[T, 2]` of a camera that is held by hand: a random walk that is pulled back to its middle."""
    place = np.zeros((frames, 2))
    for t in range(1, frames):
        place[t] = 0.7 * place[t - 1] + rng.normal(0.0, step_px, 2)
    return np.clip(place, -MARGIN, MARGIN)


def _ground(stage: Stage) -> Picture:
    """The scene with the figure's shadow, `FINER` times the frame's size and the margins."""
    picture = _scene_picture(stage.scene)
    height, width = picture.shape[:2]
    share, down, right = stage.crop
    side = round(share * height)
    top, left = round(down * (height - side)), round(right * (width - side))
    square = picture[top : top + side, left : left + side]
    if stage.mirrored:
        square = square[:, ::-1]
    full = (stage.size + 2 * MARGIN) * FINER
    ground = cv2.resize(np.ascontiguousarray(square), (full, full), interpolation=cv2.INTER_CUBIC)
    cast_shadow(ground, stage.camera, MARGIN)
    return ground


@lru_cache(maxsize=2048)
def _scene_picture(clip: Clip) -> Picture:
    return middle_picture(clip)
