"""Dense inverse search (DIS) optical flow, through OpenCV, on CPUs."""

from types import ModuleType
from typing import Literal

import torch
from torch import Tensor

from tadscale.config import Config
from tadscale.flow.estimator import check_pairs


class DisConfig(Config):
    """Settings of DIS optical flow."""

    preset: Literal["ultrafast", "fast", "medium"] = "medium"
    """OpenCV's preset. At 224 px on one core: `medium` 4.8 ms a pair, mean error .07 px; `fast` 1.0 ms, .18 px; `ultrafast`
    0.5 ms, .25 px. At 112 px the faster two lose displacements of 16 px (benchmarks/flow.py). All lose themselves where
    there is little texture (benchmarks/flow_clips.py)."""

    def fingerprint(self) -> str:
        """Method and preset."""
        return f"dis(preset={self.preset})"


class Dis:
    """DIS optical flow (Kroeger, Timofte, Dai, Van Gool, ECCV 2016), OpenCV's implementation, on the CPU.

    OpenCV is held to one thread in this process: parallelism is over processes, one for each CPU, and OpenCV's own
    pool would oversubscribe the machine.

    Raises:
        ModuleNotFoundError: OpenCV is not installed.
    """

    def __init__(self, config: DisConfig | None = None) -> None:
        self.config = config or DisConfig()
        _opencv()

    def flow(self, frames_a: Tensor, frames_b: Tensor) -> Tensor:
        """See `FlowEstimator.flow`. Frames of any device; the result is on theirs."""
        check_pairs(frames_a, frames_b, min_side_px(*frames_a.shape[-2:]))
        count, height, width = frames_a.shape
        cv2 = _opencv()
        # A fresh object a call: it holds scratch buffers, and is neither thread-safe nor picklable.
        method = cv2.DISOpticalFlow_create(getattr(cv2, f"DISOPTICAL_FLOW_PRESET_{self.config.preset.upper()}"))
        first, second = _as_uint8(frames_a).numpy(), _as_uint8(frames_b).numpy()  # [N, H, W] each
        out = torch.empty(count, 2, height, width)
        for index in range(count):
            pair = torch.from_numpy(method.calc(first[index], second[index], None))  # [H, W, 2]
            out[index] = pair.permute(2, 0, 1)
        return out.to(frames_a.device)

    def fingerprint(self) -> str:
        """See `DisConfig.fingerprint`."""
        return self.config.fingerprint()


def min_side_px(height: int, width: int) -> int:
    """The shortest side of pictures of this shape that OpenCV computes on, in pixels."""
    # OpenCV 5.0 chooses the pyramid's depth from the width: on low frames it reads past the top level and the process
    # dies (segmentation fault at 12 x 40, 24 x 96, 31 x 124 px; none at 16 x 16, 17 x 68, 32 x 640).
    return 16 if width <= 2 * height else 32


def _as_uint8(frames: Tensor) -> Tensor:
    frames = frames.cpu()
    return (frames if frames.dtype == torch.uint8 else frames.round().clamp_(0, 255).to(torch.uint8)).contiguous()


def _opencv() -> ModuleType:
    try:
        import cv2
    except ModuleNotFoundError as error:
        raise ModuleNotFoundError("DIS flow needs OpenCV: pip install 'tadscale[train]', or use motion tvl1") from error
    cv2.setNumThreads(1)
    return cv2
