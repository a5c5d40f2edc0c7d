"""Local paths as seen from where a job was started: its processes run in other folders."""

from pathlib import Path

from tadscale.flow.motion import MotionConfig


def absolute(url: str | None) -> str | None:
    """A local path made absolute; a URL and None as they are."""
    return url if url is None or "://" in url else str(Path(url).absolute())


def anchored_motion(motion: MotionConfig) -> MotionConfig:
    """The same motion, its weights and shards by absolute paths."""
    raft = motion.raft.model_copy(update={"weights": absolute(motion.raft.weights)})
    return motion.model_copy(update={"flow_url": absolute(motion.flow_url), "raft": raft})
