"""How a training ends that cannot go on. Apart from what trains, so that it can be caught without importing Ray."""

import traceback
from typing import Literal, NamedTuple

CODE_ERRORS = (AssertionError, AttributeError, ImportError, LookupError, NameError, NotImplementedError, TypeError)
"""What the code of a head or a loss of one's own ends in: no other machine and no later attempt would change it."""


class TrainingFailed(RuntimeError):
    """Training failed more often than `cluster.max_failures` allows, of an error that is in the code, or it diverged."""


class Final(NamedTuple):
    """An error of a rank that no later attempt would change, however sound the machines are."""

    kind: Literal["code", "input", "diverged"]
    says: str


def where_raised(error: Exception) -> str:
    """An error's class, what it says, and the line that raised it."""
    said = f"{type(error).__name__}: {error}".removesuffix(": ")
    frames = traceback.extract_tb(error.__traceback__)
    return f"{said} ({frames[-1].filename}, line {frames[-1].lineno})" if frames else said
