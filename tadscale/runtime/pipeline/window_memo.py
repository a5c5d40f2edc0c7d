"""What was made of windows, kept while every epoch brings them unchanged."""

import threading
from collections.abc import Callable

from tadscale.runtime.pipeline.packets import Columns


class WindowMemo:
    """Results by window, up to a number of bytes. The first to come stay.

    An epoch passes over all windows once. Of such a scan, a cache that drops what was used longest ago keeps nothing that
    is asked for again, once the windows outnumber its places; one that keeps the first always answers for those.
    Threads may ask at once.

    Args:
        max_bytes: of the results kept; what does not fit is made again every time.
    """

    def __init__(self, max_bytes: int) -> None:
        self._room = max_bytes
        self._kept: dict[int, Columns] = {}
        self._keeping = threading.Lock()

    def __contains__(self, window: int) -> bool:
        """Whether a window's result is kept."""
        return window in self._kept

    def recall(self, window: int, make: Callable[[], Columns]) -> Columns:
        """The result for a window: the one kept, or what `make` returns. Not to be written to."""
        if window in self._kept:
            return self._kept[window]
        result = make()
        size = sum(array.nbytes for array in result.values())
        with self._keeping:
            if size <= self._room and window not in self._kept:
                self._kept[window] = result
                self._room -= size
        return result
