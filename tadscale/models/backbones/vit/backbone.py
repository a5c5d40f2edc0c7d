"""A vision transformer over video: VideoMAE's, with AdaTAD's adapters.

Tong et al., VideoMAE: Masked Autoencoders are Data-Efficient Learners for Self-Supervised Video Pre-Training, NeurIPS 2022
(joint attention over space and time of 16 frames, tubelets of 2 x 16 x 16); Dosovitskiy et al., An Image is Worth 16x16
Words, ICLR 2021; Liu et al., AdaTAD, CVPR 2024: long windows as clips side by side, adapters across them. Parameter names
are VideoMAE's, but for the adapters.
"""

from collections.abc import Mapping
from typing import Literal, NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from tadscale.models.backbones.base import Backbone, BackboneSettings
from tadscale.models.backbones.checkpointing import through
from tadscale.models.backbones.published.loading import load_canonical
from tadscale.models.backbones.published.pictures import imagenet_normalised
from tadscale.models.backbones.vit.adapter import TemporalAdapter
from tadscale.models.backbones.vit.positions import clip_positions
from tadscale.models.channels_last import Linear, linear
from tadscale.weights import Match

FRAMES, TUBELET, PATCH = 16, 2, 16  # frames of a clip; frames and pixels a side of a token
STEPS = FRAMES // TUBELET
DEPTH = 12
NORM_EPS = 1e-6  # VideoMAE's
HINT = "give VideoMAE's weights of the size that model.backbone.size names, or choose the backbone that the file is of"


class Size(NamedTuple):
    """How wide a transformer is."""

    dim: int
    heads: int


SIZES = {"tiny": Size(192, 3), "small": Size(384, 6), "base": Size(768, 12)}


class VitConfig(BackboneSettings):
    """A vision transformer over clips of 16 frames, frozen, with temporal adapters that learn."""

    name: Literal["vit"] = "vit"
    """VideoMAE's transformer (Tong et al., NeurIPS 2022) with AdaTAD's adapters (Liu et al., CVPR 2024)."""
    size: Literal["tiny", "small", "base"] = "small"
    """Width: 192, 384 or 768 channels, and 12 blocks; 6, 22 or 86 million parameters. VideoMAE publishes small and base."""
    frozen: bool = True
    """Whether the trunk stays as it was loaded, and the adapters and the last norm alone learn. A job that gives it nothing
    to load is refused: a trunk that nobody trained has nothing to say."""
    checkpoint: bool = False
    """Whether a block's insides are computed again on the way back instead of kept: less memory for about a third more
    time."""

    @property
    def frozen_by(self) -> str:
        """See `BackboneSettings`."""
        return "frozen" if self.frozen else ""

    def build(self, in_channels: int) -> "Vit":
        """See `BackboneSettings`."""
        return Vit(in_channels, self)


class Attention(nn.Module):
    """Attention of all tokens of a clip to each other. As VideoMAE has it, queries and values have a bias, keys none."""

    def __init__(self, size: Size) -> None:
        super().__init__()
        self._heads = size.heads
        self.qkv = Linear(size.dim, 3 * size.dim, bias=False)
        self.q_bias = nn.Parameter(torch.zeros(size.dim))
        self.v_bias = nn.Parameter(torch.zeros(size.dim))
        self.proj = Linear(size.dim, size.dim)

    def forward(self, tokens: Tensor) -> Tensor:
        """`[N, S, D]` to `[N, S, D]`."""
        bias = torch.cat([self.q_bias, torch.zeros_like(self.v_bias), self.v_bias])
        projected = linear(tokens, self.qkv.weight, bias).unflatten(2, (3, self._heads, -1))  # [N, S, 3, h, D / h]
        query, key, value = projected.permute(2, 0, 3, 1, 4).unbind(0)  # [N, h, S, D / h]
        attended = F.scaled_dot_product_attention(query, key, value)
        return self.proj(attended.transpose(1, 2).flatten(2))


class Mlp(nn.Module):
    """Two layers with GELU between, four times as wide inside."""

    def __init__(self, dim: int) -> None:
        super().__init__()
        self.fc1 = Linear(dim, 4 * dim)
        self.fc2 = Linear(4 * dim, dim)

    def forward(self, tokens: Tensor) -> Tensor:
        """`[N, S, D]` to `[N, S, D]`."""
        return self.fc2(F.gelu(self.fc1(tokens)))


class Block(nn.Module):
    """Attention and MLP, each after a norm and added to what goes through; then the adapter."""

    def __init__(self, size: Size) -> None:
        super().__init__()
        self.norm1 = nn.LayerNorm(size.dim, eps=NORM_EPS)
        self.attn = Attention(size)
        self.norm2 = nn.LayerNorm(size.dim, eps=NORM_EPS)
        self.mlp = Mlp(size.dim)
        self.adapter = TemporalAdapter(size.dim)

    def forward(self, tokens: Tensor, batch: int, places: int) -> Tensor:
        """`[B * clips, steps * places, D]` to the same; see `TemporalAdapter`."""
        tokens = tokens + self.attn(self.norm1(tokens))
        tokens = tokens + self.mlp(self.norm2(tokens))
        return self.adapter(tokens, batch, places)


class PatchEmbed(nn.Module):
    """Tubelets of 2 frames and 16 x 16 pixels, each a token; pixels right and below that fill none are not seen."""

    def __init__(self, in_channels: int, dim: int) -> None:
        super().__init__()
        tubelet = (TUBELET, PATCH, PATCH)
        self.proj = nn.Conv3d(in_channels, dim, tubelet, tubelet)

    def forward(self, clips: Tensor) -> Tensor:
        """`[N, C_in, 16, H, W]` to `[N, D, 8, H / 16, W / 16]`."""
        return self.proj(clips)


def clips_of(video: Tensor) -> Tensor:
    """Windows `[B, C, T, H, W]` as clips of 16 frames, `[B * ceil(T / 16), C, 16, H, W]`; the last frame stands still to the
    end of its clip."""
    missing = -video.shape[2] % FRAMES
    still = video[:, :, -1:].expand(-1, -1, missing, -1, -1)
    clips = torch.cat([video, still], dim=2).unflatten(2, (-1, FRAMES))  # [B, C, clips, 16, H, W]
    return clips.transpose(1, 2).flatten(0, 1)


class Vit(Backbone):
    """VideoMAE's transformer; windows longer than 16 frames are clips of 16, all in one batch, with adapters across them.

    Its last norm is applied to every token. VideoMAE's pre-training does so too; its fine-tuning averages a clip's tokens
    first, and a detector wants them apart.
    """

    stride, offset = TUBELET, (TUBELET - 1) / 2

    def __init__(self, in_channels: int, settings: VitConfig) -> None:
        super().__init__()
        size = SIZES[settings.size]
        self._checkpoints = settings.checkpoint
        self.out_channels = size.dim
        self.patch_embed = PatchEmbed(in_channels, size.dim)
        self.blocks = nn.ModuleList([Block(size) for _ in range(DEPTH)])
        self.fc_norm = nn.LayerNorm(size.dim, eps=NORM_EPS)
        for name, parameter in self.named_parameters():
            if "adapter" not in name:
                _begin(name, parameter)
                parameter.requires_grad_(not settings.frozen or name.startswith("fc_norm"))

    def maps(self, video: Tensor) -> Tensor:
        """See `Backbone`: a 16th of the picture a side, `[B, D, ceil(T / 2), h, w]`."""
        batch, _, frames = video.shape[:3]
        embedded = self.patch_embed(clips_of(video))  # [B * clips, D, 8, h, w]
        rows, columns = embedded.shape[3:]
        positions = clip_positions(STEPS, rows, columns, self.out_channels, embedded.device)
        tokens = embedded.flatten(2).transpose(1, 2) + positions.to(embedded)  # [B * clips, 8 * h * w, D]
        for block in self.blocks:
            tokens = through(block, tokens, batch, rows * columns, saving=self._checkpoints)
        grid = self.fc_norm(tokens).reshape(batch, -1, rows, columns, self.out_channels)  # [B, 8 * clips, h, w, D]
        return grid[:, : -(-frames // TUBELET)].permute(0, 4, 1, 2, 3)

    def normalise(self, frames: Tensor) -> Tensor:
        """See `Backbone`: as VideoMAE's networks took pictures."""
        return imagenet_normalised(frames)

    def load_published(self, tensors: Mapping[str, Tensor], where: str) -> Match:
        """See `Backbone`: VideoMAE's, fine-tuned or as pre-trained; the adapters stay as they are."""
        return load_canonical(self, tensors, where, first="patch_embed.proj.weight", hint=HINT, own=".adapter.")


def _begin(name: str, parameter: nn.Parameter) -> None:
    """VideoMAE's start of the linear layers; the convolution and the norms keep torch's."""
    if parameter.ndim == 2:
        nn.init.trunc_normal_(parameter, std=0.02)
    elif name.startswith("blocks") and name.endswith("bias"):
        nn.init.zeros_(parameter)
