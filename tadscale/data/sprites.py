"""Sprites: built-in untrimmed videos in which neither RGB nor motion suffices.

A class is a *motion* of the texture inside an aperture, times an *appearance* of that texture. The aperture is there,
still, before and after the action: one frame tells neither the motion nor the boundary, and flow tells nothing of the
colour, because every appearance has the same luminance. Still and flickering apertures, camera jitter, illumination drift
and sensor noise distract. One aperture is seen at a time, or two (`layout`). Everything is drawn from `(seed, subset,
index)`: the same settings give the same bytes.
"""

import math
from collections.abc import Iterator
from typing import Literal, NamedTuple

import numpy as np
from pydantic import Field, NonNegativeFloat, NonNegativeInt, PositiveFloat

from tadscale.config import Config
from tadscale.data.encode import encode_h264
from tadscale.data.shards import VideoSample
from tadscale.data.sprites_render import SceneStyle, Sprite, render
from tadscale.segments import Segment

SUBSETS = ("train", "validation", "test")

Movement = Literal["left", "right", "clockwise", "anticlockwise", "expand", "contract", "up", "down"]
Appearance = Literal["red", "green", "blue", "violet"]


class SpritesConfig(Config):
    """What is drawn, and how hard it is."""

    train: NonNegativeInt = 96
    """Training videos."""
    validation: NonNegativeInt = 16
    """Validation videos."""
    test: NonNegativeInt = 48
    """Test videos."""
    duration_s: PositiveFloat = 20.0
    """Length of a video. A scene begins at least 4 s before its end: below 4 s nothing happens in it."""
    fps: PositiveFloat = 10.0
    """Frame rate of a video."""
    size: int = Field(default=64, ge=16, multiple_of=2)
    """Height and width in pixels; even, because H.264 subsamples colour by two."""
    motions: tuple[Movement, ...] = Field(default=("left", "right", "clockwise", "anticlockwise"), min_length=1)
    """Motions that occur."""
    appearances: tuple[Appearance, ...] = Field(default=("red", "blue"), min_length=1)
    """Appearances that occur."""
    layout: Literal["scene", "bound"] = "bound"
    """`scene`: one aperture at a time. `bound`: two at once, each with a sequence of its own; which of two colours moves has
    then to be bound to its place, and features that are averaged over space have lost the place. The default is what
    settings meant before there was a choice: data drawn then stay valid."""
    complementarity: float = Field(default=1.0, ge=0, le=1)
    """Share of the motions whose class is split by appearance; the others are one class in any colour. At 1 flow alone
    cannot tell any class from its sister; at 0 motion alone decides everything."""
    static_bias: float = Field(default=0.0, ge=0, le=1)
    """How strongly motion and appearance go together in training videos: the probability that an aperture wears the
    appearance of its motion (motion `i` has appearance `i` modulo their number), instead of one by lot. With two appearances
    the share that agrees is 0.5, 0.75 and 0.95 at 0, 0.5 and 0.9; at 1 the other classes have no training example at all.
    Validation and test are drawn by lot, and are the same videos at any bias: a network that leans on it pays there."""
    speed_px: NonNegativeFloat = 1.2
    """Typical speed of the moving texture at the aperture's rim, pixels per frame."""
    jitter_px: NonNegativeFloat = 0.25
    """Standard deviation of the camera's shake, pixels."""
    noise: NonNegativeFloat = 5.0
    """Standard deviation of the sensor noise, grey levels of 255."""
    seed: NonNegativeInt = 0
    """Seed of everything that is drawn."""


class Script(NamedTuple):
    """A video before it is drawn: its sprites, and the segments that annotate it."""

    sprites: list[Sprite]
    segments: list[Segment]


def class_names(config: SpritesConfig) -> list[str]:
    """Every label that can occur, sorted."""
    names = [label_of(config, motion, look) for motion in config.motions for look in config.appearances]
    return sorted(set(names))


def label_of(config: SpritesConfig, motion: str, appearance: str) -> str:
    """The class of a motion in an appearance: both names where appearance splits the motion's class, else the motion."""
    split = round(config.complementarity * len(config.motions))
    return f"{motion}/{appearance}" if config.motions.index(motion) < split else motion


def write_script(config: SpritesConfig, subset: str, index: int) -> Script:
    """Decide what happens in one video: sequences of scenes on two tracks, which are the sides of the picture."""
    rng = np.random.default_rng([config.seed, SUBSETS.index(subset), index])
    played: list[tuple[Sprite, str | None]] = []
    if config.layout == "scene":
        played += _play(config, rng, subset, tracks=(0, 1), pause_s=(0.1, 0.6))
    else:
        for track in range(2):
            played += _play(config, rng, subset, tracks=(track,), pause_s=(0.2, 1.5))
    segments = [Segment(label, one.action_start_s, one.action_end_s) for one, label in played if label is not None]
    return Script([sprite for sprite, _ in played], sorted(segments, key=lambda segment: segment.start_s))


def _play(
    config: SpritesConfig,
    rng: np.random.Generator,
    subset: str,
    *,
    tracks: tuple[int, ...],
    pause_s: tuple[float, float],
) -> Iterator[tuple[Sprite, str | None]]:
    """Scenes one after the other, each on one of the tracks; the last begins at least 4 s before the video ends."""
    clock_s = float(rng.uniform(0.0, 2.0))
    while clock_s < config.duration_s - 4.0:
        track = tracks[0] if len(tracks) == 1 else int(rng.choice(tracks))
        sprite, label = _draw_sprite(config, rng, subset, track, clock_s)
        yield sprite, label
        clock_s = sprite.hide_s + float(rng.uniform(*pause_s))


def _draw_sprite(
    config: SpritesConfig, rng: np.random.Generator, subset: str, track: int, clock_s: float
) -> tuple[Sprite, str | None]:
    """One scene of one aperture, starting at `clock_s`; the label is None for a distractor."""
    before_s, action_s, after_s = rng.uniform(0.6, 2.0), rng.uniform(1.5, 4.0), rng.uniform(0.6, 2.0)
    hide_s = min(clock_s + before_s + action_s + after_s, config.duration_s)
    action_end_s = min(clock_s + before_s + action_s, hide_s - 0.2)
    kind = rng.choice(["action", "still", "flicker"], p=[0.7, 0.15, 0.15])
    motion, appearance = _draw_class(config, rng, subset)
    size = config.size
    radius = float(rng.uniform(0.17, 0.22)) * size
    sprite = Sprite(
        kind=str(kind),
        motion=motion,
        appearance=appearance,
        show_s=clock_s,
        hide_s=hide_s,
        action_start_s=clock_s + float(before_s),
        action_end_s=float(action_end_s),
        x=size * (0.27 + 0.46 * track) + float(rng.uniform(-0.04, 0.04)) * size,
        y=float(rng.uniform(0.25, 0.75)) * size,
        radius=radius,
        speed_px=config.speed_px * float(rng.uniform(0.75, 1.25)),
        angle=float(rng.uniform(0, 2 * math.pi)),
        seed=int(rng.integers(2**31)),
    )
    return sprite, label_of(config, motion, appearance) if kind == "action" else None


def _draw_class(config: SpritesConfig, rng: np.random.Generator, subset: str) -> tuple[str, str]:
    """A motion, and an appearance that `static_bias` ties to it in training videos."""
    index = int(rng.integers(len(config.motions)))
    look = int(rng.integers(len(config.appearances)))
    if subset == "train" and rng.random() < config.static_bias:
        look = index % len(config.appearances)
    return config.motions[index], config.appearances[look]


def draw_video(config: SpritesConfig, subset: str, index: int) -> VideoSample:
    """Draw and encode one video: `(key, mp4, annotation)`, the annotation in the ActivityNet manner."""
    script = write_script(config, subset, index)
    frames = render_video(config, subset, index, script)[0]
    return VideoSample(
        key=f"{subset}-{index:05d}",
        video=encode_h264(frames, config.fps),
        annotation={
            "duration": config.duration_s,
            "fps": config.fps,
            "subset": subset,
            "annotations": [
                {"label": label, "segment": [round(start, 3), round(end, 3)]} for label, start, end in script.segments
            ],
        },
    )


def render_video(
    config: SpritesConfig, subset: str, index: int, script: Script, *, with_flow: bool = False
) -> tuple[np.ndarray, np.ndarray | None]:
    """Frames `[T, H, W, 3]` uint8 and, on demand, the true flow `[T, 2, H, W]` (pixels a frame; the last repeated)."""
    style = SceneStyle(
        size=config.size,
        fps=config.fps,
        frames=round(config.duration_s * config.fps),
        jitter_px=config.jitter_px,
        noise=config.noise,
        seed=int(np.random.default_rng([config.seed, SUBSETS.index(subset), index, 1]).integers(2**31)),
    )
    return render(style, script.sprites, with_flow=with_flow)


def draw_videos(config: SpritesConfig) -> Iterator[VideoSample]:
    """Every video of every subset, in order."""
    for subset in SUBSETS:
        for index in range(getattr(config, subset)):
            yield draw_video(config, subset, index)
