"""Our ActionFormer beside its authors' own, in one process, on the same features. One thread, CPU seconds.

    python -m benchmarks.public_actionformer CLONE [--repeats 5]

CLONE is a checkout of happyharrycn/actionformer_release, of which nothing is copied here. Its network is built from its
configs/thumos_i3d.yaml; what only its suppression and its logs need (a compiled extension, joblib, tensorboard) need not be
installed. Size, targets and turns are those of `benchmarks.heads`; its step includes its losses, ours its own.
"""

import argparse
import sys
from collections.abc import Callable
from concurrent.futures import ProcessPoolExecutor
from functools import partial
from multiprocessing import get_context
from pathlib import Path
from types import ModuleType
from typing import Any

import torch
from rich.console import Console
from rich.table import Table

from benchmarks.heads import PUBLISHED, STRIDE_FRAMES, Contestant, by_turns, contestant, random_targets, resident

CONFIG = "configs/thumos_i3d.yaml"
UNUSED = ("nms_1d_cpu", "joblib", "tensorboard")  # suppression, evaluation, logs


def main(argv: list[str] | None = None) -> None:
    """Measure both and print the table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("clone", type=Path, help="checkout of the authors' repository")
    parser.add_argument("--repeats", type=int, default=5)
    arguments = parser.parse_args(argv)
    if not (arguments.clone / CONFIG).is_file():
        parser.error(f"{arguments.clone} has no {CONFIG}: give a checkout of happyharrycn/actionformer_release")
    torch.set_num_threads(1)
    makers: dict[str, Callable[[], Contestant]] = {
        "the authors'": partial(public, arguments.clone),
        "ours": partial(contestant, "actionformer", PUBLISHED, "cpu"),
    }
    with ProcessPoolExecutor(max_workers=1, mp_context=get_context("spawn"), max_tasks_per_child=1) as alone:
        peaks = [alone.submit(peak_bytes, make).result() for make in makers.values()]
    both = [make() for make in makers.values()]
    forward = by_turns([torch.no_grad()(one.forward) for one in both], arguments.repeats)
    step = by_turns([one.step for one in both], arguments.repeats)
    table = Table("actionformer", "parameters M", "forward s", "ratio", "step s", "ratio", "peak MiB", "ratio")
    for row, name in enumerate(makers):
        parameters = sum(weight.numel() for weight in both[row].network.parameters())
        cells = [f"{parameters / 1e6:.2f}"]
        for values, shown in ((forward, "{:.2f}"), (step, "{:.2f}"), ([peak / 2**20 for peak in peaks], "{:.0f}")):
            cells += [shown.format(values[row]), f"{values[row] / values[0]:.2f}"]
        table.add_row(name, *cells)
    Console(highlight=False, width=120).print(table)


def public(clone: Path) -> Contestant:
    """The authors' network with the features and the segments that ours gets."""
    sys.path.insert(0, str(clone))
    for name in UNUSED:
        module = sys.modules.setdefault(name, ModuleType(name))
        module.__dict__.setdefault("Parallel", None)
        module.__dict__.setdefault("delayed", None)
    from libs.core import load_config  # type: ignore[import-not-found]
    from libs.modeling import make_meta_arch  # type: ignore[import-not-found]

    config = load_config(str(clone / CONFIG))
    torch.manual_seed(0)
    network = make_meta_arch(config["model_name"], **config["model"]).train()
    videos = list(_videos())

    def forward() -> object:
        x, mask = network.preprocessing(videos)
        pyramid, masks = network.neck(*network.backbone(x, mask))
        return (
            network.cls_head(pyramid, masks),
            network.reg_head(pyramid, masks),
            network.point_generator(pyramid),
        )

    def step() -> None:
        network.zero_grad(set_to_none=True)
        network(videos)["final_loss"].backward()

    return Contestant(network, step, forward)


def _videos() -> list[dict[str, Any]]:
    """Windows as the authors' network is given them; segments are in steps."""
    targets = random_targets(PUBLISHED)
    return [
        {
            "video_id": str(index),
            "feats": torch.randn(PUBLISHED.in_dim, PUBLISHED.steps),
            "segments": targets.segments_frames[index] / STRIDE_FRAMES,
            "labels": targets.labels[index],
            "fps": 30.0,
            "duration": PUBLISHED.steps * STRIDE_FRAMES / 30.0,
            "feat_stride": STRIDE_FRAMES,
            "feat_num_frames": 16,
        }
        for index in range(PUBLISHED.batch)
    ]


def peak_bytes(make: Callable[[], Contestant]) -> int:
    """The most that a training step holds, its weights and features included; for a process of its own."""
    torch.set_num_threads(1)
    before = resident("VmRSS")
    make().step()
    return resident("VmHWM") - before


if __name__ == "__main__":
    main()
