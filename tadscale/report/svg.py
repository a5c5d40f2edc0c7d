"""Plots as inline SVG, small enough to be read: bars side by side, bars in parts, rows of bars, lines.

Values are percent. Every mark carries its figure as a tooltip, and every plot its title for those who cannot see it; texts
take the colour of the page, so that light and dark both work. A NaN is drawn as nothing.
"""

import math
from collections.abc import Iterable, Mapping, Sequence
from html import escape
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

WIDTH, HEIGHT = 480.0, 250.0
LEFT, RIGHT, TOP, BOTTOM = 34.0, 14.0, 8.0, 36.0
"""Margins around the area in which values are drawn."""
GAP = 0.2
"""Share of a group's width that is left free."""
ROW_HEIGHT, NAME_WIDTH = 12.0, 150.0
TICKS = (1, 2, 5, 10, 20, 50, 100)
"""Steps between grid lines; the first that needs five lines or fewer is taken."""
STYLE = """
.plot { width: 100%; height: auto; } .plot text { fill: CanvasText; font: 11px system-ui, sans-serif; }
.plot .grid { stroke: var(--line); } .plot .line { fill: none; stroke-width: 2; }
.plot rect:hover { stroke: CanvasText; }
"""

Series = Mapping[str, Sequence[float] | NDArray[np.float64]]
"""Values of several things, by their names."""
Colours = Mapping[str, str]


class Point(NamedTuple):
    """A point of a line."""

    x: float
    y: float


def grouped_bars(title: str, groups: Sequence[str], series: Series, colours: Colours) -> str:
    """Bars side by side: a group for each name in `groups`, a bar for each of the series in it."""
    top = ceiling(value for values in series.values() for value in values)
    slot = (WIDTH - LEFT - RIGHT) / max(len(groups), 1)
    width = slot * (1 - GAP) / max(len(series), 1)
    marks = [
        _bar(LEFT + slot * (at + GAP / 2) + width * place, value, value, width, top, colours[name], f"{group}, {name}")
        for place, (name, values) in enumerate(series.items())
        for at, (group, value) in enumerate(zip(groups, values, strict=True))
    ]
    return _svg(title, [*_grid(top), *marks, *_group_names(groups, slot)])


def stacked_bars(title: str, groups: Sequence[str], parts: Series, colours: Colours) -> str:
    """A bar for each name in `groups`, made of parts from the bottom up; the axis ends at 100."""
    slot = (WIDTH - LEFT - RIGHT) / max(len(groups), 1)
    reached, marks = [0.0] * len(groups), []
    for name, values in parts.items():
        for at, (group, value) in enumerate(zip(groups, values, strict=True)):
            reached[at] += value
            left = LEFT + slot * (at + GAP / 2)
            label = f"{group}, {name}"
            marks.append(_bar(left, reached[at], value, slot * (1 - GAP), 100.0, colours[name], label))
    return _svg(title, [*_grid(100.0), *marks, *_group_names(groups, slot)])


def row_bars(title: str, rows: Sequence[str], series: Series, colours: Colours) -> str:
    """Bars from left to right, for more groups than fit side by side: a row of bars for each name in `rows`."""
    step = ROW_HEIGHT * len(series) + 6
    scale = (WIDTH - NAME_WIDTH - LEFT) / 100
    marks = []
    for at, row in enumerate(rows):
        top = TOP + step * at
        marks.append(_text(NAME_WIDTH - 6, top + step / 2, row, "end"))
        for place, (name, values) in enumerate(series.items()):
            value, y = values[at], top + ROW_HEIGHT * place
            marks.append(
                _rect(NAME_WIDTH, y, scale * value, ROW_HEIGHT - 2, colours[name], f"{row}, {name}: {value:.1f}")
            )
            marks.append(_text(NAME_WIDTH + scale * value + 4, y + ROW_HEIGHT - 3, f"{value:.1f}", "start"))
    return _svg(title, marks, height=TOP + step * len(rows) + TOP)


def lines(title: str, series: Mapping[str, Sequence[Point]], colours: Colours, *, right: float, x_name: str) -> str:
    """Lines over an axis from 0 to `right`; a dot marks each point where there are few."""
    top = ceiling(point.y for points in series.values() for point in points)
    scale = (WIDTH - LEFT - RIGHT) / right
    marks = []
    for name, points in series.items():
        seen = [Point(LEFT + scale * point.x, _y(point.y, top)) for point in points if not math.isnan(point.y)]
        path = " ".join(f"{point.x:.1f},{point.y:.1f}" for point in seen)
        tip = f"<title>{escape(name)}</title>"
        marks.append(f'<polyline class="line" points="{path}" stroke="{colours[name]}">{tip}</polyline>')
        if len(seen) <= 20:
            dots = (f'<circle cx="{x:.1f}" cy="{y:.1f}" r="3" fill="{colours[name]}">{tip}</circle>' for x, y in seen)
            marks += dots
    names = [
        _text(LEFT + scale * right * part, HEIGHT - BOTTOM + 14, f"{right * part:g}", "middle") for part in (0, 0.5, 1)
    ]
    return _svg(title, [*_grid(top), *marks, *names, _text(WIDTH / 2, HEIGHT - 6, x_name, "middle")])


def ceiling(values: Iterable[float]) -> float:
    """Where an axis of percent ends: at the first line of a grid of five or fewer that holds all values."""
    highest = max((value for value in values if not math.isnan(value)), default=0.0)
    step = next((step for step in TICKS if highest <= 5 * step), TICKS[-1])
    return float(step * max(math.ceil(highest / step), 1))


def _grid(top: float) -> list[str]:
    step = next(step for step in TICKS if top <= 5 * step)
    drawn = []
    for value in range(0, int(top) + 1, step):
        y = _y(value, top)
        drawn.append(f'<line class="grid" x1="{LEFT}" x2="{WIDTH - RIGHT}" y1="{y:.1f}" y2="{y:.1f}"/>')
        drawn.append(_text(LEFT - 5, y + 4, str(value), "end"))
    return drawn


def _group_names(groups: Sequence[str], slot: float) -> list[str]:
    """What stands below each group; what follows a comma in a second line."""
    drawn = []
    for at, group in enumerate(groups):
        for line, text in enumerate(group.split(", ", 1)):
            drawn.append(_text(LEFT + slot * (at + 0.5), HEIGHT - BOTTOM + 14 + 13 * line, text, "middle"))
    return drawn


def _y(value: float, top: float) -> float:
    return HEIGHT - BOTTOM - (HEIGHT - TOP - BOTTOM) * value / top


def _bar(left: float, reached: float, value: float, width: float, top: float, colour: str, name: str) -> str:
    """A bar of this value whose upper end is at `reached`."""
    if math.isnan(value):
        return ""
    height = (HEIGHT - TOP - BOTTOM) * value / top
    return _rect(left, _y(reached, top), width, height, colour, f"{name}: {value:.1f}")


def _rect(x: float, y: float, width: float, height: float, colour: str, tip: str) -> str:
    place = f'x="{x:.1f}" y="{y:.1f}" width="{max(width, 0):.1f}" height="{max(height, 0):.1f}"'
    return f'<rect {place} fill="{colour}"><title>{escape(tip)}</title></rect>'


def _text(x: float, y: float, text: str, anchor: str) -> str:
    return f'<text x="{x:.1f}" y="{y:.1f}" text-anchor="{anchor}">{escape(text)}</text>'


def _svg(title: str, marks: Sequence[str], height: float = HEIGHT) -> str:
    label = escape(title)
    start = f'<svg class="plot" viewBox="0 0 {WIDTH:g} {height:g}" role="img" aria-label="{label}">'
    return f"{start}<title>{label}</title>{''.join(marks)}</svg>"
