"""An ActionFormer head put together plainly, from torch's parts: what `benchmarks.heads` measures ours against.

Zhang, Wu, Li, ECCV 2022, at the settings published for THUMOS14: convolutions over `[B, D, L]` with a mask after each, layer
normalisation over the channels, sliding-window attention in chunks, a pyramid, and two towers that visit one level after
the other. Computes what `ActionFormerHead` does and has as many parameters.
"""

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from tadscale.models.heads.actionformer.network import ActionFormerConfig


class MaskedConv(nn.Conv1d):
    """A convolution over `[B, D, L]`, zero where the mask `[B, 1, L']` is."""

    def forward(self, x: Tensor, mask: Tensor) -> Tensor:  # type: ignore[override]
        """`[B, C, L]` to `[B, D, L]`, nought where the mask is."""
        return super().forward(x) * mask


class ChannelNorm(nn.Module):
    """Layer normalisation over the channels of `[B, D, L]`, written out."""

    def __init__(self, dim: int) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.ones(1, dim, 1))
        self.bias = nn.Parameter(torch.zeros(1, dim, 1))

    def forward(self, x: Tensor) -> Tensor:
        """`[B, D, L]` to `[B, D, L]`."""
        centred = x - x.mean(dim=1, keepdim=True)
        variance = centred.square().mean(dim=1, keepdim=True)
        return centred / torch.sqrt(variance + 1e-5) * self.weight + self.bias


class Layer(nn.Module):
    """A convolution of width 3, layer normalisation, ReLU."""

    def __init__(self, in_dim: int, dim: int, bias: bool) -> None:
        super().__init__()
        self.conv = nn.Conv1d(in_dim, dim, 3, padding=1, bias=bias)
        self.norm = ChannelNorm(dim)

    def forward(self, x: Tensor, mask: Tensor) -> Tensor:
        """`[B, C, L]` to `[B, D, L]`; masked at the end, for the norm fills what the convolution left empty."""
        return F.relu(self.norm(self.conv(x))) * mask


class WindowAttention(nn.Module):
    """Queries in chunks of `reach` steps against three chunks of keys, under a band mask."""

    def __init__(self, dim: int, heads: int, reach: int, stride: int) -> None:
        super().__init__()
        self.heads, self.reach, self.stride = heads, max(reach, 1), stride
        self.mixers = nn.ModuleList(
            MaskedConv(dim, dim, 3, stride=stride, padding=1, groups=dim, bias=False) for _ in range(3)
        )
        self.norms = nn.ModuleList(ChannelNorm(dim) for _ in range(3))
        self.projections = nn.ModuleList(nn.Conv1d(dim, dim, 1) for _ in range(3))
        self.out = MaskedConv(dim, dim, 1)

    def forward(self, x: Tensor, mask: Tensor) -> Tensor:
        """`[B, D, L]` to `[B, D, L / stride]`."""
        query, key, value = (
            project(norm(mix(x, mask)))
            for mix, norm, project in zip(self.mixers, self.norms, self.projections, strict=True)
        )
        missing, steps = -query.shape[2] % self.reach, query.shape[2]
        chunks = (steps + missing) // self.reach
        query = F.pad(query, (0, missing)).unflatten(1, (self.heads, -1)).unflatten(3, (chunks, self.reach))
        key, value, seen = (
            F.pad(side, (self.reach, missing + self.reach)).unfold(2, 3 * self.reach, self.reach)
            for side in (key, value, mask)
        )  # [B, D, N, 3 reach]
        key, value = (side.unflatten(1, (self.heads, -1)) for side in (key, value))
        scores = torch.einsum("bhdnq,bhdnk->bhnqk", query, key) * query.shape[2] ** -0.5
        steps_apart = torch.arange(3 * self.reach) - self.reach - torch.arange(self.reach).unsqueeze(1)
        near = (steps_apart.abs() <= self.reach).to(x.device)  # [reach, 3 reach]
        scores = scores.masked_fill(~(near & (seen.unsqueeze(3) > 0)), -1e4)
        mixed = torch.einsum("bhnqk,bhdnk->bhdnq", scores.softmax(dim=-1), value)
        return self.out(mixed.flatten(3).flatten(1, 2)[:, :, :steps], mask)


class Block(nn.Module):
    """Pre-norm transformer block; halves the sequence at a stride of 2."""

    def __init__(self, dim: int, heads: int, reach: int, stride: int = 1) -> None:
        super().__init__()
        self.attention_norm = ChannelNorm(dim)
        self.attention = WindowAttention(dim, heads, reach, stride)
        self.mlp_norm = ChannelNorm(dim)
        self.mlp = nn.Sequential(nn.Conv1d(dim, 4 * dim, 1), nn.GELU(), nn.Conv1d(4 * dim, dim, 1))
        self.pool = nn.MaxPool1d(3, stride, padding=1) if stride > 1 else nn.Identity()
        self.stride = stride

    def forward(self, x: Tensor, mask: Tensor) -> tuple[Tensor, Tensor]:
        """`[B, D, L]` to `[B, D, L / stride]`, and the mask of that."""
        mask = mask[:, :, :: self.stride]
        x = self.pool(x) * mask + self.attention(self.attention_norm(x), mask)
        return x + self.mlp(self.mlp_norm(x)) * mask, mask


class PlainTower(nn.Module):
    """Two convolutions and a projection on each level."""

    def __init__(self, dim: int, out: int) -> None:
        super().__init__()
        self.layers = nn.ModuleList(Layer(dim, dim, bias=False) for _ in range(2))
        self.out = MaskedConv(dim, out, 3, padding=1)

    def forward(self, levels: list[Tensor], masks: list[Tensor]) -> Tensor:
        """Levels of `[B, D, L]` to `[B, all steps, out]`."""
        found = []
        for x, mask in zip(levels, masks, strict=True):
            for layer in self.layers:
                x = layer(x, mask)
            found.append(self.out(x, mask).transpose(1, 2))
        return torch.cat(found, dim=1)


class PlainActionFormer(nn.Module):
    """The head; predictions are named as those of `ActionFormerHead`, so that the same objective teaches both."""

    def __init__(self, config: ActionFormerConfig, *, in_dim: int, num_classes: int, stride_frames: int) -> None:
        super().__init__()
        dim, block = config.dim, (config.dim, config.heads, config.reach)
        widths = [in_dim] + [dim] * config.embed_layers
        self.embed = nn.ModuleList(Layer(width, dim, bias=True) for width in widths[:-1])
        self.stem = nn.ModuleList(Block(*block) for _ in range(config.stem_blocks))
        self.pyramid = nn.ModuleList(Block(*block, stride=2) for _ in range(config.levels - 1))
        self.level_norms = nn.ModuleList(ChannelNorm(dim) for _ in range(config.levels))
        self.classify, self.regress = PlainTower(dim, num_classes), PlainTower(dim, 2)
        self.scales = nn.Parameter(torch.ones(config.levels))
        self.stride_frames = stride_frames

    def forward(self, features: Tensor, mask: Tensor) -> dict[str, Tensor]:
        """Features `[B, D_in, L]`, mask `[B, L]`."""
        levels, masks = self._pyramid(features, mask.unsqueeze(1).to(features.dtype))
        place, stride = self._places(levels)
        scale = torch.cat([scale.expand(level.shape[2], 1) for scale, level in zip(self.scales, levels, strict=True)])
        distances = F.relu(self.regress(levels, masks) * scale + 1.0) * stride
        return {
            "logits": self.classify(levels, masks),
            "segments": torch.stack([place - distances[..., :1], place + distances[..., 1:]], dim=2).squeeze(3),
            "points": torch.cat([place, stride], dim=1).expand(len(mask), -1, -1),
            "mask": torch.cat(masks, dim=2)[:, 0] > 0,
        }

    def _pyramid(self, x: Tensor, mask: Tensor) -> tuple[list[Tensor], list[Tensor]]:
        """Every level's map `[B, D, L_l]` and mask `[B, 1, L_l]`."""
        for layer in self.embed:
            x = layer(x, mask)
        for block in self.stem:
            x, mask = block(x, mask)
        levels, masks = [x], [mask]
        for block in self.pyramid:
            x, mask = block(x, mask)
            levels.append(x)
            masks.append(mask)
        seen = zip(self.level_norms, levels, masks, strict=True)
        return [norm(level) * mask for norm, level, mask in seen], masks

    def _places(self, levels: list[Tensor]) -> tuple[Tensor, Tensor]:
        """Place and stride of every moment in sampled frames, `[P, 1]` each."""
        strides = [self.stride_frames * 2**level for level in range(len(levels))]
        steps = [torch.arange(level.shape[2], device=level.device) for level in levels]
        place = torch.cat([step * stride for step, stride in zip(steps, strides, strict=True)])
        stride = torch.cat([torch.full_like(step, stride) for step, stride in zip(steps, strides, strict=True)])
        return place.unsqueeze(1).float(), stride.unsqueeze(1).float()
