"""Who has reigned under a name: told from what a registered model carries, whatever instant its last writer died at.

MLflow writes one alias or one tag at a time and offers no compare-and-set. So one write decides, and the rest follows:

- the alias `champion` is who reigns. Consumers read it, and it changes in one write;
- every reign has a tag of its own (`tadscale.reign.000003-1f2e3d4c`, the version its value), so that two writers at once
  overwrite nothing of each other's. The last one may lag behind the alias: it is a record, never an order;
- a rollback first notes whence and whither (`tadscale.rollback`) and takes the note away last. One that was cut short after
  it took effect is finished by the next command, and not done twice;
- who moved the alias and why is noted before and marked after (`moves.py`).
"""

import json
from collections.abc import Container, Mapping
from dataclasses import dataclass
from itertools import groupby
from typing import Any, NamedTuple
from uuid import uuid4

from tadscale.runtime.models.moves import NotedMove, read_moves

CHAMPION, CHALLENGER = "champion", "challenger"
REIGN_PREFIX = "tadscale.reign."
ROLLBACK_TAG = "tadscale.rollback"  # JSON [from, to]


class Reign(NamedTuple):
    """A version's time as champion."""

    key: str
    """Of its tag; in order of time."""
    version: int


@dataclass(frozen=True)
class Succession:
    """The reigns of a registered model, at one instant."""

    champion: int | None
    """Who reigns."""
    reigns: tuple[Reign, ...]
    """As recorded, oldest first; the champion's own may be missing."""
    rollback: tuple[int | None, int] | None = None
    """Whence and whither, of a rollback that was not seen to its end."""
    moves: tuple[NotedMove, ...] = ()
    """Of the alias, the oldest first."""

    @classmethod
    def read(cls, aliases: Mapping[str, Any], tags: Mapping[str, str]) -> "Succession":
        """From a registered model's aliases and tags, read in one call."""
        keys = sorted(key for key in tags if key.startswith(REIGN_PREFIX))
        return cls(
            champion=int(aliases[CHAMPION]) if CHAMPION in aliases else None,
            reigns=tuple(Reign(key, int(tags[key])) for key in keys),
            rollback=tuple(json.loads(tags[ROLLBACK_TAG])) if tags.get(ROLLBACK_TAG) else None,
            moves=read_moves(tags),
        )

    @property
    def former(self) -> list[int]:
        """The champions before this one, the latest last; the same one twice running counts once."""
        line = [version for version, _ in groupby(reign.version for reign in self.reigns)]
        return line[:-1] if line and line[-1] == self.champion else line

    @property
    def is_recorded(self) -> bool:
        """Whether the last recorded reign is the champion's."""
        return bool(self.reigns) and self.reigns[-1].version == self.champion

    @property
    def is_vacant(self) -> bool:
        """Whether somebody reigned and nobody does: the champion's version was deleted, and the alias with it."""
        return self.champion is None and bool(self.reigns)

    @property
    def cut_short(self) -> int | None:
        """Whom a rollback has made champion that was interrupted afterwards."""
        return self.champion if self.rollback and self.rollback[1] == self.champion else None

    def heir(self, existing: Container[int]) -> int | None:
        """Whom a rollback makes champion: the latest before this one who still exists, and is not this one."""
        return next((v for v in reversed(self.former) if v in existing and v != self.champion), None)

    def after(self, version: int) -> list[str]:
        """Keys of the reigns behind a version's last one."""
        keys: list[str] = []
        for reign in reversed(self.reigns):
            if reign.version == version:
                return keys
            keys.append(reign.key)
        return keys

    def next_key(self) -> str:
        """The key of a reign that follows these; another writer's for the same place is another."""
        last = self.reigns[-1].key if self.reigns else ""
        number = int(last.removeprefix(REIGN_PREFIX).partition("-")[0] or 0) + 1
        return f"{REIGN_PREFIX}{number:06d}-{uuid4().hex[:8]}"
