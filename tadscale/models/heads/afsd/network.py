"""AFSD: coarse anchor-free predictions of every moment, refined by the salient features around their boundaries.

Lin, Xu, Luo, Wang, Tai, Wang, Li, Huang, Fu, Learning Salient Boundary Feature for Anchor-free Temporal Action
Localization, CVPR 2021. Every moment of every pyramid level is classified and regresses its distances to the action's start
and end; features pooled around that start and end then refine class and boundaries, and tell how good the segment is.
Written from the paper; what is ours in it is named where it stands, and in docs/method.md.
"""

import math
from typing import Literal, Self

import torch
from pydantic import Field, NonNegativeFloat, NonNegativeInt, PositiveFloat, PositiveInt, model_validator
from torch import Tensor, nn

from tadscale.models.heads.afsd.boundary_pooling import boundary_pool, boundary_regions
from tadscale.models.heads.afsd.frame_level import FrameLevelFeature
from tadscale.models.heads.afsd.pyramid import ConvNorm, FeaturePyramid, Moments, lay_out
from tadscale.models.heads.afsd.refinement import SaliencyRefinement
from tadscale.models.heads.base import Head, HeadSettings, Predictions, check_attention

MAX_EXPONENT = 8.0
"""Of a coarse distance, in strides of its level: exp(8) is 3000 strides, more than any window has."""


class AfsdConfig(HeadSettings):
    """Anchor-free, coarse predictions refined at their boundaries. The paper's THUMOS14 setting is dim 512, 6 levels,
    inward 4, outward 10, refined_tiou 0.5, localisation_weight 10."""

    name: Literal["afsd"] = "afsd"
    """AFSD (Lin et al., CVPR 2021)."""

    dim: PositiveInt = Field(default=64, multiple_of=2)
    """Channels; half of them look for starts, half for ends. The paper's THUMOS14 setting is 512."""
    levels: PositiveInt = 4
    """Pyramid levels; each halves the sequence. The paper's THUMOS14 setting is 6."""
    heads: PositiveInt = 4
    """Attention heads of the pyramid; their number divides `dim`. The paper's pyramid is convolutions."""
    reach: NonNegativeInt = 4
    """Steps seen to each side of a step by the pyramid's attention."""
    inward: PositiveFloat = 4.0
    """delta_a: a boundary is looked for up to this fraction of the coarse duration inside of it. The paper's value."""
    outward: PositiveFloat = 10.0
    """delta_b: and up to this fraction outside of it. The paper's value."""
    refined_tiou: float = Field(default=0.5, ge=0.0, le=1.0)
    """The overlap of a coarse segment with its action from which on it is refined towards it. The paper's value."""
    localisation_weight: PositiveFloat = 1.0
    """Weight of both localisation losses beside those of class and quality. The paper's THUMOS14 value is 10, for features
    that were trained to tell classes before."""
    activation_weight: NonNegativeFloat = 0.1
    """Weight of activation guided learning. The paper's THUMOS14 value is 1."""
    min_positives: PositiveFloat = 8.0
    """Floor of the number of positive moments that a window's loss is divided by: a window without an action weighs
    as much as one with this many (our choice; the paper divides by the positives of the batch, at least 1)."""

    @model_validator(mode="after")
    def _heads_share_the_channels(self) -> Self:
        check_attention(self.dim, self.heads)
        return self

    def build(self, *, in_dim: int, num_classes: int, stride_frames: int) -> "AfsdHead":
        """See `HeadSettings`."""
        return AfsdHead(self, in_dim=in_dim, num_classes=num_classes, stride_frames=stride_frames)


class AfsdHead(Head):
    """The head of `AfsdConfig`. Predictions, with P moments over all levels and F sampled frames:

    - `coarse_logits`, `logits` `[B, P, K]`: class scores before the sigmoid, coarse and refined;
    - `coarse_segments`, `segments` `[B, P, 2]`: start and end in sampled frames from the window's start, likewise;
    - `quality` `[B, P]`: how well the refined segment fits its action, before the sigmoid;
    - `points` `[B, P, 2]`: the moment's own place and its level's stride, both in sampled frames;
    - `mask` `[B, P]` bool: moments that exist;
    - `activations` `[B, F, 2]`: in 0..1, how much each frame looks like a start and like an end;
    - `frame_mask` `[B, F]` bool: frames that exist.

    Refined segments send no gradient into the coarse ones (Lin et al., CVPR 2021, sec. 3.3).
    """

    def __init__(self, config: AfsdConfig, *, in_dim: int, num_classes: int, stride_frames: int) -> None:
        super().__init__()
        self.stride_frames = stride_frames
        self.inward, self.outward = config.inward, config.outward
        dim = config.dim
        self.pyramid = FeaturePyramid(in_dim, dim, levels=config.levels, heads=config.heads, reach=config.reach)
        self.frame_level = FrameLevelFeature(dim, stride_frames)
        self.class_tower = nn.ModuleList(ConvNorm(dim, dim) for _ in range(2))
        self.boundary_tower = nn.ModuleList(ConvNorm(dim, dim) for _ in range(2))
        self.classify = nn.Conv1d(dim, num_classes, 3, padding=1)
        self.regress = nn.Conv1d(dim, 2, 3, padding=1)
        self.scales = nn.Parameter(torch.ones(config.levels))
        self.refine_class = SaliencyRefinement(dim)
        self.refine_boundary = SaliencyRefinement(dim)
        self.reclassify = nn.Linear(dim, num_classes)
        self.correct = nn.Linear(dim, 2)
        self.judge = nn.Linear(dim, 1)
        # Start at a score of 0.01 everywhere (Lin et al. 2017, sec. 3.3): negatives must not swamp the first steps.
        for last in (self.classify, self.reclassify):
            nn.init.constant_(last.bias, -math.log(99.0))  # type: ignore[arg-type]
        # Refined segments start at the coarse ones: random offsets cost a third of the mAP of the first 200 steps.
        nn.init.zeros_(self.correct.weight)
        nn.init.zeros_(self.correct.bias)
        # And their quality at 0.27: they are two strides long, and the actions that suit a level mostly four to eight.
        nn.init.constant_(self.judge.bias, -1.0)

    def forward(self, features: Tensor, mask: Tensor) -> Predictions:
        """Features `[B, D_in, L]` and validity `[B, L]` to predictions over all moments and frames."""
        levels = self.pyramid(features, mask)
        frames, frame_mask = self.frame_level(*levels[0])  # [B, D, F], [B, F]
        moments = lay_out(levels)
        of_class, of_boundary = moments.features, moments.features  # [B, D, P]
        for layer in self.class_tower:
            of_class = layer(of_class, moments.mask)
        for layer in self.boundary_tower:
            of_boundary = layer(of_boundary, moments.mask)
        points = self._points(moments)
        coarse = self._coarse_segments(self.regress(of_boundary), moments, points)
        refined = self._refine(of_class, of_boundary, frames, coarse.detach(), moments, points)
        return {
            "coarse_logits": self.classify(of_class).transpose(1, 2),
            "coarse_segments": coarse,
            **refined,
            "points": points.expand(mask.shape[0], -1, -1),
            "mask": moments.mask,
            "activations": _activations(frames),
            "frame_mask": frame_mask,
        }

    def _points(self, moments: Moments) -> Tensor:
        """Place and stride of each moment in sampled frames, `[P, 2]`; float32, for bfloat16 is half a frame off at 128."""
        stride = self.stride_frames * 2**moments.level
        return torch.stack([moments.step * stride, stride], dim=-1).to(torch.float32)

    def _coarse_segments(self, regressed: Tensor, moments: Moments, points: Tensor) -> Tensor:
        """`[B, 2, P]` to start and end in sampled frames `[B, P, 2]`: exponential distances (FCOS), in strides of the level,
        which is ours: every level starts at segments of its own size."""
        exponent = regressed.transpose(1, 2) * self.scales[moments.level].unsqueeze(1)  # [B, P, 2]
        distances = exponent.clamp(max=MAX_EXPONENT).exp() * points[:, 1:]
        return torch.stack([points[:, 0] - distances[..., 0], points[:, 0] + distances[..., 1]], dim=-1)

    def _refine(
        self, of_class: Tensor, of_boundary: Tensor, frames: Tensor, coarse: Tensor, moments: Moments, points: Tensor
    ) -> Predictions:
        """Refined logits, segments and quality from coarse segments `[B, P, 2]`."""
        in_frames = boundary_regions(coarse, unit=1.0, inward=self.inward, outward=self.outward)
        frame_pooled = boundary_pool(frames.transpose(1, 2), in_frames)  # [B, P, D]
        around = boundary_regions(coarse / points[:, 1:], unit=1.0, inward=self.inward, outward=self.outward)
        in_steps = (moments.in_sequence(around[0]), moments.in_sequence(around[1]))
        of_class = self.refine_class(of_class.transpose(1, 2), moments.mask, in_steps, frame_pooled)
        of_boundary = self.refine_boundary(of_boundary.transpose(1, 2), moments.mask, in_steps, frame_pooled)
        half = (coarse[..., 1:] - coarse[..., :1]) / 2  # [B, P, 1]
        return {
            "logits": self.reclassify(of_class),
            "segments": coarse + half * self.correct(of_boundary),
            "quality": self.judge(of_boundary).squeeze(2),
        }

    def moments(self, predictions: Predictions) -> tuple[Tensor, Tensor]:
        """Scores and refined segments, stretched to hold their moment."""
        place = predictions["points"][..., 0]  # [B, P]
        start, end = predictions["segments"].unbind(-1)
        segments = torch.stack([torch.minimum(start, place), torch.maximum(end, place)], dim=-1)
        return class_scores(predictions), segments


def class_scores(predictions: Predictions) -> Tensor:
    """Mean of coarse and refined class scores, times the quality (Lin et al., sec. 3.5); `[B, P, K]`, 0 where there is no
    moment."""
    scores = (torch.sigmoid(predictions["coarse_logits"]) + torch.sigmoid(predictions["logits"])) / 2
    quality = torch.sigmoid(predictions["quality"]) * predictions["mask"]  # [B, P]
    return scores * quality.unsqueeze(2)


def _activations(frames: Tensor) -> Tensor:
    """Mean of tanh over the channels that look for starts, and over those that look for ends (Lin et al., sec. 3.4):
    `[B, F, 2]`."""
    return torch.tanh(frames).unflatten(1, (2, -1)).mean(dim=2).transpose(1, 2)
