"""The checkpoints of one stage: where they lie, which one is good, how many are kept."""

import logging
import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from tadscale.data.storage import join, list_folders, list_names, read_text, remove, remove_folder, write_bytes
from tadscale.engine.engine import TrainState
from tadscale.engine.state import COMPLETE_NAME, CorruptState, load_state, read_meta, save_state

DIVERGED_NAME = "DIVERGED"  # a line for every time that training from here left the finite numbers
DIVERGED_TWICE = 2  # once may be a fault of the hardware, twice is the state's

log = logging.getLogger(__name__)


@dataclass(frozen=True)
class CheckpointStore:
    """Checkpoints under one URL: `step-00000120/`, named by the number of global batches consumed."""

    url: str
    keep: int = 2
    """How many complete ones are kept, the newest: two, so that a damaged one has one before it."""

    def at(self, step: int) -> str:
        """Folder of the checkpoint after `step` steps."""
        return join(self.url, f"step-{step:08d}")

    def steps(self) -> list[int]:
        """Steps with a folder, complete or not, newest first."""
        matches = (re.fullmatch(r"step-(\d{8,})", name) for name in list_folders(self.url))
        return sorted((int(match[1]) for match in matches if match), reverse=True)

    def save(self, state: TrainState, meta: Mapping[str, Any]) -> None:
        """Write a checkpoint, then delete what is too old, and what is older and was never completed.

        Raises:
            Diverged: the state is not finite; nothing is written.
        """
        save_state(self.at(state.step), state, meta)
        if self._times_diverged(state.step):
            remove(join(self.at(state.step), DIVERGED_NAME))  # of an earlier state of this step
        older = [step for step in self.steps() if step < state.step]
        kept = [step for step in older if self._meta(step) is not None][: self.keep - 1]
        for step in older:
            if step not in kept:
                self._delete(step)

    def load_latest(self) -> tuple[TrainState, dict[str, Any]] | None:
        """The newest state that is complete and undamaged, with its meta; None if there is none.

        One from which training has diverged twice comes last: the one before may lead past it.
        """
        for step in self._by_trust():
            try:
                return load_state(self.at(step))
            except CorruptState as error:
                log.warning("checkpoint of step %d is not used, the one before is: %s", step, error)
        return None

    def load(self, step: int) -> tuple[TrainState, dict[str, Any]]:
        """The state after `step` steps. Raises `CorruptState`."""
        return load_state(self.at(step))

    def latest_meta(self) -> dict[str, Any] | None:
        """What stands beside the newest complete state, without reading its tensors."""
        metas = (self._meta(step) for step in self.steps())
        return next((meta for meta in metas if meta is not None), None)

    def note_divergence(self, step: int) -> None:
        """Remember that training which went on from this checkpoint diverged."""
        if step in self.steps():
            lines = "diverged\n" * (self._times_diverged(step) + 1)
            write_bytes(join(self.at(step), DIVERGED_NAME), lines.encode())

    def _by_trust(self) -> list[int]:
        """Newest first; those from which training diverged twice behind all others, the oldest of them first."""
        steps = self.steps()
        doubtful = [step for step in steps if self._times_diverged(step) >= DIVERGED_TWICE]
        if doubtful:
            log.warning("training has diverged twice from checkpoint(s) %s: an earlier one is tried", doubtful)
        return [step for step in steps if step not in doubtful] + doubtful[::-1]

    def _times_diverged(self, step: int) -> int:
        return len(read_text(join(self.at(step), DIVERGED_NAME)).splitlines())

    def _meta(self, step: int) -> dict[str, Any] | None:
        try:
            return read_meta(self.at(step))
        except CorruptState:
            return None

    def _delete(self, step: int) -> None:
        if COMPLETE_NAME in list_names(self.at(step)):
            remove(join(self.at(step), COMPLETE_NAME))  # first: what is half deleted is not trusted
        remove_folder(self.at(step))
