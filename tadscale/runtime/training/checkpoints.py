"""The checkpoints of one stage: where they lie, which one is good, how many are kept."""

import logging
import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from tadscale.data.storage import join, open_filesystem, with_retry
from tadscale.engine.engine import TrainState
from tadscale.engine.state import COMPLETE_NAME, CorruptState, load_state, read_meta, save_state

log = logging.getLogger(__name__)


@dataclass(frozen=True)
class CheckpointStore:
    """Checkpoints under one URL: `step-00000120/`, named by the number of global batches consumed."""

    url: str
    keep: int = 2
    """How many of the newest are kept: two, so that a damaged one has one before it."""

    def at(self, step: int) -> str:
        """Folder of the checkpoint after `step` steps."""
        return join(self.url, f"step-{step:08d}")

    def steps(self) -> list[int]:
        """Steps with a folder, complete or not, newest first."""

        def names() -> list[str]:
            filesystem, path = open_filesystem(self.url)
            try:
                return [entry["name"].rstrip("/").rsplit("/", 1)[-1] for entry in filesystem.ls(path, detail=True)]
            except FileNotFoundError:
                return []

        matches = (re.fullmatch(r"step-(\d{8,})", name) for name in with_retry(names, self.url))
        return sorted((int(match[1]) for match in matches if match), reverse=True)

    def save(self, state: TrainState, meta: Mapping[str, Any]) -> None:
        """Write a checkpoint, then delete what is too old."""
        save_state(self.at(state.step), state, meta)
        for step in [s for s in self.steps() if s < state.step][self.keep - 1 :]:
            self._delete(step)

    def load_latest(self) -> tuple[TrainState, dict[str, Any]] | None:
        """The newest state that is complete and undamaged, with its meta; None if there is none."""
        for step in self.steps():
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
        for step in self.steps():
            try:
                return read_meta(self.at(step))
            except CorruptState:
                continue
        return None

    def _delete(self, step: int) -> None:
        def delete() -> None:
            filesystem, path = open_filesystem(self.at(step))
            if filesystem.exists(f"{path}/{COMPLETE_NAME}"):
                filesystem.rm_file(f"{path}/{COMPLETE_NAME}")  # first: what is half deleted is not trusted
            filesystem.rm(path, recursive=True)

        with_retry(delete, self.at(step))
