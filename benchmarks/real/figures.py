"""A person drawn over a picture: shaded capsules along the bones of a skeleton, seen by a pinhole camera."""

from typing import NamedTuple

import cv2
import numpy as np
from numpy.typing import NDArray

from benchmarks.real.takes import Joints, Skeleton

Colour = tuple[int, int, int]
DISTANCE_CM = 450.0  # of the camera
STATURE_CM = 155.0  # of the skeleton, with the head
MIDDLE_CM = 80.0  # the height that the camera looks at
FINER = 2  # drawn at this many times the size and then averaged: limbs are 3 pixels wide in a picture of 112
SHIFT = 4  # OpenCV's fixed point: places are in sixteenths of a pixel

SKIN = ((236, 205, 180), (214, 170, 135), (170, 120, 85), (110, 75, 55))
HAIR = ((40, 30, 25), (95, 65, 40), (190, 160, 100), (120, 120, 120))
CLOTHES = ((200, 60, 50), (50, 90, 180), (60, 140, 80), (220, 190, 70), (230, 230, 225), (50, 50, 60), (130, 70, 150))

# Radius in cm and part of the clothing, by the joint that a bone ends in. Bones of no length are not drawn.
BONES = {
    "Spine": (12.0, "shirt"),
    "Chest": (12.5, "shirt"),
    "Neck": (7.0, "shirt"),
    "Head": (5.0, "skin"),
    "Shoulder": (6.5, "shirt"),
    "UpperArm": (6.0, "shirt"),
    "LowerArm": (5.0, "shirt"),
    "Hand": (4.2, "skin"),
    "UpperLeg": (9.5, "trousers"),
    "LowerLeg": (7.8, "trousers"),
    "Foot": (6.0, "trousers"),
    "Toes": (4.5, "hair"),  # shoes
}


class Look(NamedTuple):
    """Colours of a figure."""

    skin: Colour
    hair: Colour
    shirt: Colour
    trousers: Colour


class Camera(NamedTuple):
    """Where the figure appears, in pixels of the finished picture."""

    x: float
    """Of its middle."""
    y: float
    stature: float
    """Its height."""
    tilt: float
    """How far above the horizon the camera stands, radians."""


def draw_look(rng: np.random.Generator) -> Look:
    """Colours by lot; shirt and trousers differ."""
    shirt, trousers = rng.choice(len(CLOTHES), 2, replace=False)
    return Look(SKIN[rng.integers(len(SKIN))], HAIR[rng.integers(len(HAIR))], CLOTHES[shirt], CLOTHES[trousers])


def project(joints: Joints, camera: Camera) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
    """Joints `[J, 3]` (cm, +z to the camera) to places `[J, 2]` in the picture and pixels per cm there `[J]`."""
    cos, sin = np.cos(camera.tilt), np.sin(camera.tilt)
    x, y, z = joints[:, 0], joints[:, 1] - MIDDLE_CM, joints[:, 2]
    up, near = cos * y - sin * z, cos * z + sin * y
    scale = camera.stature / STATURE_CM * DISTANCE_CM / (DISTANCE_CM - near)
    return np.stack([camera.x + scale * x, camera.y - scale * up], axis=-1), scale


def draw_figure(canvas: NDArray[np.uint8], skeleton: Skeleton, joints: Joints, camera: Camera, look: Look) -> None:
    """Draw a figure into a canvas `[FINER H, FINER W, 3]`, far bones first."""
    places, scale = project(joints, camera)
    for child in np.argsort(scale, kind="stable"):
        name, parent = skeleton.names[child].split("_")[0], skeleton.parents[child]
        if name not in BONES:
            continue
        radius, part = BONES[name]
        ends = FINER * places[[parent, child]]
        _capsule(canvas, ends[0], ends[1], FINER * radius * float(scale[child]), getattr(look, part))
        if name == "Head":
            _head(canvas, skeleton, joints, camera, look)


def _capsule(canvas: NDArray[np.uint8], a: NDArray, b: NDArray, radius: float, colour: Colour) -> None:
    """A dark rim, the colour, and a lit stripe towards the upper left."""
    for share, offset, light in ((1.0, 0.0, 0.55), (0.8, 0.12, 1.0), (0.35, 0.35, 1.25)):
        thick = max(1, round(2 * radius * share))
        shade = tuple(min(255.0, light * channel) for channel in colour)
        start, end = (_fixed(point - offset * radius) for point in (a, b))
        cv2.line(canvas, start, end, shade, thick, cv2.LINE_AA, SHIFT)


def _head(canvas: NDArray[np.uint8], skeleton: Skeleton, joints: Joints, camera: Camera, look: Look) -> None:
    """Hair all round and a face in front: it shows where somebody looks, and so which hand is the left one."""
    index = skeleton.names.index("Head")
    across = joints[skeleton.names.index("UpperArm_L")] - joints[skeleton.names.index("UpperArm_R")]
    ahead = np.array([-across[2], 0.0, across[0]], np.float32) / max(float(np.hypot(across[0], across[2])), 1e-3)
    centre = joints[index] + np.array([0, 9.0, 0], np.float32)
    balls = [(centre, 11.0, look.hair), (centre + 4.5 * ahead - np.array([0, 2.0, 0], np.float32), 9.0, look.skin)]
    for place, radius, colour in balls if ahead[2] > 0 else balls[::-1]:
        (point,), (scale,) = project(place[None], camera)
        _capsule(canvas, point * FINER, point * FINER, radius * float(scale) * FINER, colour)


def _fixed(point: NDArray) -> tuple[int, int]:
    x, y = np.rint(point * 2**SHIFT)
    return int(x), int(y)


def cast_shadow(picture: NDArray[np.uint8], camera: Camera, margin: float) -> None:
    """Darken the ground under a figure, in place; `margin`: how far the picture reaches beyond the frame, in pixels."""
    foot = camera.y + camera.stature * MIDDLE_CM / STATURE_CM * np.cos(camera.tilt)
    centre = np.array([camera.x + margin, foot + margin]) * FINER
    axes = np.array([0.28, 0.05 + 0.28 * np.sin(camera.tilt)]) * camera.stature * FINER
    shade = np.zeros(picture.shape[:2], np.uint8)
    cv2.ellipse(shade, _fixed(centre), _fixed(axes), 0, 0, 360, 110, -1, cv2.LINE_AA, SHIFT)
    shade = cv2.GaussianBlur(shade, (0, 0), 0.03 * camera.stature * FINER)
    picture[:] = (picture * (1 - shade[..., None] / 255.0)).astype(np.uint8)
