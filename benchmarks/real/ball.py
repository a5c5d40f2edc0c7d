"""Untrimmed videos of basketball: annotated clips among clips of seven other classes.

Only Basketball and BasketballDunk are annotated and scored: starts and ends were set by hand, within the shots (UCF101-24
as corrected by Saha et al. 2016 and Singh et al. 2017). A cut says where a shot begins, not where in it somebody throws,
except where the clip itself begins or ends with the action: see `BallConfig.inside_s`.
"""

import json
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from pydantic import Field

from benchmarks.real.dataset import annotation
from benchmarks.real.ucf import Clip, read_clips
from tadscale.config import Config
from tadscale.data.decode import decode_frames
from tadscale.data.encode import encode_h264
from tadscale.data.shards import VideoSample
from tadscale.segments import Segment

SUBSETS = ("train", "validation", "test")
HEIGHT, WIDTH = 120, 160
MAX_BACKGROUND_S = 8.0  # of a longer background clip an excerpt is shown: the classes are then equally long
CRF = 20  # the clips were compressed before


class BallConfig(Config):
    """How the clips are joined."""

    train: int = Field(default=120, ge=1)
    """Training videos. Clips return, in another order and among others, once all were shown. Validation and test
    videos are as many as it takes to show each of their annotated clips once."""
    shortest_s: float = Field(default=30.0, gt=0)
    """A video ends with the first shot that reaches a length drawn between `shortest_s` ..."""
    longest_s: float = Field(default=60.0, gt=0)
    """... and `longest_s`."""
    share: float = Field(default=0.5, gt=0, le=1)
    """Share of the shots that are of the annotated classes."""
    inside_s: float = Field(default=0.0, ge=0)
    """Leave out clips with an action that comes closer than this to the shot's cuts. At 0 all are taken; 97 of 132 dunks
    then end with their shot, and 37 of 166 throws begin with it. At 0.1 no boundary is on a cut, and 29 segments are left
    to test on in place of 73."""
    fps: float = Field(default=10.0, gt=0)
    """Frame rate of the videos."""
    seed: int = 0
    """Seed of the order of clips, of lengths and of excerpts."""


@dataclass(frozen=True, kw_only=True)
class Shot:
    """A clip's part in a video; the actions' times count from the clip's start."""

    clip: Clip
    actions: tuple[Segment, ...] = ()
    duration_s: float


@dataclass
class Deck:
    """Shots dealt in random order, each once; a new order each time round."""

    shots: list[Shot]
    rng: np.random.Generator
    pile: list[int] = field(default_factory=list)
    rounds: int = 0

    def deal(self) -> Shot:
        """The next shot."""
        if not self.pile:
            self.pile = [int(index) for index in self.rng.permutation(len(self.shots))]
            self.rounds += 1
        return self.shots[self.pile.pop()]

    @property
    def all_dealt(self) -> bool:
        """Whether each shot was dealt at least once."""
        return self.rounds > 1 or (self.rounds == 1 and not self.pile)


def read_shots(data: Path, config: BallConfig) -> list[Shot]:
    """Every clip as a shot, with its actions where it is annotated.

    Raises:
        ValueError: the data are not there.
    """
    clips = read_clips(data)
    database = json.loads((data / "ucf9" / "ball.json").read_text())["database"]
    shots = [_shot(clip, database.get(clip.key, {"annotations": []})) for clip in clips]
    scored = {action.label for shot in shots for action in shot.actions}
    # A clip of a scored class without annotation would teach that it is background.
    usable = [shot for shot in shots if shot.actions or shot.clip.action not in scored]
    return [shot for shot in usable if _lie_inside(shot, config.inside_s)]


def _shot(clip: Clip, entry: dict[str, Any]) -> Shot:
    whole = clip.duration_s
    actions = [(one["label"], *map(float, one["segment"])) for one in entry["annotations"]]
    return Shot(
        clip=clip,
        actions=tuple(Segment(label, start, min(end, whole)) for label, start, end in actions),
        duration_s=whole if actions else min(whole, MAX_BACKGROUND_S),
    )


def _lie_inside(shot: Shot, inside_s: float) -> bool:
    last_s = shot.duration_s - inside_s
    return all(action.start_s >= inside_s and action.end_s <= last_s for action in shot.actions)


def plan_videos(shots: list[Shot], config: BallConfig, subset: str) -> Iterator[list[Shot]]:
    """The shots of every video of a subset, in order."""
    rng = np.random.default_rng([config.seed, SUBSETS.index(subset)])
    own = [shot for shot in shots if shot.clip.subset == subset]
    scored = Deck([shot for shot in own if shot.actions], rng)
    other = Deck([shot for shot in own if not shot.actions], rng)
    made = 0
    while made < config.train if subset == "train" else not scored.all_dealt:
        yield _plan_video(scored, other, config, rng, once=subset != "train")
        made += 1


def _plan_video(scored: Deck, other: Deck, config: BallConfig, rng: np.random.Generator, *, once: bool) -> list[Shot]:
    wanted_s, video = rng.uniform(config.shortest_s, config.longest_s), list[Shot]()
    while sum(shot.duration_s for shot in video) < wanted_s:
        action = rng.random() < config.share and not (once and scored.all_dealt)
        video.append((scored if action else other).deal())
    return video


def show(shot: Shot, config: BallConfig, rng: np.random.Generator) -> tuple[NDArray[np.uint8], list[Segment]]:
    """A shot's frames `[T, H, W, 3]` at the video's rate, and its actions as far as those frames show them.

    An annotated clip is shown whole, of another up to `MAX_BACKGROUND_S` from a start by lot.
    """
    start_s = float(rng.uniform(0.0, shot.clip.duration_s - shot.duration_s))  # 0 of an annotated clip
    count = int(shot.duration_s * config.fps)
    times_s = start_s + np.arange(count) / config.fps
    frames = decode_frames(shot.clip.path.read_bytes(), times_s, (HEIGHT, WIDTH))
    return frames, [action._replace(end_s=min(action.end_s, count / config.fps)) for action in shot.actions]


def draw_videos(data: Path, config: BallConfig) -> Iterator[VideoSample]:
    """Every video of every subset.

    Raises:
        ValueError: the data are not there.
    """
    shots = read_shots(data, config)
    for subset in SUBSETS:
        for index, video in enumerate(plan_videos(shots, config, subset)):
            rng = np.random.default_rng([config.seed, SUBSETS.index(subset), index, 1])
            yield join_shots([show(shot, config, rng) for shot in video], config, subset, index)


def join_shots(
    shown: list[tuple[NDArray[np.uint8], list[Segment]]], config: BallConfig, subset: str, index: int
) -> VideoSample:
    """One video of shots' frames, with its actions at their places in the video."""
    segments, first = [], 0
    for frames, actions in shown:
        start_s = first / config.fps
        segments += [(one.label, start_s + one.start_s, start_s + one.end_s) for one in actions]
        first += len(frames)
    video = encode_h264(np.concatenate([frames for frames, _ in shown]), config.fps, crf=CRF)
    return VideoSample(f"{subset}-{index:05d}", video, annotation(subset, first / config.fps, config.fps, segments))
