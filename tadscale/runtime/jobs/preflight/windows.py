"""Windows: whether they cover their videos, and suit the motion and the videos' own frame rate."""

from collections.abc import Iterator

import numpy as np

from tadscale.flow.dis import min_side_px
from tadscale.flow.motion import MotionConfig
from tadscale.flow.raft.operations import MIN_SIDE_PX
from tadscale.flow.tvl1.estimator import MIN_LEVEL_SIDE_PX
from tadscale.runtime.jobs.preflight.facts import Facts

RATE_SLACK = 0.01  # 29.97 is as good as 30


def coverage(facts: Facts) -> Iterator[str]:
    """No frame between two windows is left out."""
    window = facts.job.data.window
    if window.stride_frames > window.frames:
        yield (
            f"data.window.stride_frames = {window.stride_frames} exceeds data.window.frames = {window.frames}: what lies "
            "between two windows would never be seen; choose a stride of at most the window's length"
        )
    pretrain = facts.job.pretrain
    if pretrain is not None and "pretrain" in facts.modes and pretrain.frames > window.frames:
        yield (
            f"pretrain.frames = {pretrain.frames} exceeds data.window.frames = {window.frames}: the pretext learns from "
            "parts of a detector's window; choose at most its length"
        )


def pictures(facts: Facts) -> Iterator[str]:
    """Pictures are large enough for the motion that is computed on them."""
    window, motion = facts.job.data.window, facts.job.motion
    least = _least_side_px(motion, window.height, window.width)
    if facts.needs_motion and min(window.height, window.width) < least:
        yield (
            f"data.window: motion {motion.name} needs pictures of at least {least} pixels a side, and windows are "
            f"{window.height} x {window.width} (height x width): enlarge them, or choose another motion"
        )


def motion_weights(facts: Facts) -> Iterator[str]:
    """What computes motion is on this machine."""
    if facts.needs_motion and facts.job.motion.flow_url is None:
        facts.job.motion.fingerprint()
    yield from ()


def rate(facts: Facts) -> Iterator[str]:
    """Most training videos have as many pictures a second as windows ask for: a picture shown twice has no motion."""
    window = facts.job.data.window
    fps = facts.training.column("fps").astype(np.float64)
    if np.mean(fps < window.fps * (1 - RATE_SLACK)) > 0.5:
        yield (
            f"data.window.fps = {window.fps:g}, and most training videos have fewer pictures a second (the median is "
            f"{np.median(fps):g}): pictures would be shown twice, and motion between them would be nothing; set "
            f"data.window.fps to {np.median(fps):g} or less"
        )


def _least_side_px(motion: MotionConfig, height: int, width: int) -> int:
    if motion.name == "dis":
        return min_side_px(height, width)
    return {"raft": MIN_SIDE_PX, "tvl1": MIN_LEVEL_SIDE_PX}.get(motion.name, 1)
