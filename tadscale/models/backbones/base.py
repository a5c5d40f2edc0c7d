"""What a backbone is."""

from collections.abc import Mapping

import torch
from torch import Tensor, nn

from tadscale.config import Config
from tadscale.errors import UserError
from tadscale.weights import Match

BACKBONE = "backbone."
"""Prefix of the backbone's parameters in every network."""


class Backbone(nn.Module):
    """Video or motion `[B, C_in, T, H, W]` to features `[B, out_channels, ceil(T / stride)]`, pooled over space.

    What others need to know of it is said here and nowhere else: its width, its temporal stride, how pictures become its
    input.
    """

    out_channels: int
    """Channels of a feature vector."""
    stride: int
    """Temporal stride r: frames per feature step."""
    offset: float = 0.0
    """Frames from a step's first one to the middle of what it sees, in windows of whole steps: step i is of frame
    `i * stride + offset`. Heads place step i at frame `i * stride`, and learn the rest, which is the same everywhere."""

    def maps(self, video: Tensor) -> Tensor:
        """The last maps before space is averaged away, `[B, out_channels, ceil(T / stride), h, w]`."""
        raise NotImplementedError(f"{type(self).__name__} has no maps(), which a pretext reads")

    @property
    def stage_channels(self) -> tuple[int, ...]:
        """Channels of each of the `stages`; the last are `out_channels`."""
        return (self.out_channels,)

    def stages(self, video: Tensor) -> tuple[Tensor, ...]:
        """Maps of growing depth, each `[B, C, L, h, w]` on a grid of its own, that the pretext reads; the last are `maps`.

        By default these alone, which teaches a shallow network. A deep one of many poolings says more of its stages.
        """
        return (self.maps(video),)

    @property
    def unseen(self) -> dict[str, object]:
        """Settings that decide what it computes and show in none of its weights, by name. Frames a step are not among them:
        weights learned at one rate are good at another."""
        return {}

    def forward(self, video: Tensor) -> Tensor:
        """`[B, C_in, T, H, W]` to `[B, out_channels, ceil(T / stride)]`."""
        return self.maps(video).mean(dim=(3, 4))

    def load_published(self, tensors: Mapping[str, Tensor], where: str) -> Match:
        """Put weights in that others published for this network, whatever their layout of names.

        Args:
            tensors: by the file's names.
            where: how errors name the file.

        Returns:
            What matched, and what was left out on purpose.

        Raises:
            UserError: they are not this network's, or there are none published for it; names what does not fit.
        """
        raise UserError(
            f"{where}: none are published for {type(self).__name__}; start it from a trained network's folder"
        )

    def normalise(self, frames: Tensor) -> Tensor:
        """Pictures `[B, T, H, W, 3]` uint8 as this backbone takes them: `[B, 3, T, H, W]` float32, by default in [-1, 1]."""
        return frames.permute(0, 4, 1, 2, 3).to(torch.float32) / 127.5 - 1.0

    def steps(self, mask: Tensor) -> Tensor:
        """Which feature steps exist: `[B, T]` to `[B, ceil(T / stride)]`, a step being valid if its first frame is."""
        return mask[:, :: self.stride]


def feature_stride(settings: "BackboneSettings") -> int:
    """Frames per feature step of the backbone that the settings describe, which says it itself; no memory is taken."""
    with torch.device("meta"):
        return settings.build(3).stride


class BackboneSettings(Config):
    """Base of a backbone's settings: a subclass gives `name` its default and builds the backbone."""

    name: str
    """The word by which a job chooses the backbone."""
    weights: str | None = None
    """What RGB networks start from: the folder of a trained network (`RUN/pretrain/weights`, a path or URL), a registered
    one (`models:/NAME@alias`), or a file of published weights (.safetensors, weights-only .pth). By default from nothing."""

    @property
    def frozen_by(self) -> str:
        """The setting by which layers stay as they were loaded and never learn; empty where all learn, norms apart."""
        return ""

    def build(self, in_channels: int) -> Backbone:
        """The untrained backbone for inputs of `in_channels`: 3 for RGB, 2 for flow."""
        raise NotImplementedError
