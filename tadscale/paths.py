"""Paths as people write them: `~` is the home folder, wherever a path or a `file://` URL is read."""

import re
from pathlib import Path

from tadscale.errors import UserError

HOME = re.compile(r"(?P<scheme>(?:file://|sqlite:///)?)(?P<path>~.*)", re.DOTALL)


def expand_home(path: str) -> str:
    """A path or URL with the home folder written out where it begins with `~`.

    Raises:
        UserError: `~name`, and nobody here is called so.
    """
    match = HOME.fullmatch(path)
    if match is None:
        return path
    try:
        return match["scheme"] + str(Path(match["path"]).expanduser())
    except RuntimeError:
        raise UserError(
            f"{path}: there is no home folder of that name here; a folder that is called so is written ./{match['path']}"
        ) from None
