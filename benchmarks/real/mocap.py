"""Untrimmed videos of recorded human motion over real scenes: figures that stand, act, and stand again.

A class is a motion, or a group of motions in a group of scenes (`Vocabulary`). A video is a sequence of shots; each has a
scene, a figure and a direction of its own, and one or two actions with standing before, between and after. Cuts come while
somebody stands, a second or more from any action. Test scenes are of recordings, and test motions in styles, that training
does not see.
"""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from pydantic import Field

from benchmarks.real.choreography import MIN_IDLE_S, Motion, excerpt, join, stand, take_apart
from benchmarks.real.dataset import annotation
from benchmarks.real.stage import Stage, film, set_stage
from benchmarks.real.takes import STYLES, Joints, Skeleton, Take, read_takes
from benchmarks.real.ucf import Clip, read_clips
from tadscale.config import Config
from tadscale.data.encode import encode_h264
from tadscale.data.shards import VideoSample
from tadscale.segments import Segment

SUBSETS = ("train", "validation", "test")
GESTURES = ("raise-up", "wave")  # takes of these begin and end in standing
LONGEST_ACTION_S = (2.5, 4.5)
IDLE_S = (MIN_IDLE_S, 2.5)
ATTEMPTS = 4  # at a shot that fits into what is left of a video


class MocapConfig(Config):
    """What is drawn."""

    train: int = Field(default=240, ge=0)
    """Training videos."""
    validation: int = Field(default=16, ge=0)
    """Validation videos."""
    test: int = Field(default=100, ge=0)
    """Test videos."""
    duration_s: float = Field(default=16.0, ge=8)
    """Length of a video."""
    fps: float = Field(default=10.0, gt=0)
    """Frame rate of a video."""
    size: int = Field(default=80, ge=32, multiple_of=2)
    """Height and width in pixels."""
    static_bias: float = Field(default=0.0, ge=0, le=1)
    """Probability that the scene of a training shot is the one that goes with its motion, instead of one by lot (motion `i`
    goes with scene `i` modulo their number; a second action of such a shot repeats the motion). Validation and test are
    drawn by lot, and are the same videos at any bias."""
    seed: int = 0
    """Seed of everything that is drawn."""


@dataclass(frozen=True, kw_only=True)
class Vocabulary:
    """What makes a class."""

    motions: Mapping[str, tuple[str, ...]]
    """Names of motions, and the contents of takes that count as such."""
    scenes: Mapping[str, tuple[str, ...]]
    """Names of scenes, and the classes of UCF101 that count as such."""
    scene_counts: bool
    """A class is MOTION/SCENE; else the motion alone."""

    def label(self, motion: str, scene: str) -> str:
        """The class of a motion in a scene."""
        return f"{motion}/{scene}" if self.scene_counts else motion


@dataclass(frozen=True, kw_only=True)
class World:
    """The data, sorted for drawing one subset."""

    config: MocapConfig
    vocabulary: Vocabulary
    subset: str
    skeleton: Skeleton
    takes: Mapping[str, list[Take]]
    """By name of the motion, of the subset's styles."""
    clips: Mapping[str, list[Clip]]
    """By name of the scene, of the subset's recordings."""
    rests: Mapping[str, list[Joints]]
    """Poses `[J, 3]` of standing, by style."""


@dataclass(frozen=True, kw_only=True)
class Shot:
    """What happens from one cut to the next."""

    motion: Motion
    actions: list[tuple[str, int, int]]
    """Class, first frame, and the frame after the last, counted from the cut."""
    stage: Stage


def read_worlds(data: Path, config: MocapConfig, vocabulary: Vocabulary) -> dict[str, World]:
    """The data of every subset.

    Raises:
        ValueError: the data are not there.
    """
    skeleton, takes = read_takes(data)
    clips = read_clips(data)
    return {
        subset: World(
            config=config,
            vocabulary=vocabulary,
            subset=subset,
            skeleton=skeleton,
            takes={
                name: [take for take in takes if take.motion in contents and take.style in STYLES[subset]]
                for name, contents in vocabulary.motions.items()
            },
            clips={
                name: [clip for clip in clips if clip.action in actions and clip.subset == subset]
                for name, actions in vocabulary.scenes.items()
            },
            rests=_rests([take for take in takes if take.style in STYLES[subset]]),
        )
        for subset in SUBSETS
    }


def _rests(takes: list[Take]) -> dict[str, list[Joints]]:
    """The first pose of every gesture: hands are down, and each style stands in its own way."""
    rests: dict[str, list[Joints]] = {}
    for take in takes:
        if take.motion.startswith(GESTURES):
            rests.setdefault(take.style, []).append(take_apart(take.joints[:1]).joints[0])
    return rests


def write_script(world: World, index: int) -> list[Shot]:
    """Decide what happens in one video. What is left after the last shot that fits is a shot in which nothing happens."""
    config = world.config
    rng = np.random.default_rng([config.seed, SUBSETS.index(world.subset), index])
    left, shots, misses = round(config.duration_s * config.fps), list[Shot](), 0
    while misses < ATTEMPTS:
        shot = _write_shot(world, rng, actions=int(rng.choice([1, 2], p=[0.7, 0.3])))
        length = len(shot.motion.heading)
        if length > left - round(MIN_IDLE_S * config.fps):
            misses += 1
        else:
            shots.append(shot)
            left -= length
    return [*shots, _write_shot(world, rng, actions=0, frames=left)]


def _write_shot(world: World, rng: np.random.Generator, *, actions: int, frames: int = 0) -> Shot:
    """One shot: `actions` between spells of standing, or `frames` of standing alone."""
    motions, scene = _draw_classes(world, rng, max(actions, 1))
    style = STYLES[world.subset][int(rng.integers(len(STYLES[world.subset])))]
    clip = world.clips[scene][int(rng.integers(len(world.clips[scene])))]
    stage = set_stage(clip, world.config.size, rng)
    if not actions:
        return Shot(motion=stand(frames, world.rests[style], world.config.fps, rng), actions=[], stage=stage)
    pieces, found = [_idle(world, style, rng)], list[tuple[str, int, int]]()
    for motion in motions:
        first = sum(len(piece.heading) for piece in pieces)
        own = [take for take in world.takes[motion] if take.style == style]
        take = own[int(rng.integers(len(own)))]
        pieces.append(excerpt(take, float(rng.uniform(*LONGEST_ACTION_S)), world.config.fps, rng))
        found.append((world.vocabulary.label(motion, scene), first, first + len(pieces[-1].heading)))
        pieces.append(_idle(world, style, rng))
    return Shot(motion=join(pieces, world.config.fps), actions=found, stage=stage)


def _idle(world: World, style: str, rng: np.random.Generator) -> Motion:
    frames = round(float(rng.uniform(*IDLE_S)) * world.config.fps)
    return stand(frames, world.rests[style], world.config.fps, rng)


def _draw_classes(world: World, rng: np.random.Generator, count: int) -> tuple[list[str], str]:
    """Motions and a scene for a shot. Where `static_bias` ties them, all motions are the scene's."""
    motions, scenes = list(world.vocabulary.motions), list(world.vocabulary.scenes)
    drawn, scene = rng.integers(len(motions), size=count), int(rng.integers(len(scenes)))
    if world.subset == "train" and rng.random() < world.config.static_bias:
        drawn, scene = np.repeat(drawn[:1], count), int(drawn[0]) % len(scenes)
    return [motions[index] for index in drawn], scenes[scene]


def draw_video(world: World, index: int) -> VideoSample:
    """Draw and encode one video, with its annotation."""
    config, first, frames, segments = world.config, 0, [], list[Segment]()
    rng = np.random.default_rng([config.seed, SUBSETS.index(world.subset), index, 1])
    for shot in write_script(world, index):
        frames.append(film(world.skeleton, shot.motion.turned(), shot.stage, rng))
        segments += [Segment(name, (first + a) / config.fps, (first + b) / config.fps) for name, a, b in shot.actions]
        first += len(frames[-1])
    video = encode_h264(np.concatenate(frames), config.fps)
    note = annotation(world.subset, first / config.fps, config.fps, segments)
    return VideoSample(f"{world.subset}-{index:05d}", video, note)


def draw_videos(data: Path, config: MocapConfig, vocabulary: Vocabulary) -> Iterator[VideoSample]:
    """Every video of every subset.

    Raises:
        ValueError: the data are not there.
    """
    worlds = read_worlds(data, config, vocabulary)
    for subset in SUBSETS:
        for index in range(getattr(config, subset)):
            yield draw_video(worlds[subset], index)
