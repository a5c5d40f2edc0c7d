"""Bad videos are a designed event: each is entered once in a ledger, and the ledger has a budget."""

import json
from collections.abc import Iterable, Iterator
from typing import Annotated, NamedTuple

from pydantic import Field

from tadscale.config import Config
from tadscale.errors import UserError

STORAGE_PACKAGES = {"botocore", "aiobotocore", "aiohttp", "s3fs", "fsspec"}


class DataError(UserError):
    """One video cannot be used: its slot is masked, its key is quarantined, and the run goes on within the budget.

    Only for faults of the data. Faults of the system (out of memory, disk full, storage out of reach) never become one.
    """

    def __init__(self, reason: str) -> None:
        super().__init__(reason)  # the only argument, so that it survives pickling between processes
        self.reason = reason


def reason_of(error: Exception) -> str:
    """What an exception that one video's bytes caused says of the video; parsers of foreign data raise whatever they like.

    Raises:
        Exception: `error` itself, if it is the system's fault: storage, memory.
    """
    if isinstance(error, DataError):
        return error.reason
    if isinstance(error, MemoryError | OSError) or type(error).__module__.partition(".")[0] in STORAGE_PACKAGES:
        raise error
    return f"{type(error).__name__}: {error}"[:300]


class QuarantineExceeded(UserError):
    """More videos are bad than the budget allows: the data set needs a person."""


class QuarantineBudget(Config):
    """How many bad videos a run bears before it fails."""

    max_fraction: Annotated[float, Field(ge=0, le=1)] = 0.01
    """Share of all videos, 0 to 1. The published sets lose about this much to dead links and broken files. Unless it is
    0, one video is always borne, so that one bad file does not stop a small data set."""

    def allowed(self, total_videos: int) -> int:
        """The number of videos that may be bad out of `total_videos`."""
        return max(1, int(self.max_fraction * total_videos)) if self.max_fraction else 0


class QuarantineEntry(NamedTuple):
    """Why one video is not used."""

    shard: str
    key: str
    reason: str
    stage: str
    """Where it was found: "pack", "scan", "fetch", "decode"."""


class QuarantineLedger:
    """The bad videos of a run: each (shard, key) once, with the first reason that was given.

    Args:
        budget: how many are borne.
        total_videos: size of the data set, once it is known; without it nothing is refused until `check`.
    """

    def __init__(self, budget: QuarantineBudget | None = None, total_videos: int | None = None) -> None:
        self.budget = budget or QuarantineBudget()
        self.total_videos = total_videos
        self._entries: dict[tuple[str, str], QuarantineEntry] = {}

    def __len__(self) -> int:
        return len(self._entries)

    def __iter__(self) -> Iterator[QuarantineEntry]:
        return iter(self._entries.values())

    def __contains__(self, shard_and_key: tuple[str, str]) -> bool:
        return shard_and_key in self._entries

    def add(self, entry: QuarantineEntry) -> bool:
        """Enter a bad video.

        Returns:
            Whether it is new.

        Raises:
            QuarantineExceeded: the number of videos is known and the budget is spent.
        """
        if (entry.shard, entry.key) in self._entries:
            return False
        self._entries[entry.shard, entry.key] = entry
        if self.total_videos is not None:
            self.check(self.total_videos)
        return True

    def check(self, total_videos: int) -> None:
        """Raise `QuarantineExceeded` if more videos are bad than the budget allows out of `total_videos`, or all are."""
        allowed = self.budget.allowed(total_videos)
        none_left = 0 < total_videos <= len(self)
        if len(self) <= allowed and not none_left:
            return
        bound = "none is left" if none_left else f"the budget is {allowed} (max_fraction={self.budget.max_fraction})"
        shown = "\n".join(f"  {_place(e)}: {e.reason} ({e.stage})" for e in list(self)[:5])
        raise QuarantineExceeded(
            f"{len(self)} of {total_videos} videos are in quarantine, {bound}. The first:\n{shown}\n{self._advice()}"
        )

    def _advice(self) -> str:
        """What to do: packing has files, indexing what others wrote; later there is a manifest, perhaps of other shards."""
        if all(entry.stage == "pack" for entry in self):
            return "Correct the annotations or the files, or let more be left out: --budget SHARE, 0 to 1."
        if all(entry.stage == "scan" for entry in self):
            return (
                "Correct the sidecars or the files, or say how the shards are to be understood: --annotations, --classes, "
                "--subset, --video-suffix or --unlabelled."
            )
        return (
            "If they are really bad, remove them from the data set or raise the budget (data.quarantine_budget); if "
            "they are not, the shards and the manifest probably do not belong together: rebuild the manifest."
        )

    def to_jsonl(self) -> str:
        """One JSON object a line, in the order of discovery. Half a character of Unicode stays JSON's escape."""
        lines = "".join(json.dumps(e._asdict(), ensure_ascii=False) + "\n" for e in self)
        return lines.encode(errors="backslashreplace").decode()

    def load_jsonl(self, lines: str | Iterable[str]) -> None:
        """Enter what an earlier part of the run wrote with `to_jsonl`; known videos stay as they are."""
        for line in lines.splitlines() if isinstance(lines, str) else lines:
            if line.strip():
                self.add(QuarantineEntry(**json.loads(line)))


def check_within_budget(bad: Iterable[QuarantineEntry], max_fraction: float, total_videos: int) -> None:
    """Raise `QuarantineExceeded` if more of so many videos are bad than that share, or all are."""
    ledger = QuarantineLedger(QuarantineBudget(max_fraction=max_fraction))
    for entry in bad:
        ledger.add(entry)
    ledger.check(total_videos)


def _place(entry: QuarantineEntry) -> str:
    """Which video; a shard is known only where there are shards already."""
    return f"{entry.shard}: {entry.key}" if entry.shard else entry.key
