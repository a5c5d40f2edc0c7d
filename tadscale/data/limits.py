"""What the facts of a video may be: of one that was probed, and of one that a manifest names."""

import math
import re
from collections.abc import Callable, Mapping
from typing import Any

from numpy.typing import NDArray

from tadscale.data.keys import fault_of_key, is_unicode

DAY_S = 86_400.0
MAX_BYTES = 4 * 2**30
"""Of a video: it is fetched whole, into memory."""
MAX_SEGMENTS = 100_000
MAX_LAYOUT_BYTES = 1 << 20
"""Of a video of 4 GiB a layout takes 400 KB."""
SHA256 = re.compile(r"[0-9a-f]{64}")
SLACK_S = 1e-6


def _whole(low: int, high: int) -> Callable[[Any], bool]:
    return lambda value: isinstance(value, int) and not isinstance(value, bool) and low <= value <= high


def _real(low: float, high: float) -> Callable[[Any], bool]:
    return lambda value: isinstance(value, float | int) and math.isfinite(value) and low < value <= high


def _texts(values: Any) -> bool:
    return (
        isinstance(values, tuple)
        and len(values) <= MAX_SEGMENTS
        and all(isinstance(value, str) and value and is_unicode(value) for value in values)
    )


RANGES: dict[str, tuple[Callable[[Any], bool], str]] = {
    "subset": (lambda value: isinstance(value, str) and bool(value) and is_unicode(value), "a name"),
    "video_offset": (_whole(0, 2**48), "bytes of a file"),
    "video_bytes": (_whole(1, MAX_BYTES), f"1 to {MAX_BYTES} bytes"),
    "video_sha256": (
        lambda value: isinstance(value, str) and bool(SHA256.fullmatch(value)),
        "a SHA-256 in hexadecimal",
    ),
    "flow_offset": (_whole(0, 2**48), "bytes of a file"),
    "flow_bytes": (_whole(0, MAX_BYTES), f"at most {MAX_BYTES} bytes"),
    "flow_sha256": (
        lambda value: isinstance(value, str) and (not value or bool(SHA256.fullmatch(value))),
        "a SHA-256 in hexadecimal, or nothing",
    ),
    "layout": (
        lambda value: isinstance(value, bytes) and len(value) <= MAX_LAYOUT_BYTES,
        f"at most {MAX_LAYOUT_BYTES} bytes",
    ),
    "duration_s": (_real(0, 2 * DAY_S), "up to two days in seconds"),
    "fps": (_real(0, 10_000), "up to 10000 pictures a second"),
    "frames": (_whole(1, 2**31), "a number of pictures"),
    "width": (_whole(1, 2**16), "pixels"),
    "height": (_whole(1, 2**16), "pixels"),
    "labels": (_texts, f"at most {MAX_SEGMENTS} names"),
}


def fault_of_row(facts: Mapping[str, Any]) -> str:
    """What is wrong with the facts of a video, the fields of a `VideoRow`; empty if nothing is."""
    key = facts["key"]
    if not isinstance(key, str) or fault_of_key(key):
        return fault_of_key(key) if isinstance(key, str) else f"the key {key!r} is no text"
    for name, (holds, what) in RANGES.items():
        if not holds(facts[name]):
            return f"{name} is {str(facts[name])[:60]!r}, expected {what}"
    return _fault_of_segments(facts)


def fault_of_columns(columns: Mapping[str, NDArray[Any]]) -> str:
    """The same of what a manifest's index says of all its videos, `[V]` each: in short."""
    durations, frames = columns["duration_s"], columns["frames"]
    bad = ~((durations > 0) & (durations <= 2 * DAY_S) & (frames >= 1) & (frames <= 2**31) & (columns["subset"] != ""))
    if not bad.any():
        return ""
    first = int(bad.argmax())
    stated = {name: values[first].item() for name, values in columns.items()}
    return f"the index says of row {first} what no video is ({stated})"


def _fault_of_segments(facts: Mapping[str, Any]) -> str:
    labels, starts, ends = facts["labels"], facts["start_s"], facts["end_s"]
    if not len(labels) == len(starts) == len(ends):
        return f"{len(labels)} labels, {len(starts)} starts and {len(ends)} ends: one of each belongs to a segment"
    within = _real(-SLACK_S, facts["duration_s"] + SLACK_S)
    for start, end in zip(starts, ends, strict=True):
        if not (within(start) and within(end) and start < end):
            return f"the segment [{start}, {end}] s does not lie in the video, which lasts {facts['duration_s']} s"
    return ""
