"""The averaged weights at the ends of some epochs, kept so that one of them can be chosen on validation."""

import time
from collections.abc import Callable, Collection

from tadscale.engine.loop import StepRecord
from tadscale.runtime.stage.stopwatch import Stopwatch
from tadscale.runtime.training.callbacks import State


class KeepEpochs:
    """Saves the network at the ends of the epochs that are wanted, on rank 0.

    Comes before the callback that writes checkpoints: a checkpoint that has passed an epoch's end never lacks its weights.
    What is trained again after a crash is saved again, to the same bytes.

    Args:
        epochs: which, counted from 1.
        steps_per_epoch: of the plan.
        save: writes the averaged weights of an epoch.
        stopwatch: takes the time spent here as a checkpoint's.
    """

    def __init__(
        self, epochs: Collection[int], steps_per_epoch: int, save: Callable[[int], None], stopwatch: Stopwatch
    ) -> None:
        self._epochs = epochs
        self._steps_per_epoch = steps_per_epoch
        self._save = save
        self._stopwatch = stopwatch

    def after_step(self, record: StepRecord, state: State) -> bool:
        """See `Callback`."""
        epoch, over = divmod(record.step + 1, self._steps_per_epoch)
        if over == 0 and epoch in self._epochs:
            started = time.monotonic()
            self._save(epoch)
            self._stopwatch.checkpoint_s += time.monotonic() - started
        return False
