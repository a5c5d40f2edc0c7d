"""What networks that start from published weights have in common."""

from pydantic import model_validator

from tadscale.models.backbones.base import BackboneSettings


class PublishedSettings(BackboneSettings):
    """Base of the settings of a convolutional network with batch normalisation, made to start from published weights."""

    frozen_norm: bool = True
    """Whether batch normalisation stays as it was loaded. Else it learns, from the windows of one worker at a time."""
    checkpoint: bool = False
    """Whether a block's insides are computed again on the way back instead of kept: less memory for about a third more
    time."""

    @property
    def counts_statistics(self) -> bool:
        """Whether its norms keep statistics of what they see in training."""
        return not self.frozen_norm

    @model_validator(mode="after")
    def _count_statistics_once(self) -> "PublishedSettings":
        if self.checkpoint and self.counts_statistics:
            raise ValueError(
                "checkpoint computes a block twice, and batch normalisation would count its statistics twice: "
                "set frozen_norm to true, or checkpoint to false"
            )
        return self
