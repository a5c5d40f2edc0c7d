"""G-TAD: an anchor-based head on a graph of time steps.

Xu, Zhao, Rojas, Thabet, Ghanem, G-TAD: Sub-Graph Localization for Temporal Action Detection, CVPR 2020. Steps are nodes;
graph convolutions join them along time and along likeness; every anchor, a start and a duration, is a sub-graph that is
aligned to a fixed size and scored. Written from the paper; published settings are those of the authors' code.

The published head proposes segments of any class, and a classifier of whole videos names them. Ours is a detector by
itself: beside its two confidences every anchor has class probabilities of its own, which take that classifier's place in
the score (our choice).
"""

from contextlib import nullcontext
from typing import Literal

import torch
import torch.nn.functional as F
from pydantic import Field, NonNegativeFloat, PositiveFloat, PositiveInt
from torch import Tensor, nn

from tadscale.models.heads.base import Head, HeadSettings, Predictions
from tadscale.models.heads.gtad.alignment import SubGraphAlignment
from tadscale.models.heads.gtad.anchors import anchor_steps, anchors_exist, spaced_durations
from tadscale.models.heads.gtad.graph import GCNeXt, nearest_steps, of_steps
from tadscale.models.temporal import ChannelNorm


class GTADConfig(HeadSettings):
    """Anchor-based, on a graph of time steps. The published THUMOS14 setting: dim 256, 32 paths of width 4, 3 neighbours,
    32 places and 4 context places (16 and 16 in the authors' code), map_dim 512 and then 128, max_duration 64 of windows of
    256 steps, every duration."""

    name: Literal["gtad"] = "gtad"
    """G-TAD (Xu et al., CVPR 2020)."""

    dim: PositiveInt = 64
    """Channels of a node."""
    paths: PositiveInt = 8
    """Paths that a graph convolution is split into (cardinality); the paper's 32."""
    path_width: PositiveInt = 4
    """Channels of a path; the paper's 4."""
    neighbours: PositiveInt = 3
    """Semantic edges of a node; the paper's 3."""
    places: PositiveInt = 16
    """Parts of an anchor that its own features are aligned to; the paper's 32."""
    context_places: PositiveInt = 4
    """The same of the features of its semantic neighbours; the paper's 4."""
    samples: PositiveInt = 1
    """Points that are averaged in each part. More are needed where parts of the longest anchors are longer than what a
    node sees, about 7 steps: a part is 2 * max_duration / places steps."""
    map_dim: PositiveInt = 32
    """Channels of the map of anchors; the paper has 512 and then 128."""
    max_duration: PositiveInt = 64
    """Longest anchor in feature steps; actions of twice that are out of reach. The paper's 64."""
    duration_overlap: float = Field(default=0.85, gt=0.5, le=1)
    """tIoU of neighbouring durations (see `spaced_durations`): the map has 23 of the 64. The paper's 1: all."""
    node_radius: PositiveFloat = 1.5
    """A node is a start (an end) within this many steps of one; published regions are 3 steps wide."""
    iou_weight: NonNegativeFloat = 10.0
    """Weight of the regression of tIoU beside the other losses; the paper's 10."""

    def build(self, *, in_dim: int, num_classes: int, stride_frames: int) -> "GTADHead":
        """See `HeadSettings`."""
        return GTADHead(self, in_dim=in_dim, num_classes=num_classes, stride_frames=stride_frames)


class GTADHead(Head):
    """The head of `GTADConfig`. Predictions, with A anchors (durations times starts) over L steps:

    - `logits` `[B, A, K]`: class scores before the softmax, meant where there is an action;
    - `confidences` `[B, A, 2]`: whether there is an action, and its tIoU with the anchor, before the sigmoid;
    - `segments` `[B, A, 2]`: the anchors, in sampled frames from the window's start;
    - `mask` `[B, A]` bool: anchors that exist;
    - `nodes` `[B, L, 2]`: whether a start, an end, is at a step, before the sigmoid; it only helps to learn;
    - `points` `[B, L, 2]`: the step's place and the stride, both in sampled frames;
    - `steps` `[B, L]` bool: steps that exist.
    """

    def __init__(self, config: GTADConfig, *, in_dim: int, num_classes: int, stride_frames: int) -> None:
        super().__init__()
        self.stride_frames, self.neighbours = stride_frames, config.neighbours
        self.durations = spaced_durations(config.max_duration, config.duration_overlap)
        dim, map_dim = config.dim, config.map_dim
        self.embed = nn.Conv1d(in_dim, dim, 3, padding=1)
        self.embed_norm = ChannelNorm(dim)
        self.before, self.behind, self.at_start, self.at_end = (
            GCNeXt(dim, paths=config.paths, path_width=config.path_width, neighbours=config.neighbours)
            for _ in range(4)
        )
        self.start, self.end = nn.Conv1d(dim, 1, 1), nn.Conv1d(dim, 1, 1)
        self.align = SubGraphAlignment(dim, map_dim, places=config.places, samples=config.samples)
        self.align_context = SubGraphAlignment(dim, map_dim, places=config.context_places, samples=config.samples)
        self.localise = LocalisationModule(map_dim, num_classes)

    def forward(self, features: Tensor, mask: Tensor) -> Predictions:
        """Features `[B, D_in, L]` and validity `[B, L]` to predictions."""
        x, nodes = self._graph(features, mask)  # [B, D, L], [B, L, 2]
        batch, steps = mask.shape
        durations = torch.tensor([each for each in self.durations if each <= steps], device=mask.device)
        anchors = anchor_steps(durations, steps)  # [durations, L, 2]
        exist = anchors_exist(anchors, mask)  # [B, durations, L]
        scores = self._score(x, mask, anchors, exist)  # [B, A, 2 + K]
        places = torch.arange(steps, device=mask.device, dtype=torch.float32) * self.stride_frames  # [L]
        return {
            "logits": scores[..., 2:],
            "confidences": scores[..., :2],
            "segments": (anchors.flatten(0, 1).float() * self.stride_frames).expand(batch, -1, -1),
            "mask": exist.flatten(1),
            "nodes": nodes,
            "points": torch.stack([places, torch.full_like(places, self.stride_frames)], dim=1).expand(batch, -1, -1),
            "steps": mask,
        }

    def _graph(self, features: Tensor, mask: Tensor) -> tuple[Tensor, Tensor]:
        """Features of the nodes `[B, D, L]`, and whether a start and an end is there `[B, L, 2]`.

        In float32 also under autocast: with 8 bits a step may take another for its nearest, and the output jumps. cuDNN's
        convolutions round float32 to 10 bits (TF32) unless told not to: emulated, 0.6 % of steps change a neighbour.
        """
        valid = mask.unsqueeze(1).to(features.dtype)
        # Without data (`meta`, where shapes alone are asked for) there is no autocast that could be switched off.
        exact = nullcontext() if features.is_meta else torch.autocast(features.device.type, enabled=False)
        with exact:
            x = (features * valid).to(self.embed.weight.dtype)
            x = F.relu(self.embed_norm(self.embed(x))) * valid  # [B, D, L]
            x = self.before(x, mask)
            nodes = [self.start(self.at_start(x, mask)), self.end(self.at_end(x, mask))]
            return self.behind(x, mask), torch.cat(nodes, dim=1).transpose(1, 2)

    def _score(self, x: Tensor, mask: Tensor, anchors: Tensor, exist: Tensor) -> Tensor:
        """Nodes `[B, D, L]` and the map of anchors `[durations, L, 2]` to both confidences and classes `[B, A, 2 + K]`."""
        neighbours = of_steps(x, nearest_steps(x, mask, self.neighbours))  # [B, D, L, k]
        context = neighbours.mean(dim=3) * mask.unsqueeze(1)  # [B, D, L]
        flat = anchors.flatten(0, 1)  # [A, 2]
        aligned = self.align(x, flat) + self.align_context(context, flat)  # [B, A, M]
        as_map = aligned.transpose(1, 2).unflatten(2, anchors.shape[:2])  # [B, M, durations, L]
        scores: Tensor = self.localise(as_map, exist)
        return scores.flatten(2).transpose(1, 2)

    def moments(self, predictions: Predictions) -> tuple[Tensor, Tensor]:
        """Of anchors: class probability times the geometric mean of both confidences (the paper's score, sec. "G-TAD
        Inference", with our class probability)."""
        action = torch.sigmoid(predictions["confidences"]).prod(dim=2).sqrt() * predictions["mask"]  # [B, A]
        scores = predictions["logits"].softmax(dim=2) * action.unsqueeze(2)  # [B, A, K]
        return scores, predictions["segments"]


class LocalisationModule(nn.Module):
    """Scores of every anchor from its aligned features and those of its neighbours in start and duration (Xu et al., CVPR
    2020, sec. "Sub-Graph Alignment and Localization"). The first, linear layer on aligned features is `SubGraphAlignment`'s;
    layer normalisation is ours."""

    def __init__(self, dim: int, num_classes: int) -> None:
        super().__init__()
        self.norms = nn.ModuleList(ChannelNorm(dim) for _ in range(3))
        self.mixers = nn.ModuleList(nn.Conv2d(dim, dim, 3, padding=1, bias=False) for _ in range(2))
        self.predict = nn.Conv2d(dim, 2 + num_classes, 1)

    def forward(self, aligned: Tensor, exist: Tensor) -> Tensor:
        """`[B, D, durations, L]` and which anchors exist `[B, durations, L]`, to `[B, 2 + K, durations, L]`."""
        valid = exist.unsqueeze(1).to(aligned.dtype)
        x = self._activate(0, aligned, valid)
        for layer, mix in enumerate(self.mixers, start=1):
            x = self._activate(layer, mix(x), valid)
        return self.predict(x)

    def _activate(self, layer: int, x: Tensor, valid: Tensor) -> Tensor:
        normed: Tensor = self.norms[layer](x.flatten(2)).unflatten(2, x.shape[2:])
        return F.relu(normed) * valid
