"""Drawing of sprites: textures that move inside still apertures, and the true flow of what was drawn."""

import math
from dataclasses import dataclass
from functools import lru_cache

import numpy as np
from numpy.typing import NDArray

Field = NDArray[np.float32]

# Chroma (Cb, Cr) of each appearance at one and the same luminance: grey-level flow cannot see which it is.
CHROMA = {"red": (-14.0, 44.0), "green": (-34.0, -36.0), "blue": (46.0, -16.0), "violet": (30.0, 30.0)}
TILE = 64  # side of a noise tile; textures wrap around it
OCTAVES = 4  # zoom runs through octaves for ever, so a texture neither blurs nor runs out while it expands


@dataclass(frozen=True, kw_only=True)
class Sprite:
    """One aperture and what its texture does: still, then moving, then still again (or a distractor throughout)."""

    kind: str
    motion: str
    appearance: str
    show_s: float
    hide_s: float
    action_start_s: float
    action_end_s: float
    x: float
    y: float
    radius: float
    speed_px: float
    angle: float
    seed: int


@dataclass(frozen=True, kw_only=True)
class SceneStyle:
    """What the whole picture is like."""

    size: int
    fps: float
    frames: int
    jitter_px: float
    noise: float
    seed: int


@dataclass(frozen=True)
class Pose:
    """Where a texture stands: shift in pixels, angle in radians, zoom in octaves."""

    dx: float = 0.0
    dy: float = 0.0
    angle: float = 0.0
    octave: float = 0.0


def render(style: SceneStyle, sprites: list[Sprite], *, with_flow: bool) -> tuple[NDArray[np.uint8], Field | None]:
    """Draw all frames `[T, H, W, 3]`, and on demand the true forward flow `[T, 2, H, W]` in pixels a frame."""
    rng = np.random.default_rng(style.seed)
    shake = _shake(rng, style)  # [T, 2]
    light = 1.0 + 0.12 * np.sin(np.linspace(0, 2 * math.pi, style.frames) * rng.uniform(0.5, 2) + rng.uniform(0, 6))
    background = _noise_tile(int(rng.integers(2**31)))
    frames = np.empty((style.frames, style.size, style.size, 3), np.uint8)
    flow = np.zeros((style.frames, 2, style.size, style.size), np.float32) if with_flow else None
    for t in range(style.frames):
        frames[t] = _draw_frame(style, sprites, background, t / style.fps, shake[t], float(light[t]), rng)
        if flow is not None:
            following = min(t + 1, style.frames - 1)
            flow[t] = true_flow(style, sprites, t / style.fps, shake[t], shake[following])
    if flow is not None:
        flow[-1] = flow[-2]
    return frames, flow


def _shake(rng: np.random.Generator, style: SceneStyle) -> NDArray[np.float64]:
    """The camera's place at each frame `[T, 2]`: a first-order random process that is pulled back to the middle."""
    place = np.zeros((style.frames, 2))
    for t in range(1, style.frames):
        place[t] = 0.7 * place[t - 1] + rng.normal(0.0, style.jitter_px, 2)
    return place


@lru_cache(maxsize=64)
def _noise_tile(seed: int) -> Field:
    """A tile of smooth noise with zero mean and unit variance that wraps around, `[TILE, TILE]`; features of about 8 px."""
    rng = np.random.default_rng(seed)
    frequency = np.hypot(np.fft.fftfreq(TILE)[:, None], np.fft.fftfreq(TILE)[None, :]) * TILE
    spectrum = np.fft.fft2(rng.normal(size=(TILE, TILE))) * np.exp(-(((frequency - 7.0) / 3.0) ** 2))
    tile = np.fft.ifft2(spectrum).real
    return ((tile - tile.mean()) / tile.std()).astype(np.float32)


def _sample(tile: Field, x: Field, y: Field) -> Field:
    """Bilinear look-up with wrap-around. Plain numpy: apertures are small and this must be the same everywhere."""
    x0, y0 = np.floor(x), np.floor(y)
    fx, fy = (x - x0).astype(np.float32), (y - y0).astype(np.float32)
    left, top = x0.astype(np.int64) % TILE, y0.astype(np.int64) % TILE
    right, bottom = (left + 1) % TILE, (top + 1) % TILE
    upper = tile[top, left] * (1 - fx) + tile[top, right] * fx
    lower = tile[bottom, left] * (1 - fx) + tile[bottom, right] * fx
    return (upper * (1 - fy) + lower * fy).astype(np.float32)


def pose_at(sprite: Sprite, time_s: float, fps: float) -> Pose:
    """The pose of a sprite's texture: it moves at constant speed during the action and stands still around it."""
    if sprite.kind != "action":
        return Pose(angle=sprite.angle)
    moved = (min(max(time_s, sprite.action_start_s), sprite.action_end_s) - sprite.action_start_s) * fps
    px, turn = moved * sprite.speed_px, moved * sprite.speed_px / sprite.radius
    match sprite.motion:
        case "left" | "right":
            return Pose(dx=px if sprite.motion == "right" else -px, angle=sprite.angle)
        case "up" | "down":
            return Pose(dy=px if sprite.motion == "down" else -px, angle=sprite.angle)
        case "clockwise" | "anticlockwise":
            return Pose(angle=sprite.angle + (turn if sprite.motion == "clockwise" else -turn))
        case "expand" | "contract":
            octave = turn / math.log(2)
            return Pose(angle=sprite.angle, octave=octave if sprite.motion == "expand" else -octave)
    raise AssertionError(sprite.motion)


def texture(sprite: Sprite, pose: Pose, x: Field, y: Field) -> Field:
    """Brightness of the sprite's texture at points relative to its centre: octaves of noise under a sliding window.

    Content moves by `pose`: a point of the texture at `q` is seen at `p = zoom * R(angle) q + shift`.
    """
    x, y = x - pose.dx, y - pose.dy
    cos, sin = math.cos(pose.angle), math.sin(pose.angle)
    qx, qy = cos * x + sin * y, -sin * x + cos * y
    value, weight = np.zeros_like(qx), 0.0
    base = math.floor(pose.octave)
    for octave in range(base - OCTAVES // 2, base + OCTAVES // 2 + 1):
        scale = 2.0 ** (octave - pose.octave)  # features of this octave are 1 / scale times the tile's
        share = math.exp(-(math.log2(scale) ** 2))
        tile = _noise_tile(sprite.seed + octave % 7)
        value += share * _sample(tile, qx * scale + 31.0 * octave, qy * scale)
        weight += share * share
    return (value / math.sqrt(weight)).astype(np.float32)


def _aperture(sprite: Sprite, x: Field, y: Field) -> Field:
    """Opacity of the aperture: a disc with a rim of about one pixel."""
    return np.clip(sprite.radius - np.hypot(x, y) + 0.5, 0.0, 1.0).astype(np.float32)


def _draw_frame(
    style: SceneStyle,
    sprites: list[Sprite],
    background: Field,
    time_s: float,
    shake: NDArray[np.float64],
    light: float,
    rng: np.random.Generator,
) -> NDArray[np.uint8]:
    """One frame `[H, W, 3]`: background, visible sprites over it, then light and noise of the sensor."""
    y, x = np.mgrid[: style.size, : style.size].astype(np.float32)
    x, y = x - np.float32(shake[0]), y - np.float32(shake[1])
    luma = 110.0 + 14.0 * _sample(background, x, y)
    chroma = np.zeros((2, style.size, style.size), np.float32)
    for sprite in sprites:
        if not sprite.show_s <= time_s < sprite.hide_s:
            continue
        px, py = x - np.float32(sprite.x), y - np.float32(sprite.y)
        alpha = _aperture(sprite, px, py)
        inside = alpha > 0
        seen = np.zeros_like(luma)
        seen[inside] = texture(sprite, pose_at(sprite, time_s, style.fps), px[inside], py[inside])
        gain = _flicker(sprite, time_s) if sprite.kind == "flicker" else 1.0
        luma = luma * (1 - alpha) + alpha * (120.0 + gain * 38.0 * np.clip(seen, -2, 2))
        for channel in range(2):
            chroma[channel] = chroma[channel] * (1 - alpha) + alpha * CHROMA[sprite.appearance][channel]
    luma = luma * light + rng.normal(0.0, style.noise, luma.shape)
    return _to_rgb(luma, chroma)


def _flicker(sprite: Sprite, time_s: float) -> float:
    """Contrast of a flickering distractor: it changes every frame, without anything moving."""
    start, end = sprite.action_start_s, sprite.action_end_s
    return 0.5 + 0.5 * math.cos(9.0 * (time_s - start)) if start <= time_s < end else 1.0


def _to_rgb(luma: NDArray[np.floating], chroma: Field) -> NDArray[np.uint8]:
    """BT.601 full-range YCbCr to RGB, `[H, W, 3]`."""
    blue, red = chroma
    rgb = np.stack([luma + 1.402 * red, luma - 0.344136 * blue - 0.714136 * red, luma + 1.772 * blue], axis=-1)
    return np.clip(np.rint(rgb), 0, 255).astype(np.uint8)


def true_flow(
    style: SceneStyle,
    sprites: list[Sprite],
    time_s: float,
    shake: NDArray[np.float64],
    next_shake: NDArray[np.float64],
) -> Field:
    """Where each pixel's content goes in one frame, `[2, H, W]` (x, y) in pixels: camera, plus texture in apertures."""
    y, x = np.mgrid[: style.size, : style.size].astype(np.float32)
    camera = (next_shake - shake).astype(np.float32)
    flow = np.broadcast_to(camera[:, None, None], (2, style.size, style.size)).copy()
    for sprite in sprites:
        if not sprite.show_s <= time_s < sprite.hide_s:
            continue
        px, py = x - np.float32(shake[0] + sprite.x), y - np.float32(shake[1] + sprite.y)
        now, then = pose_at(sprite, time_s, style.fps), pose_at(sprite, time_s + 1 / style.fps, style.fps)
        turn, zoom = then.angle - now.angle, 2.0 ** (then.octave - now.octave)
        qx, qy = px - now.dx, py - now.dy
        u = zoom * (math.cos(turn) * qx - math.sin(turn) * qy) + then.dx - px
        v = zoom * (math.sin(turn) * qx + math.cos(turn) * qy) + then.dy - py
        inside = _aperture(sprite, px, py) > 0.5
        flow[0][inside], flow[1][inside] = (u + camera[0])[inside], (v + camera[1])[inside]
    return flow
