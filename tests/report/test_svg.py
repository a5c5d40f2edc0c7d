"""Plots: where marks stand, and what they say."""

import xml.etree.ElementTree as ET

import pytest

from tadscale.report.svg import (
    BOTTOM,
    HEIGHT,
    LEFT,
    RIGHT,
    TOP,
    WIDTH,
    Point,
    ceiling,
    grouped_bars,
    lines,
    row_bars,
    stacked_bars,
)

COLOURS = {"a": "#111111", "b": "#222222"}
NAN = float("nan")


def rects(svg: str) -> list[tuple[float, float, str, str]]:
    """Top, height, colour and tooltip of each bar."""
    found = ET.fromstring(svg).iter("rect")
    return [(float(r.get("y")), float(r.get("height")), r.get("fill"), r.find("title").text) for r in found]


@pytest.mark.parametrize(("values", "top"), [([], 1), ([0.4], 1), ([3.2], 4), ([41.0], 50), ([100.0], 100), ([NAN], 1)])
def test_the_axis_ends_at_the_first_round_number_that_holds_all(values: list[float], top: float) -> None:
    assert ceiling(values) == top


def test_bars_are_as_high_as_their_values_and_a_nan_is_none() -> None:
    drawn = rects(grouped_bars("title", ["x", "y"], {"a": [100.0, NAN], "b": [50.0, 0.0]}, COLOURS))
    whole = HEIGHT - TOP - BOTTOM
    assert [(height, colour, tip) for _, height, colour, tip in drawn] == [
        (whole, "#111111", "x, a: 100.0"),
        (whole / 2, "#222222", "x, b: 50.0"),
        (0.0, "#222222", "y, b: 0.0"),
    ]


def test_parts_stand_upon_each_other() -> None:
    drawn = rects(stacked_bars("title", ["x"], {"a": [25.0], "b": [75.0]}, COLOURS))
    assert [(top, top + height) for top, height, *_ in drawn] == [
        (pytest.approx(HEIGHT - BOTTOM - 0.25 * (HEIGHT - TOP - BOTTOM)), HEIGHT - BOTTOM),
        (TOP, pytest.approx(HEIGHT - BOTTOM - 0.25 * (HEIGHT - TOP - BOTTOM))),
    ]


def test_a_line_spans_the_axes() -> None:
    svg = lines("title", {"a": [Point(0, 0), Point(5, NAN), Point(10, 100)]}, COLOURS, right=10, x_name="number")
    [line] = ET.fromstring(svg).iter("polyline")
    assert line.get("points") == f"{LEFT:.1f},{HEIGHT - BOTTOM:.1f} {WIDTH - RIGHT:.1f},{TOP:.1f}"


def test_plots_have_a_title_and_names_stay_text() -> None:
    svg = row_bars("AP <of> &", ["<script>"], {"a": [10.0]}, COLOURS)
    root = ET.fromstring(svg)
    assert (root.get("role"), root.get("aria-label"), root.find("title").text) == ("img", "AP <of> &", "AP <of> &")
    assert [text.text for text in root.iter("text")] == ["<script>", "10.0"]
