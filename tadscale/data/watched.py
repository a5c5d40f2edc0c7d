"""Who looks on while something is gone through one after the other: what takes hours should be able to say how far it is."""

from collections.abc import Callable, Collection, Iterator
from typing import TypeVar

T = TypeVar("T")

Watch = Callable[[int, int], None]
"""Told how many are done, of how many."""


def unwatched(done: int, total: int) -> None:
    """Nobody looks on."""


def watched(items: Collection[T], watch: Watch) -> Iterator[T]:
    """The items; `watch` is told of each once the next one is asked for."""
    for done, item in enumerate(items, start=1):
        yield item
        watch(done, len(items))
