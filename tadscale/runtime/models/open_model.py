"""A packaged model by whatever names it: a folder, a registered name, an alias, a version."""

import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from tadscale.errors import UserError
from tadscale.runtime.models.registry import CHAMPION, Registry

MODELS = "models:/"


@contextmanager
def open_model(model: str, tracking_uri: str | None = None) -> Iterator[Path]:
    """The folder of a packaged model, downloaded if need be for as long as the `with` block lasts.

    Args:
        model: `models:/NAME@ALIAS`, `models:/NAME/VERSION`, `NAME` (its champion), or the folder of a packaged model.
        tracking_uri: of the registry; by default the environment variable MLFLOW_TRACKING_URI.

    Raises:
        UserError: there is no such model.
    """
    if not model.startswith(MODELS) and Path(model).is_dir():
        yield Path(model)
        return
    name, selector = parse_model(model)
    uri = tracking_uri or os.environ.get("MLFLOW_TRACKING_URI")
    if not uri:
        raise UserError(
            f"{model} is no folder, and no registry is named that could have it: set MLFLOW_TRACKING_URI, such as "
            "http://HOST:5000 or sqlite:////absolute/path/mlflow.db"
        )
    with Registry(uri).fetch(name, selector) as folder:
        yield folder


def parse_model(model: str) -> tuple[str, str]:
    """Name and selector (an alias or a version number) of `models:/NAME@ALIAS`, `models:/NAME/VERSION` or `NAME`.

    Raises:
        UserError: it is none of these.
    """
    text = model.removeprefix(MODELS)
    name, separator, selector = text.partition("@" if "@" in text else "/")
    if not separator:
        selector = CHAMPION
    if not name or not selector or "/" in selector or ":" in name or name.startswith("."):
        raise UserError(
            f"{model!r} is neither a folder nor a model: write models:/NAME@champion, models:/NAME/3, NAME, or the path of "
            "a packaged model's folder"
        )
    return name, selector
