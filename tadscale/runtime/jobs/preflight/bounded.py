"""Work on the outside world in bounded time, whatever the outside world does."""

import threading
from collections.abc import Callable
from typing import TypeVar

from tadscale.errors import UserError
from tadscale.runtime.cluster.overload import overload

T = TypeVar("T")


def within(seconds: float, work: Callable[[], T], what: str) -> T:
    """What some work gives, if it is done in time; else it is left behind, in a thread that ends with the process.

    Args:
        seconds: how long it may take; longer where this machine has more to do than CPUs (`overload`).
        work: called in a thread of its own; its exception is raised here.
        what: how the error calls it.

    Raises:
        UserError: it was not done in time.
    """
    result: list[T] = []
    failure: list[BaseException] = []

    def run() -> None:
        try:
            result.append(work())
        except BaseException as error:
            failure.append(error)

    thread = threading.Thread(target=run, name=what, daemon=True)
    thread.start()
    seconds *= overload()
    thread.join(seconds)
    if failure:
        raise failure[0]
    if not result:
        raise UserError(f"no answer from the {what} within {seconds:.0f} s: is it up, and can this machine reach it?")
    return result[0]
