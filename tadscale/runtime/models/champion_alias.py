"""The alias `champion` of one registered model: moving it, and the records around it. How they hold, says
`succession.py`."""

import time
from collections.abc import Container, Iterator
from dataclasses import replace
from json import loads
from typing import Any, Literal
from uuid import uuid4

from tadscale.errors import UserError
from tadscale.runtime.models.moves import NotedMove, as_tag, new_move
from tadscale.runtime.models.succession import CHAMPION, REIGN_PREFIX, ROLLBACK_TAG, Reign, Succession

FORMER_CHAMPIONS_TAG = "tadscale.former_champions"  # how earlier versions kept the reigns: a JSON list, the latest last
CLAIM_TAG = "tadscale.claim"  # the token of whoever moves the champion next, on a store that has no lock
CLAIM_SETTLE_S = 2.0  # longer than a move takes from its last look at the claim on: five calls


class ChampionChanged(UserError):
    """Another version is champion than the one that a decision was about."""


class ChampionGone(UserError):
    """Somebody reigned under a name, and nobody does: whoever comes next was compared with nobody."""

    def __init__(self, name: str, line: Succession, existing: Container[int]) -> None:
        last = line.reigns[-1].version
        fate = "lost the alias champion" if last in existing else "is gone"
        heir = line.heir(existing)
        back = (
            "" if heir is None else f"`tadscale registry rollback {name}` makes version {heir} the champion again, and "
        )
        super().__init__(
            f"the model {name} has no champion: version {last}, which reigned, {fate}. {back}"
            f"`tadscale registry promote {name} VERSION` any that you name"
        )


class ChampionAlias:
    """Who reigns under a name, to be read and changed.

    Args:
        client: of MLflow.
        name: of a registered model that exists.
    """

    def __init__(self, client: Any, name: str) -> None:
        self._client = client
        self._name = name

    def read(self) -> Succession:
        """Who reigns and reigned; what a writer that died has left undone around the alias is settled first."""
        model = self._client.get_registered_model(self._name)
        if FORMER_CHAMPIONS_TAG in model.tags:
            for place, version in enumerate(loads(model.tags[FORMER_CHAMPIONS_TAG]), start=1):
                self.set("tag", f"{REIGN_PREFIX}{place:06d}-0", str(version))
            self._client.delete_registered_model_tag(self._name, FORMER_CHAMPIONS_TAG)
            model = self._client.get_registered_model(self._name)
        line = Succession.read(model.aliases, model.tags)
        return replace(line, moves=tuple(self._settled(line)))

    def claim(self) -> None:
        """On a store that has no lock: of several who are about to move the alias, the last one to say so may.

        The others see another's token once they have waited for as long as a move takes, and whoever comes later sees the
        alias moved. It needs calls that are faster than the wait, where a lock needs nothing.

        Raises:
            ChampionChanged: somebody else may.
        """
        token = uuid4().hex
        self.set("tag", CLAIM_TAG, token)
        time.sleep(CLAIM_SETTLE_S)
        if self._client.get_registered_model(self._name).tags.get(CLAIM_TAG) != token:
            raise ChampionChanged(
                f"somebody else is about to change the champion of {self._name} at this moment: it is left to them; compare "
                "with the champion that there is afterwards"
            )

    def succeed(self, line: Succession, version: int, why: str, by: str | None) -> None:
        """Make a version the champion whose reign, and that of the one before, is on record; nothing if it is."""
        if line.rollback is not None:
            line = self.end_rollback(line)
        if line.champion is not None and not line.is_recorded:
            line = self.record(line)
        if line.champion != version:
            line = self.move(line, version, why, by)
        if not line.is_recorded:
            self.record(line)

    def move(self, line: Succession, version: int, why: str, by: str | None) -> Succession:
        """Move the alias, between the move's note and its mark."""
        noted = new_move(line.moves, origin=line.champion, target=version, why=why, by=by)
        self.set("tag", *as_tag(noted))
        self.set("alias", CHAMPION, str(version))
        self.set("tag", *as_tag(noted.made))
        return replace(line, champion=version, moves=(*line.moves, noted.made))

    def record(self, line: Succession) -> Succession:
        """Leave the champion's reign on record."""
        assert line.champion is not None
        reign = Reign(line.next_key(), line.champion)
        self.set("tag", reign.key, str(reign.version))
        return replace(line, reigns=(*line.reigns, reign))

    def end_rollback(self, line: Succession) -> Succession:
        """Take away the deposed reigns if a rollback took effect, and its note in any case."""
        deposed = line.after(line.cut_short) if line.cut_short is not None else []
        for key in deposed:
            self._client.delete_registered_model_tag(self._name, key)
        self._client.delete_registered_model_tag(self._name, ROLLBACK_TAG)
        kept = tuple(reign for reign in line.reigns if reign.key not in deposed)
        return replace(line, reigns=kept, rollback=None)

    def set(self, kind: Literal["alias", "tag"], key: str, value: str) -> None:
        """Set an alias or a tag; of two that make the same one at once, MLflow refuses the later, once."""
        from mlflow.exceptions import MlflowException

        write = getattr(self._client, f"set_registered_model_{kind}")
        try:
            write(self._name, key, value)
        except MlflowException as error:
            if error.error_code != "BAD_REQUEST":
                raise
            write(self._name, key, value)

    def _settled(self, line: Succession) -> Iterator[NotedMove]:
        """The moves that were made. One whose author did not come to mark it is marked, or taken off the record."""
        for noted in line.moves:
            if noted.move.made:
                yield noted
            elif noted.move.target == line.champion:
                self.set("tag", *as_tag(noted.made))
                yield noted.made
            else:
                self._client.delete_registered_model_tag(self._name, noted.key)
