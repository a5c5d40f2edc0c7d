"""What a motion is, by content: a teacher's is told from another's by more than names and places."""

from tadscale.data.manifest import read_manifest
from tadscale.flow.motion import MotionConfig, build_motion

DIGEST_DIGITS = 16


def motion_fingerprint(config: MotionConfig) -> str:
    """Method and every parameter, and the digest of what it reads: a network's weights, or the manifest of flow shards.

    Raises:
        ValueError: the weights are not there or not readable, or the shards have no manifest.
        StorageError: the storage cannot be reached.
    """
    made = build_motion(config).fingerprint()
    if config.flow_url is None:
        return made
    return f"{made} manifest={read_manifest(config.flow_url).digest[:DIGEST_DIGITS]}"
