"""A grid's results side by side: a row a combination, a column a detector."""

import csv
import io
import statistics
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import NamedTuple

from rich.table import Table

from tadscale.metrics.bootstrap import PairedBootstrap
from tadscale.report.palette import BASE

ORDER = ("teacher", "baseline", "conventional", "decomposed", "two_stream")


class GridRow(NamedTuple):
    """What one combination of choices came to, over its seeds."""

    choices: tuple[str, ...]
    """One of each axis."""
    seeds: Sequence[int]
    """With which it was run so far."""
    averages: Mapping[str, Sequence[float]]
    """Average mAP by detector, in [0, 1], one a seed."""
    against_baseline: Mapping[str, PairedBootstrap]
    """Students against the RGB baseline, on the same videos, all seeds together."""

    def mean(self, name: str) -> float:
        """Of a detector over the seeds, in percent."""
        return 100 * statistics.fmean(self.averages[name])

    def gap_closed(self, student: str) -> float | None:
        """Which share of the way from baseline to two-stream a student goes; None where there is no such way."""
        if not {"baseline", "two_stream"} <= set(self.averages):
            return None
        way = self.mean("two_stream") - self.mean("baseline")
        return (self.mean(student) - self.mean("baseline")) / way if way > 0 else None


def grid_table(axes: Sequence[str], rows: Sequence[GridRow], title: str) -> Table:
    """For a terminal, which has no room for the comparisons."""
    names = _detectors(rows)
    heads, cells = [*axes, *names], [[*row.choices, *_averages(row, names)] for row in rows]
    table = Table(title=title, title_justify="left")
    for place, head in enumerate(heads):
        table.add_column(head, justify="left" if place < len(axes) else "right", no_wrap=True)
    for line in cells:
        table.add_row(*line)
    return table


def markdown_table(axes: Sequence[str], rows: Sequence[GridRow]) -> str:
    """Mean and standard deviation over seeds, percent; students against the baseline with a 95 % interval over videos."""
    heads, *cells = _text(axes, rows)
    lines = [heads, ["---"] * len(heads), *cells]
    return "".join(f"| {' | '.join(line)} |\n" for line in lines)


def csv_table(axes: Sequence[str], rows: Sequence[GridRow]) -> str:
    """One line a combination, detector and seed: `average_mAP` in [0, 1]."""
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow([*axes, "detector", "seed", "average_mAP"])
    for row in rows:
        for name in _detectors([row]):
            for seed, average in zip(row.seeds, row.averages[name], strict=True):
                writer.writerow([*row.choices, name, seed, f"{average:.6f}"])
    return text.getvalue()


def plot_grid(rows: Sequence[GridRow], path: Path) -> None:
    """Bars of every detector, a group a combination; a dot for each seed."""
    from matplotlib.figure import Figure

    names = _detectors(rows)
    figure = Figure(figsize=(max(5.0, 1.6 * len(rows) + 2), 3.6), layout="constrained")
    axis = figure.subplots()
    width = 0.8 / len(names)
    for place, name in enumerate(names):
        at = [group + (place - (len(names) - 1) / 2) * width for group in range(len(rows))]
        means = [row.mean(name) if name in row.averages else 0.0 for row in rows]
        axis.bar(at, means, width * 0.9, color=BASE[place], label=name)
        for left, row in zip(at, rows, strict=True):
            seeds = [100 * value for value in row.averages.get(name, ())]
            axis.plot([left] * len(seeds), seeds, ".", color="#222222", markersize=4)
    axis.set_xticks(range(len(rows)), ["\n".join(row.choices) for row in rows], fontsize=8)
    axis.set_ylabel("average mAP, %", fontsize=8)
    axis.legend(frameon=False, fontsize=7.5, ncols=len(names), loc="lower center", bbox_to_anchor=(0.5, 1.0))
    for side in ("top", "right"):
        axis.spines[side].set_visible(False)
    figure.savefig(path, dpi=150)


def _detectors(rows: Sequence[GridRow]) -> list[str]:
    return [name for name in ORDER if any(name in row.averages for row in rows)]


def _text(axes: Sequence[str], rows: Sequence[GridRow]) -> list[list[str]]:
    """Headings and cells."""
    names = _detectors(rows)
    students = [name for name in names if any(name in row.against_baseline for row in rows)]
    heads = [*axes, "seeds", *names]
    heads += [text for name in students for text in (f"{name} - baseline", f"{name}: gap closed")]
    return [heads, *(_line(row, names, students) for row in rows)]


def _line(row: GridRow, names: Sequence[str], students: Sequence[str]) -> list[str]:
    return [*row.choices, str(len(row.seeds)), *_averages(row, names), *_comparisons(row, students)]


def _averages(row: GridRow, names: Sequence[str]) -> list[str]:
    return [_spread(row.averages[name]) if name in row.averages else "" for name in names]


def _comparisons(row: GridRow, students: Sequence[str]) -> list[str]:
    cells = []
    for name in students:
        compared, closed = row.against_baseline.get(name), row.gap_closed(name)
        cells.append(
            f"{100 * compared.difference:+.1f} [{100 * compared.low:+.1f}, {100 * compared.high:+.1f}]"
            if compared
            else ""
        )
        cells.append("" if closed is None else f"{100 * closed:.0f} %")
    return cells


def _spread(values: Sequence[float]) -> str:
    percent = [100 * value for value in values]
    mean = f"{statistics.fmean(percent):.1f}"
    return f"{mean} ± {statistics.stdev(percent):.1f}" if len(percent) > 1 else mean
