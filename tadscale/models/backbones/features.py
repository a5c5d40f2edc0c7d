"""A small temporal network over snippet features that another network computed."""

from typing import Literal

import torch.nn.functional as F
from pydantic import NonNegativeInt, PositiveInt
from torch import Tensor, nn

from tadscale.models.backbones.base import Backbone, BackboneSettings
from tadscale.models.channels_last import StepNorm, TimeConv


class FeaturesConfig(BackboneSettings):
    """A projection and a few temporal convolutions, for windows of features (data.window.features)."""

    name: Literal["features"] = "features"
    """For shards of features: the network that computed them stays outside."""
    width: PositiveInt = 512
    """Channels of a feature vector after the projection."""
    layers: NonNegativeInt = 1
    """Temporal convolutions of width 3 after it. 0: each row by itself."""

    def build(self, in_channels: int) -> "Features":
        """See `BackboneSettings`; `in_channels` are the features' own: 1024 of I3D's RGB, and 1024 of its flow."""
        return Features(in_channels, width=self.width, layers=self.layers)


class Features(Backbone):
    """A feature vector for every row: of RGB features in a student, where both branches share it, of flow in a teacher.

    The features are frozen, so this is all that a student's branches can shape together. Rows come as a video of one pixel
    a side (`tadscale.models.detector.as_input`); larger pictures would be averaged.

    Published features are activations after a ReLU, of a scale of their own: normalised after the projection, not before.
    """

    def __init__(self, in_channels: int, *, width: int, layers: int) -> None:
        super().__init__()
        self.stride = 1
        self.out_channels = width
        kernels = [1, *[3] * layers]
        widths = [in_channels, *[width] * len(kernels)]
        self.convs = nn.ModuleList(
            TimeConv(widths[index], width, kernel, padding=kernel // 2, bias=False)
            for index, kernel in enumerate(kernels)
        )
        self.norms = nn.ModuleList(StepNorm(width) for _ in kernels)

    def forward(self, video: Tensor) -> Tensor:
        """`[B, C_in, T, 1, 1]` to `[B, width, T]`."""
        x = video.mean(dim=(3, 4)).transpose(1, 2)  # [B, T, C_in]
        for conv, norm in zip(self.convs, self.norms, strict=True):
            x = F.relu(norm(conv(x)))  # [B, T, width]
        return x.transpose(1, 2)
