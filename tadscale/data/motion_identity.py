"""What a motion is, by content: a teacher's is told from another's by more than names and places."""

import hashlib

from tadscale.data.manifest import Manifest, read_manifest
from tadscale.data.noted_motion import noted_motion, write_note
from tadscale.data.windows import WindowConfig
from tadscale.errors import UserError
from tadscale.flow.motion import Motion, MotionConfig

DIGEST_DIGITS = 16


def motion_fingerprint(config: MotionConfig) -> str:
    """Method and every parameter, and what it reads: a network's weights, or shards of flow by what made them.

    Flow of videos that came later is the same motion, and so is flow whose labels were corrected. Of shards that do not say
    what made them, the digest of their videos stands for it. Nothing is built: a file of weights is digested, not parsed.

    Raises:
        UserError: the weights are not there, or neither what made the shards nor a manifest is beside them.
        StorageError: the storage cannot be reached.
    """
    method = config.fingerprint()
    if config.flow_url is None:
        return method
    if noted := noted_motion(config.flow_url):
        return f"{method} of {noted}"
    return f"{method} of videos {_digest(read_manifest(config.flow_url))}"


def check_same_motion(motion: Motion, fingerprint: str) -> None:
    """Raise a ValueError if a motion, as built on this machine, is not the one that the job was started with."""
    if not fingerprint.startswith(motion.fingerprint()):  # where shards are read, it goes on with what made them
        raise UserError(
            f"motion is {motion.fingerprint()} on this machine, and {fingerprint} where the job was started: the files of "
            "weights differ, or the versions of tadscale; have the same on every machine that computes motion"
        )


def note_motion(url: str, motion: Motion, window: WindowConfig) -> None:
    """Write beside shards of flow what made them. Raises `StorageError`."""
    write_note(url, f"{motion.fingerprint()} {window.height}x{window.width} at {window.fps:g} fps", window)


def _digest(manifest: Manifest) -> str:
    videos = sorted(f"{row.key} {row.flow_sha256 or row.video_sha256}" for row in manifest.facts())
    return hashlib.sha256("\n".join(videos).encode()).hexdigest()[:DIGEST_DIGITS]
