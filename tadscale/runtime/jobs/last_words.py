"""How to go on from a finished run: commands that work as printed, in the shell that it was started from."""

import os
import shlex
import shutil
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

from tadscale.credentials import has_credentials, hide_credentials
from tadscale.runtime.models.registry import CHAMPION, ModelVersion
from tadscale.runtime.tracking.track import default_store

STORE = "MLFLOW_TRACKING_URI"


class Hint(NamedTuple):
    """A line of a run's last words."""

    what: str
    """What it is for."""
    command: str
    """To be typed; or a page's address."""


def hints(tracking_uri: str, model: ModelVersion | None, *, watches: bool = True) -> Iterator[Hint]:
    """How to use the model, and where the runs are looked at. A password is never among it.

    Args:
        tracking_uri: of the store.
        model: what was registered.
        watches: whether that looks at videos; a network on features of unknown make detects nothing in them.
    """
    hidden = has_credentials(tracking_uri)
    if hidden and os.environ.get(STORE) != tracking_uri:
        yield Hint("first", f"export {STORE}=...  # the job's tracking.tracking_uri: {hide_credentials(tracking_uri)}")
    if model is not None and watches:
        yield Hint("detect", f"{_store(tracking_uri)}{program('tadscale')} detect {_url(model)} VIDEO.mp4")
    if tracking_uri.startswith(("http://", "https://")):
        yield Hint("runs", _without_user(tracking_uri))  # a browser asks for the password
    else:
        store = f'"${STORE}"' if hidden else shlex.quote(tracking_uri)
        yield Hint("runs", f"{program('mlflow')} ui --backend-store-uri {store}")


def program(name: str) -> str:
    """How a program of this environment is called: by its name where the environment is active, else by its path.

    `make` puts the environment on the PATH of its own commands; the shell that called it does not have it.
    """
    beside = Path(sys.executable).parent / name
    is_active = sys.prefix == sys.base_prefix or Path(os.environ.get("VIRTUAL_ENV", "")) == Path(sys.prefix)
    if (is_active and shutil.which(name)) or not beside.exists():
        return name
    here = Path.cwd()
    return shlex.quote(str(beside.relative_to(here) if beside.is_relative_to(here) else beside))


def _store(tracking_uri: str) -> str:
    """What a command must be told so that it finds this registry; nothing where it does of itself."""
    if has_credentials(tracking_uri) or tracking_uri == (os.environ.get(STORE) or default_store()):
        return ""
    return f"{STORE}={shlex.quote(tracking_uri)} "


def _url(model: ModelVersion) -> str:
    selector = f"@{CHAMPION}" if CHAMPION in model.aliases else f"/{model.version}"
    return shlex.quote(f"models:/{model.name}{selector}")


def _without_user(uri: str) -> str:
    scheme, separator, rest = uri.partition("://")
    return scheme + separator + rest.rpartition("@")[2]
