"""One colour per class, the same in pictures and pages."""

import colorsys
from collections.abc import Iterable

BASE = (
    "#4477aa",
    "#ee6677",
    "#228833",
    "#ccbb44",
    "#aa3377",
    "#66ccee",
    "#ee7733",
    "#332288",
    "#44aa99",
    "#8c564b",
)
"""Ten colours that stay apart for colour-blind eyes: Paul Tol's bright scheme, continued with his vibrant and muted
ones."""


def class_colours(labels: Iterable[str]) -> dict[str, str]:
    """A hex colour for each class, by its place among the sorted names; distinct up to a few hundred classes."""
    return {label: _colour(place) for place, label in enumerate(sorted(set(labels)))}


def text_colour(background: str) -> str:
    """Black or white, whichever is read better on the background (relative luminance of WCAG 2, threshold .4)."""
    red, green, blue = (int(background[at : at + 2], 16) / 255 for at in (1, 3, 5))
    return "#111111" if 0.2126 * red**2.2 + 0.7152 * green**2.2 + 0.0722 * blue**2.2 > 0.4 else "#ffffff"


def faded(colour: str, strength: float) -> str:
    """The colour mixed with white: all white at strength 0, itself at 1. Opaque, so that what overlaps stays told
    apart."""
    channels = (int(colour[at : at + 2], 16) for at in (1, 3, 5))
    return "#" + "".join(f"{round(255 - strength * (255 - channel)):02x}" for channel in channels)


def _colour(place: int) -> str:
    if place < len(BASE):
        return BASE[place]
    # Steps of the golden ratio never close the circle of hues; three levels of lightness keep near hues apart.
    red, green, blue = colorsys.hls_to_rgb(place * 0.618034 % 1, 0.38 + 0.12 * (place % 3), 0.55)
    return f"#{round(255 * red):02x}{round(255 * green):02x}{round(255 * blue):02x}"
