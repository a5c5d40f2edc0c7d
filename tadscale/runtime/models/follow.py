"""A registered model as the source of a detector that follows its alias."""

from contextlib import AbstractContextManager
from pathlib import Path

from tadscale.runtime.models.open_model import parse_model
from tadscale.runtime.models.registry import Registry


class RegisteredModel:
    """A `tadscale.serving.following.ModelSource`: whichever version an alias names.

    Args:
        model: `models:/NAME@ALIAS`, or `NAME` for its champion.
        tracking_uri: of the registry.

    Raises:
        UserError: it is no such name.
    """

    def __init__(self, model: str, tracking_uri: str) -> None:
        self._name, self._selector = parse_model(model)
        self._registry = Registry(tracking_uri)

    def current(self) -> str:
        """The version that the alias names now.

        Raises:
            UserError: there is none.
            TrackingAway: the registry does not answer, which is clear within 20 s.
        """
        return str(self._registry.version(self._name, self._selector).version)

    def fetch(self, version: str) -> AbstractContextManager[Path]:
        """The folder of a version, downloaded for as long as the `with` block lasts."""
        return self._registry.fetch(self._name, version)
