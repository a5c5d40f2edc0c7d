"""TadTR: a set of action queries that read the video where they choose to, and refine their segments layer by layer.

Liu, Wang, Hu, Tang, Zhang, Bai, Bai, End-to-end Temporal Action Detection with Transformer, IEEE TIP 2022, sec. III. An
encoder of temporal deformable attention, a decoder in which each query becomes at most one action and each layer refines its
segment, and a second look at each final segment that says how well it fits (actionness). As queries are taught to answer for
different actions (see `objective`), nothing needs to be suppressed. Written from the paper.
"""

import math
from typing import ClassVar, Literal, Self

import torch
from pydantic import NonNegativeFloat, PositiveFloat, PositiveInt, model_validator
from torch import Tensor, nn

from tadscale.metrics.nms import NmsConfig
from tadscale.models.heads.base import Head, HeadSettings, Predictions, check_attention
from tadscale.models.heads.tadtr.deformable_attention import Level
from tadscale.models.heads.tadtr.encoder import Encoder, sinusoids
from tadscale.models.heads.tadtr.sampling import roi_align
from tadscale.models.heads.tadtr.transformer import DecoderLayer


class TadTRConfig(HeadSettings):
    """A set of action queries. The published THUMOS14 setting: dim 256, 8 heads, 4 encoder and 4 decoder layers, 1 level,
    4 points, 40 queries for windows of 128 steps, 16 bins."""

    suppression: ClassVar[NmsConfig] = NmsConfig(method="none")  # one query answers for an action

    name: Literal["tadtr"] = "tadtr"
    """TadTR (Liu et al., IEEE TIP 2022)."""

    dim: PositiveInt = 64
    """Channels of the transformer."""
    heads: PositiveInt = 4
    """Attention heads; their number divides `dim`."""
    levels: PositiveInt = 1
    """Levels of the feature pyramid that the attention reads, each half as long as the one before."""
    encoder_layers: PositiveInt = 1
    """Layers in which steps read steps."""
    decoder_layers: PositiveInt = 3
    """Layers in which queries read steps; each refines the segments."""
    queries: PositiveInt = 30
    """Action queries: the most actions of a window."""
    points: PositiveInt = 4
    """Places that an attention head reads for a query, on each level."""
    bins: PositiveInt = 8
    """Parts of a segment whose features decide its actionness."""
    class_weight: PositiveFloat = 2.0
    """Weight of the focal class loss, as published."""
    matching_class_weight: PositiveFloat = 6.0
    """The same where queries are matched with actions, as in the authors' code: who is sure of the class answers, though
    another's segment is nearer."""
    extent_weight: NonNegativeFloat = 5.0
    """Weight of the L1 distance of centre and width, in windows, as published."""
    tiou_weight: NonNegativeFloat = 2.0
    """Weight of 1 - tIoU, as published."""
    actionness_weight: PositiveFloat = 4.0
    """Weight of the actionness loss, as published."""

    @model_validator(mode="after")
    def _heads_share_the_channels(self) -> Self:
        check_attention(self.dim, self.heads)
        return self

    def build(self, *, in_dim: int, num_classes: int, stride_frames: int) -> "TadTRHead":
        """See `HeadSettings`."""
        return TadTRHead(self, in_dim=in_dim, num_classes=num_classes, stride_frames=stride_frames)


class TadTRHead(Head):
    """The head of `TadTRConfig`. Predictions, with M decoder layers (the last one's count, all are taught) and Q queries:

    - `logits` `[B, M, Q, K]`: class scores before the sigmoid;
    - `segments` `[B, M, Q, 2]`: start and end in sampled frames from the window's start;
    - `actionness` `[B, Q]`: before the sigmoid, how well the last segment fits an action;
    - `frames` `[B]`: the window's valid frames; its valid steps come first.
    """

    def __init__(self, config: TadTRConfig, *, in_dim: int, num_classes: int, stride_frames: int) -> None:
        super().__init__()
        self.stride_frames, self.bins = stride_frames, config.bins
        dim, heads, levels, points = config.dim, config.heads, config.levels, config.points
        self.encoder = Encoder(in_dim, dim, heads=heads, levels=levels, layers=config.encoder_layers, points=points)
        # Small: what queries read must weigh more than who they are, which on a pre-norm residual path is never scaled down.
        self.query = nn.Parameter(torch.randn(config.queries, dim) * 0.02)
        self.reference = nn.Parameter(spread_references(config.queries))
        self.position = nn.Linear(2 * dim, dim)
        self.decoder = nn.ModuleList(
            DecoderLayer(dim, heads=heads, levels=levels, points=points) for _ in range(config.decoder_layers)
        )
        self.norm = nn.LayerNorm(dim)
        self.classify = nn.ModuleList(nn.Linear(dim, num_classes) for _ in self.decoder)
        self.refine = nn.ModuleList(_perceptron(dim, dim, 2) for _ in self.decoder)
        self.fit = _perceptron(config.bins * dim, dim, 1)
        for layers in self.refine:
            # Every query begins with its own segment, as published. Else layers begin by throwing queries about, and with
            # some seeds a fifth of the motions was never learned: teachers of 51 and 47 average mAP, 59 and 66 so.
            *_, last = layers.children()
            for parameter in last.parameters():
                nn.init.zeros_(parameter)
        for last in self.classify:
            # Start at a score of 0.01 everywhere (Lin et al. 2017, sec. 3.3): negatives must not swamp the first steps.
            nn.init.constant_(last.bias, -math.log(99.0))  # type: ignore[arg-type]

    def forward(self, features: Tensor, mask: Tensor) -> Predictions:
        """Features `[B, D_in, L]` and validity `[B, L]` (valid steps first) to predictions of every query and layer."""
        # Coordinates in float32 also under autocast: bfloat16 is half a frame off at frame 128.
        exact = torch.promote_types(features.dtype, torch.float32)
        steps = mask.sum(dim=1).to(exact)  # [B]
        pyramid = self.encoder(features, mask)
        reference = self.reference.to(exact).expand(len(mask), -1, -1)  # [B, Q, 2]
        x = self.query.expand(len(mask), -1, -1)  # [B, Q, D]
        logits, extents = [], []
        for layer, classify, refine in zip(self.decoder, self.classify, self.refine, strict=True):
            extent = torch.sigmoid(reference) * steps[:, None, None]  # [B, Q, 2] centre and width in steps
            x = layer(x, self._position(extent), extent, pyramid)
            out = self.norm(x)
            # Segment refinement. Each layer learns its own correction: no gradient to the segments it starts from (Zhu et
            # al. 2021, sec. 4.2).
            reference = reference + refine(out).to(exact)
            logits.append(classify(out))
            extents.append(torch.sigmoid(reference) * steps[:, None, None])
            reference = reference.detach()
        segments = torch.stack([_ends(extent) for extent in extents], dim=1)  # [B, M, Q, 2] in steps
        return {
            "logits": torch.stack(logits, dim=1).to(exact),
            "segments": segments * self.stride_frames,
            "actionness": self._actionness(segments[:, -1], pyramid[0]).to(exact),
            "frames": steps * self.stride_frames,
        }

    def _position(self, extent: Tensor) -> Tensor:
        """What tells queries apart: sinusoids of centre and width in steps, `[B, Q, 2]` to `[B, Q, D]`."""
        dim = self.query.shape[1]
        waves = sinusoids(extent, dim)
        return self.position(waves.flatten(2).to(self.query.dtype))

    def _actionness(self, segments: Tensor, finest: Level) -> Tensor:
        """Actionness regression (Liu et al., sec. III): RoIAlign on the encoder's output, half as long again as the
        segment so that its surroundings are seen, as published; no gradient to the segments. `[B, Q, 2]` in steps to
        `[B, Q]`."""
        margin = (segments[..., 1:] - segments[..., :1]) / 4
        wide = torch.cat([segments[..., :1] - margin, segments[..., 1:] + margin], dim=-1).detach()
        parts = roi_align(finest.x, wide, bins=self.bins).to(finest.x.dtype)  # [B, Q, bins, D]
        return self.fit(parts.flatten(2)).squeeze(2)

    def moments(self, predictions: Predictions) -> tuple[Tensor, Tensor]:
        """Of the last layer's queries; a score is that of the class times the actionness."""
        exists = predictions["frames"] > 0  # [B]
        fit = torch.sigmoid(predictions["actionness"]) * exists.unsqueeze(1)  # [B, Q]
        scores = torch.sigmoid(predictions["logits"][:, -1]) * fit.unsqueeze(2)  # [B, Q, K]
        return scores, predictions["segments"][:, -1]


def spread_references(queries: int) -> Tensor:
    """Segments that queries start from, `[Q, 2]`: logits of centre and width in windows.

    Centres are spread evenly, widths take turns from 1/20 to 1/3 of the window (our choice; published queries start at
    random centres): a query that starts near an action is matched to it from the first step on.
    """
    centre = (torch.arange(queries) + 0.5) / queries
    width = torch.tensor([1 / 20, 1 / 8, 1 / 3]).repeat(-(-queries // 3))[:queries]
    return torch.logit(torch.stack([centre, width], dim=1))


def _ends(extent: Tensor) -> Tensor:
    """Centre and width to start and end, `[..., 2]`."""
    return torch.stack([extent[..., 0] - extent[..., 1] / 2, extent[..., 0] + extent[..., 1] / 2], dim=-1)


def _perceptron(in_dim: int, dim: int, out_dim: int) -> nn.Sequential:
    """Two hidden layers and a projection."""
    return nn.Sequential(nn.Linear(in_dim, dim), nn.ReLU(), nn.Linear(dim, dim), nn.ReLU(), nn.Linear(dim, out_dim))
