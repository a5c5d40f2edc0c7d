"""Pictures as the networks that others trained took them."""

import torch
from torch import Tensor

MEAN = (0.485, 0.456, 0.406)
STD = (0.229, 0.224, 0.225)
"""Of ImageNet's training pictures in [0, 1], R, G, B: what torchvision's, TSM's and VideoMAE's networks took."""
KINETICS_MEAN = (0.43216, 0.394666, 0.37645)
KINETICS_STD = (0.22803, 0.22145, 0.216989)
"""Of Kinetics-400's training frames in [0, 1]: what torchvision's video networks, IG-65M's and TSP's took."""
PYSLOWFAST_MEAN = (0.45, 0.45, 0.45)
PYSLOWFAST_STD = (0.225, 0.225, 0.225)
"""What PySlowFast's networks are published with."""


def imagenet_normalised(frames: Tensor) -> Tensor:
    """Pictures `[B, T, H, W, 3]` uint8, less ImageNet's mean, over its deviation: `[B, 3, T, H, W]` float32."""
    return _normalised(frames, MEAN, STD)


def pyslowfast_normalised(frames: Tensor) -> Tensor:
    """The same with PySlowFast's mean and deviation."""
    return _normalised(frames, PYSLOWFAST_MEAN, PYSLOWFAST_STD)


def kinetics_normalised(frames: Tensor) -> Tensor:
    """The same with Kinetics-400's mean and deviation."""
    return _normalised(frames, KINETICS_MEAN, KINETICS_STD)


def _normalised(frames: Tensor, *colours: tuple[float, ...]) -> Tensor:
    mean, std = (torch.tensor(values, device=frames.device).view(3, 1, 1, 1) for values in colours)
    return (frames.permute(0, 4, 1, 2, 3).to(torch.float32) / 255.0 - mean) / std
