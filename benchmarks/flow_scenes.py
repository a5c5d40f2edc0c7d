"""Pairs of grey frames whose optical flow is known in closed form.

A scene is a texture that is a function of real coordinates (a sum of plane waves), seen before and after an affine map, so
that the second frame is rendered exactly, without resampling the first. Used by the tests and by the flow benchmarks. Real
pictures can be moved, too; they are resampled, both frames alike.
"""

from dataclasses import dataclass

import cv2
import numpy as np
from numpy.typing import NDArray

Array = NDArray[np.floating]
WAVES = 48
WAVELENGTHS_PX = (5.0, 80.0)
OBJECT_RADIUS = 0.22  # of the shorter side
PICTURE_BORDER_PX = 16


@dataclass(frozen=True, kw_only=True)
class FlowScene:
    """Two frames and the displacement between them."""

    name: str
    first: NDArray[np.uint8]  # [H, W]
    second: NDArray[np.uint8]  # [H, W]
    flow: Array  # [2, H, W] in pixels: u (x), v (y), from first to second
    visible: NDArray[np.bool_]  # [H, W] pixels of `first` that are neither covered nor outside in `second`

    def end_point_error(self, estimate: NDArray[np.floating]) -> float:
        """Mean distance in pixels between an estimate `[2, H, W]` and the truth, over visible pixels."""
        distance = np.hypot(*(np.asarray(estimate, np.float64) - self.flow))  # [H, W]
        return float(distance[self.visible].mean())


def affine(
    height: int, width: int, *, shift_px: tuple[float, float] = (0, 0), degrees: float = 0, zoom: float = 1
) -> Array:
    """`[3, 3]` map of (x, y, 1): rotation and zoom about the picture's centre, then a shift (x, y)."""
    centre = np.array([(width - 1) / 2, (height - 1) / 2])
    angle = np.deg2rad(degrees)
    linear = zoom * np.array([[np.cos(angle), -np.sin(angle)], [np.sin(angle), np.cos(angle)]])
    return from_linear(linear, centre, np.asarray(shift_px, np.float64))


def from_linear(linear: Array, centre: Array, shift_px: Array) -> Array:
    """`[3, 3]` map x -> linear (x - centre) + centre + shift_px."""
    matrix = np.eye(3)
    matrix[:2, :2] = linear
    matrix[:2, 2] = centre + shift_px - linear @ centre
    return matrix


def moving_texture(name: str, height: int, width: int, motion: Array, seed: int = 0) -> FlowScene:
    """One texture that fills the picture and moves by one affine map."""
    points = _grid(height, width)  # [2, H, W]
    flow = _apply(motion, points) - points
    first = _texture(points, seed)
    second = _texture(_apply(np.linalg.inv(motion), points), seed)
    return FlowScene(name=name, first=first, second=second, flow=flow, visible=_inside(points + flow))


def moving_picture(name: str, picture: NDArray[np.uint8], half: Array, noise: float = 0, seed: int = 0) -> FlowScene:
    """A real picture `[H + 2 b, W + 2 b]` with a border b of `PICTURE_BORDER_PX` that moves by twice an affine map `[3, 3]`
    of its middle `[H, W]`.

    Both frames are sampled once (bicubic), half the motion before and half after the picture, so that both are as blurred.
    Noise of some grey levels (standard deviation) is each frame's own.
    """
    height, width = (side - 2 * PICTURE_BORDER_PX for side in picture.shape)
    points = _grid(height, width)
    flow = _apply(half @ half, points) - points
    random = np.random.default_rng(seed)
    frames = [_sample(picture, _apply(motion, points)) for motion in (half, np.linalg.inv(half))]
    first, second = (_as_uint8(frame + random.normal(0, noise, frame.shape)) for frame in frames)
    return FlowScene(name=name, first=first, second=second, flow=flow, visible=_inside(points + flow))


def picture_scenes(picture: NDArray[np.uint8], noise: float = 0, seed: int = 0) -> list[FlowScene]:
    """A real picture in four motions: translation by 1.5 and by 6 px, rotation, zoom. See `moving_picture`."""
    size = [side - 2 * PICTURE_BORDER_PX for side in picture.shape]
    halves = {
        "translation 1.5 px": affine(*size, shift_px=(0.6, -0.45)),
        "translation 6 px": affine(*size, shift_px=(-2.4, 1.8)),
        "rotation 2 deg": affine(*size, degrees=1),
        "zoom 4 %": affine(*size, zoom=1.02),
    }
    return [moving_picture(name, picture, half, noise, seed) for name, half in halves.items()]


def moving_object(name: str, height: int, width: int, background: Array, motion: Array, seed: int = 0) -> FlowScene:
    """A textured disc that moves by its own map over a background that moves by another."""
    points = _grid(height, width)
    centre = np.array([(width - 1) / 2, (height - 1) / 2]).reshape(2, 1, 1)

    def on_object(where: Array) -> NDArray[np.bool_]:
        return np.hypot(*(where - centre)) < OBJECT_RADIUS * min(height, width)

    flow = np.where(on_object(points), _apply(motion, points), _apply(background, points)) - points
    first = np.where(on_object(points), _texture(points, seed + 1), _texture(points, seed))
    source = _apply(np.linalg.inv(motion), points)  # where the object's points of `second` come from
    behind = _apply(np.linalg.inv(background), points)
    second = np.where(on_object(source), _texture(source, seed + 1), _texture(behind, seed))
    covered = ~on_object(points) & on_object(_apply(np.linalg.inv(motion), points + flow))
    return FlowScene(name=name, first=first, second=second, flow=flow, visible=_inside(points + flow) & ~covered)


def standard_scenes(height: int, width: int, seed: int = 0) -> list[FlowScene]:
    """Translations from 1 to 16 px, rotation, zoom, shear, and an object that moves on its own."""

    def whole(name: str, motion: Array) -> FlowScene:
        return moving_texture(name, height, width, motion, seed)

    centre = np.array([(width - 1) / 2, (height - 1) / 2])
    shear = from_linear(np.array([[1.02, 0.03], [-0.02, 0.98]]), centre, np.array([0.7, -0.4]))
    return [
        whole("translation 1 px", affine(height, width, shift_px=(0.8, -0.6))),
        whole("translation 4 px", affine(height, width, shift_px=(3.2, 2.4))),
        whole("translation 8 px", affine(height, width, shift_px=(-6.4, 4.8))),
        whole("translation 16 px", affine(height, width, shift_px=(12.8, -9.6))),
        whole("rotation 3 deg", affine(height, width, degrees=3)),
        whole("zoom 5 %", affine(height, width, zoom=1.05)),
        whole("affine", shear),
        moving_object(
            "moving object",
            height,
            width,
            background=affine(height, width, shift_px=(-1.0, 0.5)),
            motion=affine(height, width, shift_px=(4.0, 2.0), degrees=2),
            seed=seed,
        ),
    ]


def _grid(height: int, width: int) -> Array:
    return np.stack(np.meshgrid(np.arange(width, dtype=np.float64), np.arange(height, dtype=np.float64)))  # [2, H, W]


def _apply(matrix: Array, points: Array) -> Array:
    return np.einsum("ij,jhw->ihw", matrix[:2, :2], points) + matrix[:2, 2].reshape(2, 1, 1)


def _sample(picture: NDArray[np.uint8], points: Array) -> Array:
    """A picture where points of its middle lie, without its border; the border's last pixels go on outside."""
    x, y = (points + PICTURE_BORDER_PX).astype(np.float32)
    sampled = cv2.remap(picture.astype(np.float32), x, y, cv2.INTER_CUBIC, borderMode=cv2.BORDER_REPLICATE)
    return np.asarray(sampled, np.float64)


def _inside(points: Array) -> NDArray[np.bool_]:
    height, width = points.shape[1:]
    x, y = points
    return (x >= 0) & (x <= width - 1) & (y >= 0) & (y <= height - 1)


def _texture(points: Array, seed: int) -> NDArray[np.uint8]:
    """A texture over all the plane: plane waves of wavelengths uniform in octaves, amplitude growing with wavelength."""
    rng = np.random.default_rng(seed)
    shortest, longest = np.log(WAVELENGTHS_PX)
    wavelength = np.exp(rng.uniform(shortest, longest, WAVES))
    direction, phase = rng.uniform(0, 2 * np.pi, (2, WAVES))
    amplitude = np.sqrt(wavelength) / np.linalg.norm(np.sqrt(wavelength))
    x, y = points
    total = np.zeros_like(x)  # [H, W], unit variance is amplitude * sqrt(1 / 2)
    for length, angle, start, size in zip(wavelength, direction, phase, amplitude, strict=True):
        total += size * np.sin(2 * np.pi / length * (np.cos(angle) * x + np.sin(angle) * y) + start)
    return _as_uint8(127.5 + 110 * np.clip(total / 1.6, -1, 1))


def _as_uint8(grey: Array) -> NDArray[np.uint8]:
    return np.rint(grey).clip(0, 255).astype(np.uint8)
