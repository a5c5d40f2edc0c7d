"""Who moved the alias `champion`, when, why, from which version to which: a record of every move, in the model's own tags.

A move is noted before it is made (`tadscale.move.000003-1f2e3d4c`, JSON) and marked as made afterwards. If its author died
in between, the next command settles it from where the alias stands: it was made, and is marked, or it was not, and goes. So
no move of ours is without its record, and none is on record that was not made. A move by hand in MLflow's own pages has
none; it shows as a gap, where a move does not begin at the version at which the one before ended.
"""

import getpass
import json
import os
import socket
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from typing import Any
from uuid import uuid4

from tadscale.config import Config

MOVE_PREFIX = "tadscale.move."
MAX_WHY = 1000  # characters; MLflow's tags hold 5000


class Move(Config):
    """One change of the champion, as its tag has it."""

    origin: int | None
    """The version that was champion before; None where there was none."""
    target: int
    """The version that became it."""
    by: str
    """Account and machine, or whatever the caller said."""
    at: str
    """ISO 8601, UTC, by the caller's clock."""
    why: str
    """In words."""
    made: bool
    """Whether the alias was seen to have moved."""


@dataclass(frozen=True)
class NotedMove:
    """A move under the key of its tag."""

    key: str
    """In order of time."""
    move: Move

    @property
    def made(self) -> "NotedMove":
        """The same, as it stands once the alias has moved."""
        return replace(self, move=self.move.model_copy(update={"made": True}))


def read_moves(tags: Mapping[str, str]) -> tuple[NotedMove, ...]:
    """From a registered model's tags, the oldest first."""
    keys = sorted(key for key in tags if key.startswith(MOVE_PREFIX))
    return tuple(NotedMove(key, Move.model_validate(json.loads(tags[key]))) for key in keys)


def new_move(before: Sequence[NotedMove], *, origin: int | None, target: int, why: str, by: str | None) -> NotedMove:
    """A move that is about to be made, behind the ones that are on record."""
    last = before[-1].key if before else ""
    number = int(last.removeprefix(MOVE_PREFIX).partition("-")[0] or 0) + 1
    at = datetime.now(UTC).isoformat(timespec="seconds")
    why = why if len(why) <= MAX_WHY else why[: MAX_WHY - 3] + "..."
    move = Move(origin=origin, target=target, by=by or caller(), at=at, why=why, made=False)
    return NotedMove(f"{MOVE_PREFIX}{number:06d}-{uuid4().hex[:8]}", move)


def caller() -> str:
    """Account and machine of this process, such as `anna@trainer-0`."""
    try:
        account = getpass.getuser()
    except (KeyError, OSError):  # a container may run under a number that has no name
        account = f"uid {os.getuid()}"
    return f"{account}@{socket.gethostname()}"


def as_tag(noted: NotedMove) -> tuple[str, str]:
    """Key and value of its tag."""
    document: dict[str, Any] = noted.move.model_dump(mode="json")
    return noted.key, json.dumps(document)
