"""What ground truth and distillation send into the backbone, over training, for some variants side by side.

    python -m benchmarks.split_picture RESULTS.jsonl PICTURE.png NAME [NAME ...] [--seed 1] [--share NAME=1@200]

RESULTS comes from `benchmarks.distillation`; NAME is a variant in it. Above the norms of the two gradients at the split (the
backbone's features), below their cosine. Norms are logged as they are before `balance: share`; with `--share` a variant's
panel also shows what arrives behind it, from a step on.
"""

import argparse
import json
from pathlib import Path
from typing import Any

import numpy as np
from matplotlib.figure import Figure

from tadscale.report.curves import smooth
from tadscale.report.palette import BASE

NORMS = {"split_truth": "ground truth", "split_distill": "distillation"}


def main() -> None:
    """Draw the picture."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("results", type=Path)
    parser.add_argument("picture", type=Path)
    parser.add_argument("names", nargs="+")
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--share", metavar="NAME=SHARE[@STEP]", action="append", default=[])
    options = parser.parse_args()
    rows = [json.loads(line) for line in options.results.read_text().splitlines()]
    chosen = {row["name"]: row["split"] for row in rows if row["seed"] == options.seed and row.get("split")}
    shares = {name: _share(said) for name, _, said in (text.rpartition("=") for text in options.share)}
    draw({name: chosen[name] for name in options.names}, shares, options.picture)


def _share(said: str) -> tuple[float, int]:
    share, _, first = said.partition("@")
    return float(share), int(first or 0)


def draw(variants: dict[str, list[dict[str, Any]]], shares: dict[str, tuple[float, int]], path: Path) -> None:
    """Two panels a variant, norms on one scale for all. A share is a multiple of ground truth's norm, and its first step."""
    figure = Figure(figsize=(4.2 * len(variants), 4.6), dpi=130, layout="constrained")
    axes = figure.subplots(2, len(variants), squeeze=False, sharex=True, sharey="row", height_ratios=(2, 1))
    for column, (name, points) in enumerate(variants.items()):
        steps = np.array([point["step"] for point in points])
        above, below = axes[0][column], axes[1][column]
        for colour, (key, label) in zip(BASE, NORMS.items(), strict=False):
            values = np.array([point[key] for point in points])
            above.plot(steps, values, color=colour, linewidth=0.6, alpha=0.3)
            above.plot(steps, np.exp(smooth(np.log(values))), color=colour, linewidth=2, label=label)
        if name in shares:
            share, first = shares[name]
            arrives = share * np.array([point["split_truth"] for point in points])
            shown = np.where(steps >= first, np.exp(smooth(np.log(arrives))), np.nan)
            above.plot(steps, shown, "--", color=BASE[1], linewidth=2, label="as it arrives")
            above.legend(frameon=False, fontsize=8)
        below.plot(steps, smooth(np.array([point["split_cosine"] for point in points])), color=BASE[2], linewidth=1.5)
        below.axhline(0, color="#999999", linewidth=0.6)
        above.set_yscale("log")
        above.set_title(name, loc="left", fontsize=10, fontweight="bold")
        below.set_xlabel("step", fontsize=8, color="#555555")
    axes[0][0].set_ylabel("norm of the gradient", fontsize=8)
    axes[1][0].set_ylabel("cosine", fontsize=8)
    axes[0][0].legend(frameon=False, fontsize=8)
    for axis in axes.flat:
        axis.tick_params(labelsize=8, colors="#555555")
        axis.grid(axis="y", color="#e4e4e4", linewidth=0.6)
        for side in ("top", "right"):
            axis.spines[side].set_visible(False)
    figure.savefig(path)


if __name__ == "__main__":
    main()
