"""The frame-level feature: the finest level of the pyramid, brought back to the rate of the sampled frames."""

import torch.nn.functional as F
from torch import Tensor, nn

from tadscale.models.heads.afsd.pyramid import ConvNorm


class FrameLevelFeature(nn.Module):
    """Interpolation to one step a sampled frame and a convolution (Lin et al., CVPR 2021, sec. 3.3,
    "frame-level feature").

    Frame `t * stride_frames` is step t, as everywhere here, where the published network takes the nearest step. It has two
    more layers; at the rate of the frames they would be the dearest of the head.
    """

    def __init__(self, dim: int, stride_frames: int) -> None:
        super().__init__()
        self.stride_frames = stride_frames
        self.layer = ConvNorm(dim, dim)

    def forward(self, features: Tensor, mask: Tensor) -> tuple[Tensor, Tensor]:
        """`[B, D, L]` and `[B, L]` to `[B, D, F]` and `[B, F]`, with F = (L - 1) * stride_frames + 1 frames."""
        frames = (mask.shape[1] - 1) * self.stride_frames + 1
        frame_mask = mask.repeat_interleave(self.stride_frames, dim=1)[:, :frames]
        x = F.interpolate(features, size=frames, mode="linear", align_corners=True) * frame_mask.unsqueeze(1)
        return self.layer(x, frame_mask), frame_mask
