"""Arrays on their way to a device, while it computes."""

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor


class Upload:
    """Copies arrays to a device.

    To a GPU they go through pinned memory and on a stream of their own: of two threads that take turns in computing, one
    copies its next packet meanwhile. 8 MB of frames are 50 pairs of 224 px: two milliseconds of flow at the 25,500 pairs a
    second that an H100 makes, and one of copying at the 6 to 8 GB/s that pageable memory allows (an estimate).

    Args:
        device: where to.
    """

    def __init__(self, device: str) -> None:
        self._device = torch.device(device)
        if self._device.type == "cuda" and self._device.index is None:
            # Here and now: which device is a thread's current one is that thread's own affair.
            self._device = torch.device("cuda", torch.cuda.current_device())
        self._stream = torch.cuda.Stream(self._device) if self._device.type == "cuda" else None

    def __call__(self, array: NDArray[np.generic]) -> Tensor:
        """The array as a tensor on the device, complete when this returns. On the CPU they may share their memory."""
        host = torch.from_numpy(array)
        if self._stream is None:
            return host.to(self._device)
        with torch.cuda.stream(self._stream):
            copied = host.pin_memory().to(self._device, non_blocking=True)
        self._stream.synchronize()  # this thread waits, the one that computes does not
        copied.record_stream(torch.cuda.current_stream(self._device))  # where it is read, and must not be reused before
        return copied
