"""What a published backbone sees in real video before any training here: a linear probe on UCF101's first nine classes.

    python benchmarks/real/probe.py --data FOLDER   # which holds ucf9/ and weights/

One middle frame of each clip goes through MobileNetV2 with its ImageNet weights, unchanged and without shift; a linear
classifier learns the pooled features of groups 08 to 25 and is tested on groups 01 to 07, which share no scene with them.
It printed 90.6 % (873 clips, 341 to test), 350 s on one shared core.
"""

import argparse
import csv
import time
from collections import Counter
from pathlib import Path
from typing import NamedTuple

import numpy as np
import torch
import torch.nn.functional as F
from rich.console import Console
from torch import Tensor

from tadscale.data.decode import decode_frames
from tadscale.engine.start import load_start
from tadscale.models.backbones.base import Backbone
from tadscale.models.backbones.tsm_mobilenet_v2 import TsmMobileNetV2Config

WEIGHTS = "weights/mobilenet_v2_imagenet.safetensors"
SETTINGS = TsmMobileNetV2Config(normalisation="signed_unit", padding="tensorflow", shift=False, stride=1)
SIZE = (224, 224)  # what the weights were trained at; the aspect of 4:3 is not kept
BATCH = 16
RIDGE = 1e-3  # weight of the squared norm beside the mean cross-entropy, on features of unit variance
GOAL = 0.75


class Clip(NamedTuple):
    """A row of the data's index."""

    path: Path
    label: str
    test: bool
    middle_s: float


def read_clips(folder: Path) -> list[Clip]:
    """The clips of `ucf9/index.csv`, in its order."""
    with (folder / "index.csv").open(newline="") as file:
        return [
            Clip(
                folder / "clips" / row["file"],
                row["class"],
                row["split"] == "test",
                int(row["frames"]) / 2 / float(row["fps"]),
            )
            for row in csv.DictReader(file)
        ]


@torch.inference_mode()
def middle_features(backbone: Backbone, clips: list[Clip]) -> Tensor:
    """The pooled features of each clip's middle frame, `[N, C]`."""
    features = []
    for first in range(0, len(clips), BATCH):
        frames = [
            decode_frames(clip.path.read_bytes(), np.array([clip.middle_s]), SIZE)
            for clip in clips[first : first + BATCH]
        ]
        features.append(backbone(backbone.normalise(torch.from_numpy(np.stack(frames))))[:, :, 0])
    return torch.cat(features)


def fit(features: Tensor, labels: Tensor, classes: int) -> Tensor:
    """Weights `[C + 1, classes]` of a multinomial logistic regression, the intercept last; by L-BFGS, deterministic."""
    weight = torch.zeros(features.shape[1] + 1, classes, requires_grad=True)
    optimizer = torch.optim.LBFGS([weight], max_iter=300, line_search_fn="strong_wolfe")

    def loss() -> Tensor:
        optimizer.zero_grad()
        value = F.cross_entropy(logits(features, weight), labels) + RIDGE * weight[:-1].square().sum()
        value.backward()
        return value

    optimizer.step(loss)
    return weight.detach()


def logits(features: Tensor, weight: Tensor) -> Tensor:
    """`[N, C]` and `[C + 1, classes]` to `[N, classes]`."""
    return features @ weight[:-1] + weight[-1]


def main() -> None:
    """Print the probe's accuracy, in all and by class."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=Path, required=True, help="folder with ucf9/ and weights/")
    data, console, started = parser.parse_args().data, Console(), time.perf_counter()
    torch.set_num_threads(1)
    backbone = SETTINGS.build(3).eval()
    load_start(backbone, str(data / WEIGHTS))
    clips = read_clips(data / "ucf9")
    features = middle_features(backbone, clips)
    test, names = torch.tensor([clip.test for clip in clips]), sorted({clip.label for clip in clips})
    labels = torch.tensor([names.index(clip.label) for clip in clips])
    deviation, mean = torch.std_mean(features[~test], dim=0)
    scaled = (features - mean) / (deviation + 1e-6)
    right = logits(scaled, fit(scaled[~test], labels[~test], len(names))).argmax(1) == labels
    for number, name in enumerate(names):
        console.print(f"{name:20s} {float(right[test & (labels == number)].float().mean()):6.1%}")
    counts = Counter(clip.test for clip in clips)
    console.print(
        f"trained on {counts[False]} clips, tested on {counts[True]}: {float(right[test].float().mean()):.1%}"
    )
    console.print(f"the goal is {GOAL:.0%}; took {time.perf_counter() - started:.0f} s")


if __name__ == "__main__":
    main()
