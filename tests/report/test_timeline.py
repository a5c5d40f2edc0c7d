"""The timeline's picture: bars of the right colour, at the right place and of the right height."""

from pathlib import Path

import numpy as np
import pytest

from tadscale.report.palette import BASE, class_colours, faded, text_colour
from tadscale.report.timeline import Timeline, lanes, plot_timeline
from tadscale.segments import Detection, Segment


def detection(label: str, start_s: float, end_s: float, score: float) -> Detection:
    return Detection(video="v", label=label, start_s=start_s, end_s=end_s, score=score)


def columns_of(path: Path, colour: str) -> np.ndarray:
    """How many pixels of a picture's columns have exactly this colour."""
    from matplotlib.image import imread

    pixels = np.rint(imread(path)[..., :3] * 255).astype(int)
    return (pixels == [int(colour[at : at + 2], 16) for at in (1, 3, 5)]).all(axis=-1).sum(axis=0)


def test_bars_are_where_and_as_high_as_they_should_be(tmp_path: Path) -> None:
    path = tmp_path / "timeline.png"
    plot_timeline(
        [
            Timeline(
                video="v",
                duration_s=100,
                ground_truth=(Segment("jump", 10, 20), Segment("run", 60, 80)),
                detections={"student": [detection("jump", 40, 50, 0.8), detection("jump", 85, 95, 0.4)], "none": []},
            )
        ],
        path,
    )
    colours = class_colours(["jump", "run"])
    jump = columns_of(path, colours["jump"])
    legend = 200  # columns: the legend's patches stand left of the axis
    bar = np.flatnonzero(jump[legend:] > 20) + legend  # the instance at 10-20 s and the surer detection at 40-50 s
    gap = int(np.argmax(np.diff(bar)))
    instance, surer = bar[: gap + 1], bar[gap + 1 :]
    px_per_s = (surer.mean() - instance.mean()) / 30
    assert len(instance) == pytest.approx(10 * px_per_s, rel=0.06)
    assert len(surer) == pytest.approx(10 * px_per_s, rel=0.06)
    weaker = columns_of(path, faded(colours["jump"], 0.3 + 0.7 * 0.5))
    place = np.flatnonzero(weaker > 5)
    assert place.mean() - surer.mean() == pytest.approx(45 * px_per_s, rel=0.03)
    assert weaker.max() == pytest.approx(jump[surer].max() / 2, rel=0.12), "half the score, half the height"
    run = np.flatnonzero(columns_of(path, colours["run"])[legend:] > 20) + legend
    assert len(run) == pytest.approx(20 * px_per_s, rel=0.1), "less what the label covers"


def test_no_video_and_no_duration_are_refused(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="no video to draw"):
        plot_timeline([], tmp_path / "none.png")
    with pytest.raises(ValueError, match="duration_s is 0"):
        Timeline(video="v", duration_s=0)


def test_a_video_without_anything_is_drawn(tmp_path: Path) -> None:
    plot_timeline([Timeline(video="v", duration_s=5)], tmp_path / "empty.png")
    assert (tmp_path / "empty.png").read_bytes().startswith(b"\x89PNG")


def test_lanes_part_what_overlaps_and_no_more() -> None:
    spans = [(0, 10), (5, 8), (8, 12), (10, 20), (30, 31)]
    assert lanes([Segment("x", *span) for span in spans]) == [0, 1, 1, 0, 0]
    assert lanes([]) == []


def test_colours_are_distinct_stable_and_legible() -> None:
    many = class_colours(f"class {n:03d}" for n in range(200))
    assert len(set(many.values())) == 200
    assert class_colours(["b", "a"]) == {"a": BASE[0], "b": BASE[1]}
    assert text_colour("#332288") == "#ffffff"
    assert text_colour("#ffffff") == "#111111"
    assert (faded("#336699", 0.0), faded("#336699", 1.0)) == ("#ffffff", "#336699")
