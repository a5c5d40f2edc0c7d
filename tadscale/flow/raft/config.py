"""Settings of RAFT optical flow, and what tells its flow from another's."""

from pathlib import Path

from pydantic import Field

from tadscale.config import Config
from tadscale.errors import UserError
from tadscale.flow.raft.network import Variant
from tadscale.weights import digest

REVISION = 1  # to be raised when a change to the code changes the flow: it is part of the fingerprint
PUBLISHED: dict[Variant, str] = {
    "small": "raft_small_C_T_V2-01064c6d.pth",
    "large": "raft_large_C_T_SKHT_V2-ff5fadd5.pth",
}
DIGEST_DIGITS = 16


class RaftConfig(Config):
    """Settings of RAFT optical flow."""

    variant: Variant = "small"
    """`small`: 1.0 million parameters. `large`: 5.3 million, more exact, three times the time (on a CPU)."""
    weights: str | None = None
    """Path of the weights, a `.pth` or `.safetensors` file with torchvision's names or the authors', on every machine that
    computes motion and where the job is started. torchvision publishes `raft_small_C_T_V2-01064c6d.pth` and
    `raft_large_C_T_SKHT_V2-ff5fadd5.pth`, the authors `raft-small.pth`, and `raft-things.pth`, `raft-sintel.pth` and
    `raft-kitti.pth` of the large variant. Nothing is downloaded."""
    updates: int = Field(default=12, ge=1)
    """How often the flow is updated. The weights were trained with 12; fewer are faster and less exact."""

    def weights_path(self) -> Path:
        """Where the weights are. Raises a UserError where none are named; does not look for the file."""
        if self.weights is None:
            raise UserError(
                "RAFT needs trained weights, and motion.raft.weights is not set: give it the path of torchvision's "
                f"{PUBLISHED[self.variant]} on this machine (nothing is downloaded), or use motion tvl1, which needs none"
            )
        return Path(self.weights)

    def weights_bytes(self) -> bytes:
        """The file of weights, unread. Raises a UserError where none is named or it is not on this machine."""
        path = self.weights_path()
        if not path.is_file():
            raise UserError(
                f"motion.raft.weights {path}: no such file here. Nothing is downloaded: on every machine that computes "
                f"motion put torchvision's {PUBLISHED[self.variant]} there, or a file of the same names and shapes"
            )
        return path.read_bytes()

    def fingerprint(self, weights_sha256: str | None = None) -> str:
        """Variant, updates and weights: these by the digest of their file, wherever it lies.

        The file is not read as weights: whether they are RAFT's is seen when the network is built.

        Args:
            weights_sha256: digest of the weights, where they have been read; otherwise the file's, as it is now.

        Raises:
            UserError: see `weights_bytes`.
        """
        weights = (weights_sha256 or digest(self.weights_bytes()))[:DIGEST_DIGITS]
        return f"raft/{REVISION}(variant={self.variant}, updates={self.updates}, weights={weights})"
