"""A stage's log as files: parts while it grows, one file when it is whole."""

import json
import tempfile
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from tadscale.data.storage import join, list_names, read_bytes, read_text, remove, remove_folder, upload, write_bytes

PART_STEPS = 4096
"""Steps of one part, some 5 MB. Object stores cannot append: what grows is written anew with every checkpoint, and that is
one part at most. Rewritten whole, the log of a million steps, 1.3 GB, would be written 5000 times."""

Parts = Mapping[int, Sequence[str]]
"""Lines by the number of their part, in order."""


@dataclass(frozen=True)
class StageLog:
    """The log of one stage: `log/00004096.jsonl`, named by its first step, until `log.jsonl` holds all of them.

    Which part a line belongs to follows from its step alone. So a later attempt writes over what an earlier one left past
    its checkpoint, and every part has been written by the attempts that count when the last step is taken.
    """

    url: str
    """Of the whole log."""
    parts_url: str
    """Folder of the parts."""

    def take_up(self, step: int) -> dict[int, list[str]]:
        """What the part that begins, or goes on, with `step` has already: the lines before it.

        A log that is whole, though steps are left, is taken apart: an earlier version wrote it, or the checkpoint of its
        end was damaged since. Raises `StorageError`.
        """
        if self._is_whole():
            self.write(divide(line for line in read_text(self.url).splitlines() if _step(line) < step))
            remove(self.url)
        lines = read_text(self._at(step // PART_STEPS)).splitlines()
        return {step // PART_STEPS: [line for line in lines if _step(line) < step]}

    def write(self, parts: Parts) -> None:
        """Write parts, each with all of its lines so far. Raises `StorageError`."""
        for part, lines in parts.items():
            write_bytes(self._at(part), "".join(f"{line}\n" for line in lines).encode())

    def merge(self) -> None:
        """Put the parts together, when no step is left; may be called again after it was interrupted.

        They go through a file: memory holds one part. Raises `StorageError`.
        """
        names = list_names(self.parts_url)
        if not self._is_whole():
            with tempfile.NamedTemporaryFile(suffix=".jsonl") as whole:
                for name in names:
                    whole.write(read_bytes(join(self.parts_url, name)))
                whole.flush()
                upload(Path(whole.name), self.url)
        if names:
            remove_folder(self.parts_url)

    def _is_whole(self) -> bool:
        folder, _, name = self.url.rpartition("/")
        return name in list_names(folder)

    def _at(self, part: int) -> str:
        return join(self.parts_url, f"{part * PART_STEPS:08d}.jsonl")


def divide(lines: Iterable[str]) -> dict[int, list[str]]:
    """Lines by the number of their part."""
    parts: dict[int, list[str]] = {}
    for line in lines:
        parts.setdefault(_step(line) // PART_STEPS, []).append(line)
    return parts


def _step(line: str) -> int:
    return int(json.loads(line)["step"])
