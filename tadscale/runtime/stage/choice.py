"""Which of a stage's weights count: those that are scored on test and published."""

from collections.abc import Mapping
from typing import NamedTuple

from tadscale.runtime.stage.result import StageResult


class Choice(NamedTuple):
    """One epoch's weights of a stage."""

    url: str
    """Folder of the network."""
    network_sha256: str
    """Digest of its description."""
    epoch: int
    """Counted from 1; 0 in stages of earlier versions, which did not say."""
    last: StageResult
    """The stage, which ended with other weights perhaps."""
    validation: Mapping[int, float] | None = None
    """Average mAP on validation, in [0, 1], of every epoch that was looked at; None where the last was taken unseen."""


def last_weights(result: StageResult) -> Choice:
    """What a stage ended with."""
    return Choice(result.weights_url, result.network_sha256, result.epochs, result)


def weights_of_epoch(result: StageResult, epoch: int) -> Choice:
    """What a stage kept at the end of an epoch."""
    if epoch == result.epochs:
        return last_weights(result)
    return Choice(result.epoch_url(epoch), result.kept_epochs[epoch], epoch, result)


def choice_line(mode: str, choice: Choice) -> str:
    """What was chosen and why, in a sentence; empty where nothing was."""
    if choice.validation is None:
        return ""
    last, of_epoch = choice.last.epochs, choice.validation
    return (
        f"{mode}: epoch {choice.epoch} of {last}, chosen on validation at {100 * of_epoch[choice.epoch]:.1f} average mAP "
        f"(the last: {100 * of_epoch[last]:.1f})"
    )
