"""Training curves: the picture of a run's `log.jsonl`."""

import json
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from tadscale.errors import UserError
from tadscale.report.palette import BASE

if TYPE_CHECKING:
    from matplotlib.axes import Axes

PANELS = {
    "learning rate": {"lr": "learning rate"},
    "gradient norm": {"grad_norm": "gradient norm"},
    "windows a second": {"windows_per_s": "of late", "mean_windows_per_s": "mean"},
    "share of time waiting for data": {"data_wait_share": "of late"},
    "memory of rank 0, MiB": {
        "memory_mib": "its own",
        "gpu_memory_mib": "GPU",
        "shared_memory_mib": "object store, shared",
    },
}
"""Panels of a record's keys, in this order, and what their lines are called; the losses come first and share one. A line
that is 0 all along (GPU memory on a CPU) is left out, unless it is its panel's first."""
SMOOTHED = "gradient norm"
"""The panel with a bold mean."""
SPLIT = {
    "gradients into the backbone": {"split_truth": "ground truth", "split_distill": "distillation"},
    "their cosine": {"split_cosine": "cosine"},
}
"""Panels of what is measured where ground truth and distillation part (`tadscale.engine.balance`), among the losses."""
SMOOTHING = 0.01
"""Width of the bold line's Gaussian mean as a share of the run: our choice, a standard deviation of 10 steps of
1,000."""
LOG_SCALE_FROM = 30.0
"""A loss that falls by this factor or more is drawn on a logarithmic axis."""

Series = tuple[NDArray[np.float64], NDArray[np.float64]]


def read_log(path: str | Path) -> list[dict[str, Any]]:
    """Read a run's log, one JSON record a line, sorted by step.

    A run that was killed leaves a torn line, and repeats steps when it resumes: torn lines are left out, and of several
    records of one step the last is kept.

    Raises:
        UserError: no line is a record with a step.
    """
    records: dict[int, dict[str, Any]] = {}
    for line in Path(path).read_text(encoding="utf-8", errors="replace").splitlines():
        try:
            record = json.loads(line)
        except json.JSONDecodeError:
            continue
        if isinstance(record, dict) and isinstance(record.get("step"), int):
            records[record["step"]] = record
    if not records:
        raise UserError(f'{path} has no record with a "step": not a training log, or of a run that took no step.')
    return [records[step] for step in sorted(records)]


def plot_curves(records: Iterable[Mapping[str, Any]], path: str | Path) -> None:
    """Draw losses, learning rate, gradient norm, throughput and waiting time over steps: what the records hold of
    these.

    Args:
        records: one mapping a step with `step`, `losses` (name to value) or `loss`, and any key of `PANELS`' lines.
        path: of the PNG to write.

    Raises:
        UserError: there is no record, or nothing in them to draw.
    """
    from matplotlib.figure import Figure  # late: 0.5 s, and report/ is imported by command lines that draw nothing

    rows = list(records)
    losses, split = loss_series(rows), split_series(rows)
    others = panel_series(rows)
    if not losses and not others:
        keys = ", ".join(key for lines in PANELS.values() for key in lines)
        raise UserError(f"{len(rows)} record(s) hold nothing to draw: expected losses or one of {keys}.")
    count = bool(losses) + len(others) + len(split)
    columns = min(count, 3)
    figure = Figure(figsize=(4.6 * columns, 3.1 * -(-count // columns)), dpi=130, layout="constrained")
    axes = list(np.ravel(figure.subplots(-(-count // columns), columns, squeeze=False)))
    if losses:
        _draw_losses(axes[0], losses)
    for axis, (title, lines) in zip(axes[bool(losses) :], others.items(), strict=False):
        _draw(axis, lines, title, smoothed=title == SMOOTHED)
        axis.set_ylim(0, 1.08 * max(*(float(values.max()) for _, values in lines.values()), 1e-12))
        if len(lines) > 1:
            axis.legend(frameon=False, fontsize=7.5, loc="lower right")
    for axis, (title, lines) in zip(axes[bool(losses) + len(others) :], split.items(), strict=False):
        _draw(axis, lines, title, smoothed=True)
        if len(lines) > 1:
            axis.set_yscale("log")  # one may be tens of times the other
            axis.legend(frameon=False, fontsize=7.5, loc="upper right")
    for axis in axes[count:]:
        axis.remove()
    figure.savefig(path)


def loss_series(rows: Sequence[Mapping[str, Any]]) -> dict[str, Series]:
    """Steps and values of each loss, the total (`loss`) first; steps at which it is missing or not finite are left
    out."""
    names = dict.fromkeys(name for row in rows for name in _losses(row) if not name.startswith("split_"))
    ordered = sorted(names, key=lambda name: name != "loss")
    by_name = {name: _series(rows, lambda row, name=name: _losses(row).get(name)) for name in ordered}
    return {name: series for name, series in by_name.items() if series}


def panel_series(rows: Sequence[Mapping[str, Any]]) -> dict[str, dict[str, Series]]:
    """The panels of `PANELS` that the records have something for: lines by what they show."""
    panels = {}
    for title, keys in PANELS.items():
        lines = {label: _series(rows, lambda row, key=key: row.get(key)) for key, label in keys.items()}
        first, *_ = keys.values()
        kept = {label: line for label, line in lines.items() if line and (label == first or line[1].any())}
        if kept:
            panels[title] = kept
    return panels


def split_series(rows: Sequence[Mapping[str, Any]]) -> dict[str, dict[str, Series]]:
    """The panels of `SPLIT` that the records have something for: lines by what they show."""
    panels = {
        title: {
            label: series
            for name, label in lines.items()
            if (series := _series(rows, lambda row, name=name: _losses(row).get(name)))
        }
        for title, lines in SPLIT.items()
    }
    return {title: lines for title, lines in panels.items() if lines}


def smooth(values: NDArray[np.float64], share: float = SMOOTHING) -> NDArray[np.float64]:
    """Centred Gaussian mean, `[N]`: an exponential mean would trail a falling loss by its own width.

    Near the ends the mean is over what there is of the window.
    """
    sigma = share * len(values)
    if sigma < 0.5:
        return values
    reach = min(int(3 * sigma), (len(values) - 1) // 2)
    kernel = np.exp(-0.5 * (np.arange(-reach, reach + 1) / sigma) ** 2)
    return np.convolve(values, kernel, "same") / np.convolve(np.ones(len(values)), kernel, "same")


def _losses(row: Mapping[str, Any]) -> Mapping[str, Any]:
    losses = row.get("losses")
    return losses if isinstance(losses, Mapping) else {"loss": row.get("loss")}


def _series(rows: Sequence[Mapping[str, Any]], value_of: Any) -> Series | None:
    points = [
        (float(row["step"]), float(value))
        for row in rows
        if isinstance(value := value_of(row), int | float) and np.isfinite(value)
    ]
    if not points:
        return None
    steps, values = np.array(points).T
    return steps, values


def _draw_losses(axis: "Axes", losses: Mapping[str, Series]) -> None:
    _draw(axis, losses, "loss", smoothed=True)
    total = next(iter(losses.values()))[1]
    if total.min() > 0 and total.max() / total.min() >= LOG_SCALE_FROM:
        axis.set_yscale("log")
    if len(losses) > 1:
        axis.legend(frameon=False, fontsize=7.5, loc="upper right")


def _draw(axis: "Axes", lines: Mapping[str, Series], title: str, *, smoothed: bool) -> None:
    for place, (name, (steps, values)) in enumerate(lines.items()):
        colour, width = BASE[place % len(BASE)], 2.0 if place == 0 else 1.2
        marker = "o" if len(steps) == 1 else None
        if smoothed and len(steps) > 1:
            axis.plot(steps, values, color=colour, linewidth=0.6, alpha=0.25)
            values = smooth(values)
        axis.plot(steps, values, color=colour, linewidth=width, label=name, marker=marker, zorder=3 - place * 0.01)
    axis.set_title(title, loc="left", fontsize=10, fontweight="bold")
    axis.set_xlabel("step", fontsize=8, color="#555555")
    axis.tick_params(labelsize=8, colors="#555555")
    axis.grid(axis="y", color="#e4e4e4", linewidth=0.6)
    axis.set_axisbelow(True)
    for side in ("top", "right"):
        axis.spines[side].set_visible(False)
