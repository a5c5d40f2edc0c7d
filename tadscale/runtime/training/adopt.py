"""What a finished stage left, given to an equal one of another run, which then need not be trained."""

from collections.abc import Iterable

from tadscale.data.storage import join, list_names, read_bytes, write_bytes
from tadscale.runtime.stage.result import StageResult
from tadscale.runtime.stage.spec import Stage
from tadscale.runtime.training.resume import IDENTITY_NAME, RESULT_NAME, finished_as_set, is_begun


def adopt(stage: Stage, equals: Iterable[Stage]) -> str | None:
    """Give a stage that was not begun yet what an equal one has left.

    Args:
        stage: to be trained, or not.
        equals: stages of other runs with the same settings. The first is taken that is finished, and is what its settings
            say now: a folder may hold what was trained with others before.

    Returns:
        Whose it took; None if it was begun, or no other is finished, or none kept the epochs that it is chosen from.

    Raises:
        StorageError: the storage cannot be reached.
    """
    if is_begun(stage.url):
        return None
    for other in equals:
        result = finished_as_set(other)
        if result is not None and set(stage.kept_epochs) <= result.kept_epochs.keys():
            _copy(result, stage)
            return other.url
    return None


def _copy(source: StageResult, target: Stage) -> None:
    """Its result comes last: whoever finds it knows that all is there. What says that it was begun comes just before, for
    a copy that is broken off begins again."""
    epochs = {source.epoch_url(epoch): target.epoch_url(epoch) for epoch in target.kept_epochs}
    for networks, here in ({source.weights_url: target.weights_url} | epochs).items():
        for name in list_names(networks):
            write_bytes(join(here, name), read_bytes(join(networks, name)))
    write_bytes(target.log_url, read_bytes(source.log_url))
    write_bytes(target.quarantine_url, read_bytes(source.quarantine_url))
    for name in (IDENTITY_NAME, RESULT_NAME):
        write_bytes(join(target.url, name), read_bytes(join(source.url, name)))
