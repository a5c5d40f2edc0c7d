"""TAGS: a proposal-free head. Every snippet has a class and a mask over the whole window.

Nag, Zhu, Song, Xiang, Proposal-Free Temporal Action Detection via Global Segmentation Mask Learning, ECCV 2022. No
anchors, no distances to boundaries: a segment is read off the mask. Written from what the authors published.
"""

from typing import Annotated, Literal, Self

import torch
import torch.nn.functional as F
from pydantic import Field, NonNegativeFloat, PositiveInt, model_validator
from torch import Tensor, nn

from tadscale.models.channels_last import StepNorm, TimeConv
from tadscale.models.heads.base import Head, HeadSettings, Predictions
from tadscale.models.heads.tags.embedding import EmbeddingBlock
from tadscale.models.heads.tags.mask_branch import MaskBranch
from tadscale.models.heads.tags.runs import best_of_equal, runs_around

Threshold = Annotated[float, Field(gt=0, lt=1)]


class TagsConfig(HeadSettings):
    """Proposal-free, a mask over the whole window for each snippet. The paper's THUMOS14 setting is 256 snippets a
    window; the authors' released settings, named below, are those of ActivityNet-1.3."""

    name: Literal["tags"] = "tags"
    """TAGS (Nag, Zhu, Song, Xiang, ECCV 2022)."""

    dim: PositiveInt = 64
    """Channels of the snippet embedding and of both branches; the features' own 2048 in the authors' code."""
    blocks: PositiveInt = 2
    """Transformer blocks of the snippet embedding; 1 in the authors' code. A second is worth a point (drawn features,
    one seed: 95.2 and 96.2 average mAP), and a step still costs half of one of `actionformer`."""
    heads: PositiveInt = 4
    """Attention heads, 4 in the authors' code; each has an even number of `dim`'s channels."""
    mask_dim: PositiveInt = 32
    """Channels of a mask's query and of its keys; even (ours, see `MaskBranch`)."""
    mask_thresholds: tuple[Threshold, ...] = Field(default=(0.2, 0.4, 0.5, 0.6, 0.8), min_length=1)
    """Where masks are cut when segments are read off them. The authors' code has 0, .2, .4, .6 and .8, of which 0
    cuts nothing off a sigmoid."""
    focal_gamma: NonNegativeFloat = 0.0
    """Exponent of the focal class loss; 2 in the authors' code. At 0 it is cross-entropy, which asks for probabilities as
    they are: they rank the detections."""
    dice_share: float = Field(default=0.5, ge=0, le=1)
    """Dice's share of the mask loss, the rest being balanced cross-entropy; .6 in the authors' code."""
    boundary_weight: NonNegativeFloat = 0.0
    """Weight of the boundaries' IoU loss; 1 in the paper, whose term has another form. Masks that hold shares of steps did
    without (drawn features, one seed each: 95.2 at 0 and 94.3 at .2; 95.9 at 0 and 95.0 at .5)."""
    consistency_weight: NonNegativeFloat = 0.1
    """Weight of the distance between what the two branches take for action; 0 in the authors' released settings. No
    difference on drawn features (95.6 at .1, 95.9 at 0)."""

    @model_validator(mode="after")
    def _positions_turn_pairs_of_channels(self) -> Self:
        if self.dim % (2 * self.heads) or self.mask_dim % 2:
            raise ValueError(
                f"{self.heads} attention heads on dim {self.dim}, and mask_dim {self.mask_dim}: positions turn pairs of "
                "channels, so mask_dim must be even and dim a multiple of twice the number of heads"
            )
        return self

    def build(self, *, in_dim: int, num_classes: int, stride_frames: int) -> "TagsHead":
        """See `HeadSettings`."""
        return TagsHead(self, in_dim=in_dim, num_classes=num_classes, stride_frames=stride_frames)


class TagsHead(Head):
    """The head of `TagsConfig`. Predictions, with L snippets:

    - `logits` `[B, L, K + 1]`: class scores before the softmax, the background's last;
    - `masks` `[B, L, L]`: before the sigmoid; row t is the mask of the action that snippet t is in;
    - `cells` `[B, L, 2]`: the stretch of time that a snippet stands for, in sampled frames; float32;
    - `mask` `[B, L]` bool: snippets that exist.
    """

    def __init__(self, config: TagsConfig, *, in_dim: int, num_classes: int, stride_frames: int) -> None:
        super().__init__()
        self.stride_frames, self.mask_thresholds = stride_frames, config.mask_thresholds
        dim = config.dim
        self.embed = TimeConv(in_dim, dim, 3, padding=1)
        self.embed_norm = StepNorm(dim)
        self.blocks = nn.ModuleList(EmbeddingBlock(dim, heads=config.heads) for _ in range(config.blocks))
        self.norm = StepNorm(dim)
        self.classify = TimeConv(dim, num_classes + 1, 3, padding=1)
        self.mask_branch = MaskBranch(dim, config.mask_dim)

    def forward(self, features: Tensor, mask: Tensor) -> Predictions:
        """Features `[B, D_in, L]` and validity `[B, L]` to classes and masks of every snippet."""
        valid = mask.unsqueeze(2).to(features.dtype)  # [B, L, 1]
        x = F.relu(self.embed_norm(self.embed(features.transpose(1, 2) * valid))) * valid  # [B, L, D]
        for block in self.blocks:
            x = block(x, mask)
        x = self.norm(x) * valid
        return {
            "logits": self.classify(x),
            "masks": self.mask_branch(x, mask),
            "cells": self._cells(mask),
            "mask": mask,
        }

    def _cells(self, mask: Tensor) -> Tensor:
        """Step t stands for half a stride to each side of frame t * stride; `[B, L, 2]`."""
        # float32 also under autocast: bfloat16 is half a frame off at frame 128.
        middle = torch.arange(mask.shape[1], device=mask.device, dtype=torch.float32) * self.stride_frames  # [L]
        half = self.stride_frames / 2
        return torch.stack([middle - half, middle + half], dim=1).expand(mask.shape[0], -1, -1)

    def moments(self, predictions: Predictions) -> tuple[Tensor, Tensor]:
        """Of all snippets and thresholds.

        A segment is the run of the snippet's mask around the snippet at one threshold. Its score is the snippet's class
        probability times the IoU of the run with the mask. The authors multiply by the mean of the mask within the run,
        which is the higher the more of the action a high threshold leaves out: 90.4 average mAP where IoU has 95.0
        (drawn features, the same weights; at tIoU .7, 78.6 and 88.1). Of the same run the best snippet speaks, cut
        nearest the middle: a lower cut puts its ends further out. Where each cut is kept the sprites' test videos have 66.4
        mAP at tIoU .95, and 74.4 so; at .8 and below a weak detector loses half a point, others nothing.
        """
        mask = predictions["mask"]
        masks = torch.sigmoid(predictions["masks"].float()) * mask.unsqueeze(1)  # [B, L, L]
        classes = predictions["logits"].float().softmax(dim=2)[..., :-1] * mask.unsqueeze(2)  # [B, L, K]
        thresholds = sorted(self.mask_thresholds, key=lambda threshold: abs(threshold - 0.5))
        cuts = [runs_around(masks, threshold) for threshold in thresholds]
        scores = torch.cat([classes * runs.overlaps.unsqueeze(2) for runs in cuts], dim=1)  # [B, T L, K]
        best = best_of_equal(torch.cat([runs.steps for runs in cuts], dim=1), scores.amax(dim=2), masks.shape[2])
        segments = torch.cat([runs.segments for runs in cuts], dim=1) * self.stride_frames
        return scores * best.unsqueeze(2), segments
