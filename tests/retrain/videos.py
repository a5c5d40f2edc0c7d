"""Videos without pictures: rows of a manifest, and their facts, drawn by lot."""

import numpy as np

from tadscale.data.manifest import Manifest, VideoRow, make_manifest
from tadscale.retrain.appearance import VideoLook
from tadscale.retrain.profile import VideoFacts


def row(index: int, subset: str = "train", labels: tuple[str, ...] = ("run",), duration_s: float = 10.0) -> VideoRow:
    """A video that is told from others by its number."""
    return VideoRow(
        url="shards/a.tar",
        key=f"v{index}",
        subset=subset,
        video_offset=0,
        video_bytes=1,
        video_sha256=f"{index:064x}",
        duration_s=duration_s,
        fps=10.0,
        frames=100,
        width=64,
        height=64,
        labels=labels,
        start_s=(1.0,) * len(labels),
        end_s=(2.0,) * len(labels),
    )


def manifest(count: int, first: int = 0) -> Manifest:
    """So many training videos."""
    return make_manifest("shards", [row(first + index) for index in range(count)], ["jump", "run"])


def drawn(random: np.random.Generator, count: int, *, shift: float = 0.0, jumps: float = 0.5) -> list[VideoFacts]:
    """Videos whose lengths, looks and speeds are moved by so many deviations, and of whose segments so many are jumps.

    A video's segments are alike: nine of ten are of the kind that its lot says.
    """
    facts = []
    for _ in range(count):
        mostly = 0.9 if random.random() < jumps else 0.1
        segments = int(random.integers(1, 9))
        found = int(random.binomial(segments, mostly))
        luma, contrast, cb, cr, speed = random.normal(shift, 1.0, 5)
        facts.append(
            VideoFacts(
                duration_s=float(np.exp(random.normal(shift, 1.0))),
                labels={"jump": found, "run": segments - found},
                look=VideoLook(luma=luma, contrast=contrast, cb=cb, cr=cr, speed=speed),
            )
        )
    return facts
