"""What a user is told: the type of errors that are theirs to mend, and the nearest word to one that is not known."""

import difflib
from collections.abc import Iterable

LISTED = 8
"""Known words that an error lists where none is near."""


class UserError(ValueError):
    """A mistake in what tadscale was given: settings, arguments, files. Its message says what, where and what to do.

    The command line ends with that message alone. A plain `ValueError`, out of numpy, torch or a caller of ours that broke a
    contract, is a fault of the program and keeps its traceback.
    """


def nearest(word: str, known: Iterable[str]) -> str:
    """How an error about an unknown word ends: with the nearest known one, or else with those that there are."""
    names = sorted(set(known))
    near = closest(word, names, cutoff=0.5)
    if near:
        return f"did you mean `{near}`?"
    more = f", ... ({len(names)} in all)" if len(names) > LISTED else ""
    return f"valid here: {', '.join(names[:LISTED])}{more}" if names else "there is none"


def closest(word: str, known: Iterable[str], *, cutoff: float = 0.8) -> str:
    """The known word that is spelt nearly so, empty if none is; alike from `cutoff` on, 1 being the same."""
    loose = {_loose(name): name for name in sorted(set(known), reverse=True)}
    close = difflib.get_close_matches(_loose(word), loose, n=1, cutoff=cutoff)
    return loose[close[0]] if close else ""


def _loose(name: str) -> str:
    """A name without what people spell differently: case, blanks, `_` and `-`."""
    return "".join(name.casefold().replace("_", " ").replace("-", " ").split()) or name
