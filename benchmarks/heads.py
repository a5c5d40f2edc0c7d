"""Cost of every detection head, beside a plain ActionFormer, and of suppression beside a plain loop. One thread, one run.

    python -m benchmarks.heads [--small] [--device cpu] [--repeats 5]

The features are ActionFormer's for THUMOS14, two windows of 2304 steps of 2048 channels, and each head is as wide and
deep as its recipe there has it; `--small` is the demo's, one window of 80 steps of 64 channels, heads by default, dim 64.
A step is forward, loss and backward, without the optimiser. Figures are medians, the heads by turns in each repeat, in
CPU seconds of the one thread, so that other processes on the machine disturb them little (wall clock on a GPU). Memory is
the most that a training step held beyond what its process did before, each head in a process of its own. See
plain_actionformer.py for what ours is measured against.
"""

import argparse
import time
from collections.abc import Callable
from concurrent.futures import ProcessPoolExecutor
from functools import partial
from multiprocessing import get_context
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray
from rich.console import Console
from rich.table import Table
from torch import nn

from benchmarks.plain_actionformer import PlainActionFormer
from tadscale.config import choices
from tadscale.engine.autocast import UnderAutocast
from tadscale.metrics.nms import NmsConfig, suppress
from tadscale.models.heads import HeadConfig
from tadscale.models.heads.actionformer.network import ActionFormerConfig
from tadscale.models.heads.base import HeadSettings
from tadscale.models.heads.objective import Targets, build_objective

PLAIN = "plain actionformer"
CLASSES, STRIDE_FRAMES = 20, 4
CANDIDATES = 200_000  # of one video, before suppression


class Size(NamedTuple):
    """What the heads read, and how wide they are."""

    batch: int
    in_dim: int
    steps: int
    settings: dict[str, dict[str, Any]]
    """By the head's name; a head that is not named has its defaults."""
    dim: int
    """For every head that has such a setting and none of its own in `settings`."""


PUBLISHED = Size(
    batch=2,
    in_dim=2048,
    steps=2304,
    settings={  # as jobs/thumos14 has them; with ActionFormer's own embedding, where no network maps features before
        "actionformer": {"embed_layers": 2, "stem_blocks": 2, "levels": 6, "heads": 4, "reach": 9},
        "afsd": {"levels": 6, "heads": 8, "reach": 9},
        "gtad": {"dim": 256, "paths": 32, "map_dim": 128, "places": 32, "max_duration": 64},
        "tadtr": {"dim": 256, "heads": 8, "encoder_layers": 4, "decoder_layers": 4, "queries": 40, "bins": 16},
        "tags": {"heads": 4, "mask_dim": 128},
    },
    dim=512,
)
SMALL = Size(batch=1, in_dim=64, steps=80, settings={}, dim=64)


class Contestant(NamedTuple):
    """A head, and how it is taught."""

    network: nn.Module
    step: Callable[[], None]
    """Forward, loss, backward."""
    forward: Callable[[], object]


class Cost(NamedTuple):
    """Medians of one head."""

    parameters: int
    forward_s: float
    step_s: float
    peak_bytes: int


def main(argv: list[str] | None = None) -> None:
    """Measure heads and suppression, and print both tables."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--small", action="store_true", help="the demo's size")
    parser.add_argument("--device", default="cpu", help="cpu, cuda, ...")
    parser.add_argument("--repeats", type=int, default=5)
    arguments = parser.parse_args(argv)
    torch.set_num_threads(1)
    size, console = SMALL if arguments.small else PUBLISHED, Console(highlight=False, width=120)
    console.print(head_table(size, measure_heads(size, arguments.device, arguments.repeats), arguments.device))
    console.print(suppression_table(CANDIDATES // 100 if arguments.small else CANDIDATES, arguments.repeats))


def measure_heads(size: Size, device: str, repeats: int) -> dict[str, Cost]:
    """Every head by its name, the plain one first."""
    names = [PLAIN, *choices(HeadConfig)]
    with ProcessPoolExecutor(max_workers=1, mp_context=get_context("spawn"), max_tasks_per_child=1) as alone:
        peaks = [alone.submit(peak_bytes, name, size, device).result() for name in names]
    heads = [contestant(name, size, device) for name in names]
    forward = by_turns([torch.no_grad()(head.forward) for head in heads], repeats, device)
    step = by_turns([head.step for head in heads], repeats, device)
    return {
        name: Cost(sum(weight.numel() for weight in head.network.parameters()), forward_s, step_s, peak)
        for name, head, forward_s, step_s, peak in zip(names, heads, forward, step, peaks, strict=True)
    }


def settings_of(name: str, size: Size) -> HeadSettings:
    """A head's settings at a size; the plain head has those of `actionformer`."""
    kind = choices(HeadConfig)[name]
    width = {"dim": size.dim} if "dim" in kind.model_fields else {}
    settings = kind(**(width | size.settings.get(name, {})))
    assert isinstance(settings, HeadSettings)
    return settings


def contestant(name: str, size: Size, device: str, dtype: torch.dtype = torch.float32) -> Contestant:
    """An untrained head with random features and 15 segments a window; of another `dtype` its arithmetic alone, as in
    training."""
    torch.manual_seed(0)
    settings = settings_of("actionformer" if name == PLAIN else name, size)
    dims = {"in_dim": size.in_dim, "num_classes": CLASSES, "stride_frames": STRIDE_FRAMES}
    if name == PLAIN:
        assert isinstance(settings, ActionFormerConfig)
        network: nn.Module = PlainActionFormer(settings, **dims).to(device)
    else:
        network = settings.build(**dims).to(device)
    features = torch.randn(size.batch, size.in_dim, size.steps, device=device)
    mask = torch.ones(size.batch, size.steps, dtype=torch.bool, device=device)
    forward = partial(UnderAutocast(network, dtype), features, mask)
    targets, objective = random_targets(size).to(device), build_objective(settings, CLASSES)

    def step() -> None:
        network.zero_grad(set_to_none=True)
        objective.loss(forward(), targets).mean().backward()

    return Contestant(network, step, forward)


def random_targets(size: Size) -> Targets:
    """15 actions a window, of 0.2 to 4.2 % of its length."""
    frames = size.steps * STRIDE_FRAMES
    start = torch.rand(size.batch, 15, 1) * 0.95 * frames
    return Targets(
        segments_frames=torch.cat([start, start + (0.002 + 0.04 * torch.rand_like(start)) * frames], dim=2),
        labels=torch.randint(0, CLASSES, (size.batch, 15)),
    )


def peak_bytes(name: str, size: Size, device: str) -> int:
    """The most that a training step holds, its weights and features included; for a process of its own."""
    torch.set_num_threads(1)
    before = resident("VmRSS")
    contestant(name, size, device).step()
    on_gpu = torch.device(device).type == "cuda"
    return torch.cuda.max_memory_allocated() if on_gpu else resident("VmHWM") - before


def resident(line: str) -> int:
    """This process's resident bytes, now (`VmRSS`) or at most (`VmHWM`), as Linux counts them."""
    status = dict(entry.split(":", 1) for entry in Path("/proc/self/status").read_text().splitlines())
    return int(status[line].split()[0]) * 1024


def by_turns(works: list[Callable[[], object]], repeats: int, device: str = "cpu") -> list[float]:
    """Median seconds of each, after one call that does not count."""
    for work in works:
        work()
    taken = [[seconds(work, device) for work in works] for _ in range(repeats)]
    return [float(median) for median in np.median(taken, axis=0)]


def seconds(work: Callable[[], object], device: str) -> float:
    """CPU seconds of this process; wall clock where the work is a GPU's."""
    if torch.device(device).type == "cpu":
        start = time.process_time()
        work()
        return time.process_time() - start
    torch.accelerator.synchronize()
    start = time.perf_counter()
    work()
    torch.accelerator.synchronize()
    return time.perf_counter() - start


def head_table(size: Size, costs: dict[str, Cost], device: str) -> Table:
    """Costs, and each as a multiple of the plain head's."""
    out = Table(
        title=f"{size.batch} x {size.in_dim} x {size.steps}, dim {size.dim}, {device}, torch {torch.__version__}"
    )
    for column in ("head", "parameters M", "forward ms", "ratio", "step ms", "ratio", "peak MiB", "ratio"):
        out.add_column(column, justify="left" if column == "head" else "right")
    plain = costs[PLAIN]
    for name, cost in costs.items():
        row = [name, f"{cost.parameters / 1e6:.2f}"]
        for value, unit, one in (
            (cost.forward_s, 1e-3, plain.forward_s),
            (cost.step_s, 1e-3, plain.step_s),
            (cost.peak_bytes, 2**20, plain.peak_bytes),
        ):
            row += [f"{value / unit:.1f}", f"{value / one:.2f}"]
        out.add_row(*row)
    return out


def suppression_table(count: int, repeats: int) -> Table:
    """Soft and hard suppression of one video's candidates, which both must do alike."""
    out = Table("method", "plain loop ms", "tadscale ms", "ratio", title=f"suppression of {count} candidates")
    candidates = random_candidates(count)
    for config in (NmsConfig(method="soft"), NmsConfig(method="hard")):
        assert np.allclose(suppress(*candidates, config).score, plain_suppress(*candidates, config), rtol=1e-9)
        plain, ours = by_turns(
            [partial(plain_suppress, *candidates, config), partial(suppress, *candidates, config)], repeats
        )
        out.add_row(config.method, f"{1e3 * plain:.1f}", f"{1e3 * ours:.1f}", f"{ours / plain:.2f}")
    return out


def random_candidates(count: int) -> tuple[NDArray[np.float64], NDArray[np.float64], NDArray[np.int64]]:
    """Segments in seconds of a video of ten minutes, scores, and labels."""
    random = np.random.default_rng(0)
    start = random.uniform(0, 600, count)
    segments = np.stack([start, start + random.exponential(5, count)], axis=1)
    return segments, random.uniform(size=count) ** 4, random.integers(CLASSES, size=count)


def plain_suppress(
    segments: NDArray[np.float64], scores: NDArray[np.float64], labels: NDArray[np.int64], config: NmsConfig
) -> NDArray[np.float64]:
    """The scores that are left, descending: class after class, pick after pick."""
    left: list[float] = []
    for label in np.unique(labels):
        rows, score = segments[labels == label], scores[labels == label].copy()
        for _ in range(config.top_k):
            if not len(score) or score.max() < config.min_score:
                break
            best = int(score.argmax())
            left.append(float(score[best]))
            overlap = (np.minimum(rows[:, 1], rows[best, 1]) - np.maximum(rows[:, 0], rows[best, 0])).clip(0)
            tiou = overlap / (rows[:, 1] - rows[:, 0] + rows[best, 1] - rows[best, 0] - overlap)
            keep = np.arange(len(score)) != best
            if config.method == "soft":
                score = score * np.exp(-(tiou**2) / config.sigma)
            else:
                keep &= tiou < config.tiou
            rows, score = rows[keep], score[keep]
    return np.sort(left)[::-1][: config.top_k]


if __name__ == "__main__":
    main()
