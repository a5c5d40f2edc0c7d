"""ActionFormer: an anchor-free head over a pyramid of local-attention transformers.

Zhang, Wu, Li, ActionFormer: Localizing Moments of Actions with Transformers, ECCV 2022. Every moment of every pyramid
level is classified and regresses its distances to the action's start and end; a moment is positive near the centre of an
action whose extent suits its level (see `objective`). Written from the paper.
"""

import math
from typing import Literal, Self

import torch
import torch.nn.functional as F
from pydantic import NonNegativeInt, PositiveFloat, PositiveInt, model_validator
from torch import Tensor, nn

from tadscale.models.channels_last import StepNorm, TimeConv
from tadscale.models.heads.actionformer.towers import JoinedLevels, Tower
from tadscale.models.heads.base import Head, HeadSettings, Predictions, check_attention
from tadscale.models.local_attention import TransformerBlock


class ActionFormerConfig(HeadSettings):
    """Anchor-free, a local-attention pyramid. The paper's THUMOS14 setting is dim 512, 2 embedding layers, 2 stem blocks,
    6 levels, 4 heads, reach 9."""

    name: Literal["actionformer"] = "actionformer"
    """ActionFormer (Zhang, Wu, Li, ECCV 2022)."""

    dim: PositiveInt = 64
    """Channels of the transformer."""
    embed_layers: PositiveInt = 1
    """Convolutions before the transformer. The paper has two, on features as they are stored; here the network's temporal
    mapping, two convolutions itself, goes before the head."""
    stem_blocks: NonNegativeInt = 1
    """Transformer blocks before the pyramid."""
    levels: PositiveInt = 4
    """Pyramid levels; each halves the sequence and doubles the extents it answers for."""
    heads: PositiveInt = 4
    """Attention heads; their number divides `dim`."""
    reach: NonNegativeInt = 4
    """Steps seen to each side of a step."""
    centre_radius: PositiveFloat = 1.5
    """A moment is positive within this many steps (of its level) of an action's centre."""
    overlapping_classes: Literal["shortest", "all"] = "shortest"
    """What class is taught where several actions claim a moment: that of the shortest, whose segment is regressed (the
    paper), or those of all. Of equally short ones, all."""
    min_positives: PositiveFloat = 8.0
    """Floor of the number of positive moments that a window's loss is divided by: a window without an action weighs
    as much as one with this many (our choice; the paper divides by a running average over batches)."""

    @model_validator(mode="after")
    def _heads_share_the_channels(self) -> Self:
        check_attention(self.dim, self.heads)
        return self

    def build(self, *, in_dim: int, num_classes: int, stride_frames: int) -> "ActionFormerHead":
        """See `HeadSettings`."""
        return ActionFormerHead(self, in_dim=in_dim, num_classes=num_classes, stride_frames=stride_frames)


class ActionFormerHead(Head):
    """The head of `ActionFormerConfig`. Predictions, with P moments over all levels:

    - `logits` `[B, P, K]`: class scores before the sigmoid;
    - `segments` `[B, P, 2]`: start and end in sampled frames from the window's start;
    - `points` `[B, P, 2]`: the moment's own place and its level's stride, both in sampled frames;
    - `mask` `[B, P]` bool: moments that exist.
    """

    def __init__(self, config: ActionFormerConfig, *, in_dim: int, num_classes: int, stride_frames: int) -> None:
        super().__init__()
        self.stride_frames = stride_frames
        dim = config.dim
        self.embed = TimeConv(in_dim, dim, 3, padding=1)
        self.embed_norm = StepNorm(dim)
        self.embed_more = nn.ModuleList(
            nn.Sequential(TimeConv(dim, dim, 3, padding=1), StepNorm(dim)) for _ in range(config.embed_layers - 1)
        )
        self.stem = nn.ModuleList(
            TransformerBlock(dim, heads=config.heads, reach=config.reach) for _ in range(config.stem_blocks)
        )
        self.pyramid = nn.ModuleList(
            TransformerBlock(dim, heads=config.heads, reach=config.reach, stride=2) for _ in range(config.levels - 1)
        )
        self.level_norms = nn.ModuleList(StepNorm(dim) for _ in range(config.levels))
        self.classify = Tower(dim, num_classes)
        self.regress = Tower(dim, 2)
        self.scales = nn.Parameter(torch.ones(config.levels))
        # Start at a score of 0.01 everywhere (Lin et al. 2017, sec. 3.3): negatives must not swamp the first steps.
        nn.init.constant_(self.classify[-1].bias, -math.log(99.0))  # type: ignore[arg-type]

    def forward(self, features: Tensor, mask: Tensor) -> Predictions:
        """Features `[B, D_in, L]` and validity `[B, L]` to predictions over all moments."""
        x = self._embed(features.transpose(1, 2), mask)  # [B, L, D]
        for block in self.stem:
            x, mask = block(x, mask)
        levels, masks = [x], [mask]
        for block in self.pyramid:
            x, mask = block(x, mask)
            levels.append(x)
            masks.append(mask)
        return self._predict(levels, masks)

    def _embed(self, x: Tensor, mask: Tensor) -> Tensor:
        """`[B, L, D_in]` to `[B, L, D]`, zero where masked."""
        valid = mask.unsqueeze(2).to(x.dtype)
        x = F.relu(self.embed_norm(self.embed(x * valid))) * valid
        for layer in self.embed_more:
            x = F.relu(layer(x)) * valid
        return x

    def _predict(self, levels: list[Tensor], masks: list[Tensor]) -> Predictions:
        """All levels' moments from their maps `[B, L_l, D]` and masks `[B, L_l]`.

        A segment reaches from t - d_s to t + d_e (Zhang, Wu, Li, ECCV 2022, sec. 3). Distances start at one stride of the
        level (ours; the authors' code has no + 1).
        """
        maps = JoinedLevels.of([norm(x) for norm, x in zip(self.level_norms, levels, strict=True)], masks)
        points = self._points(levels)  # [P, 2]
        lengths = [x.shape[1] for x in levels]
        scales = torch.cat([scale.expand(length, 1) for scale, length in zip(self.scales, lengths, strict=True)])
        place, stride = points.split(1, dim=1)  # [P, 1]
        distances = F.relu(self.regress(maps) * scales + 1.0) * stride  # [B, P, 2]
        return {
            "logits": self.classify(maps),
            "segments": torch.cat([place - distances[..., :1], place + distances[..., 1:]], dim=-1),
            "points": points.expand(len(distances), -1, -1),
            "mask": torch.cat(masks, dim=1),
        }

    def _points(self, levels: list[Tensor]) -> Tensor:
        """Place and stride of all moments in sampled frames, `[P, 2]`; float32 at least."""
        points = []
        for level, x in enumerate(levels):
            stride = self.stride_frames * 2**level
            # float32 also under autocast: bfloat16 has no odd frame above 256.
            exact = torch.promote_types(x.dtype, torch.float32)
            place = torch.arange(x.shape[1], device=x.device, dtype=exact) * stride
            points.append(torch.stack([place, torch.full_like(place, stride)], dim=1))
        return torch.cat(points)

    def moments(self, predictions: Predictions) -> tuple[Tensor, Tensor]:
        """Class probabilities and segments of the moments that exist."""
        scores = torch.sigmoid(predictions["logits"]) * predictions["mask"].unsqueeze(2)  # [B, P, K]
        return scores, predictions["segments"]
