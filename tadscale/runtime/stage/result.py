"""Where a stage's files lie, and what it reports once it is finished."""

from typing import TYPE_CHECKING

from tadscale.config import Config
from tadscale.data.storage import join
from tadscale.runtime.stage.stopwatch import TimeSplit


class StageFiles:
    """Where a stage's files lie: everything under its own folder, so that a run can be moved as it is."""

    if TYPE_CHECKING:  # a setting of the one, a property of the other

        @property
        def url(self) -> str:
            """Folder of the stage."""

    @property
    def weights_url(self) -> str:
        """Folder of the trained network: the averaged weights and their description."""
        return join(self.url, "weights")

    def epoch_url(self, epoch: int) -> str:
        """Folder of the network as it was after an epoch, counted from 1, where it was kept."""
        return join(self.url, "epochs", f"epoch-{epoch:04d}")

    @property
    def log_url(self) -> str:
        """Its log, once it is finished: JSON lines, one a step: losses, rates, every rank's first and last position of the
        plan."""
        return join(self.url, "log.jsonl")

    @property
    def log_parts_url(self) -> str:
        """Folder of its log's parts, while it is not finished."""
        return join(self.url, "log")

    @property
    def quarantine_url(self) -> str:
        """Its quarantine ledger: JSON lines, one a bad video; the file exists even if there was none."""
        return join(self.url, "quarantine.jsonl")


class StageResult(StageFiles, Config):
    """What a finished stage reports; also its `result.json`, which leaves out where it lies."""

    url: str
    """Folder of the stage, wherever it lies now."""
    steps: int
    """Optimiser steps of the whole plan."""
    losses: dict[str, float]
    """Of the last step."""
    quarantined: int
    """Bad videos met."""
    seconds: TimeSplit
    """Where the time went."""
    restarts: int
    """Times that the worker group was started again."""
    plan_digest: str
    """Which window was trained at which step."""
    manifest_digest: str
    """The training data."""
    network_sha256: str = ""
    """Digest of the trained network's description; empty in results of earlier versions."""
    epochs: int = 0
    """Passes over the windows; 0 in results of earlier versions."""
    data_plane: str = "ray"
    """Who read the data, `ray` or `embedded`: it decides nothing of the result. Earlier versions had Ray Data alone."""
    kept_epochs: dict[int, str] = {}
    """Digests of the descriptions of the networks that were kept after earlier epochs, by epoch."""
