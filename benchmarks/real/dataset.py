"""A folder of videos and an ActivityNet JSON file: what `tadscale data pack` takes."""

import json
from collections import Counter
from collections.abc import Iterable
from pathlib import Path
from typing import Any

from rich.table import Table

from tadscale.data.shards import VideoSample

ANNOTATIONS_NAME = "annotations.json"


def write_dataset(samples: Iterable[VideoSample], out: Path) -> dict[str, Any]:
    """Write `OUT/videos/KEY.mp4` and, last of all, `OUT/annotations.json`; return what the latter holds under `database`.

    Raises:
        ValueError: a data set is there already.
    """
    if (out / ANNOTATIONS_NAME).exists():
        raise ValueError(f"{out} holds a data set already: remove it, or name another folder with --out")
    (out / "videos").mkdir(parents=True, exist_ok=True)
    database = {}
    for sample in samples:
        (out / "videos" / f"{sample.key}.{sample.suffix}").write_bytes(sample.video)
        database[sample.key] = sample.annotation
    (out / ANNOTATIONS_NAME).write_text(json.dumps({"database": database}, indent=1) + "\n")
    return database


def annotation(
    subset: str, duration_s: float, fps: float, segments: Iterable[tuple[str, float, float]]
) -> dict[str, Any]:
    """One video's entry of the file; segments are `(label, start_s, end_s)`."""
    return {
        "subset": subset,
        "duration": round(duration_s, 3),
        "fps": fps,
        "annotations": [
            {"label": label, "segment": [round(start, 3), round(end, 3)]} for label, start, end in segments
        ],
    }


def balance(database: dict[str, Any]) -> Table:
    """How many videos, hours and segments of each class a subset has, and what share of the time is action."""
    subsets = list(dict.fromkeys(entry["subset"] for entry in database.values()))
    counts: dict[str, Counter[str]] = {subset: Counter() for subset in subsets}
    for entry in database.values():
        count = counts[entry["subset"]]
        count.update({"videos": 1, "minutes": entry["duration"] / 60})
        for one in entry["annotations"]:
            count.update({one["label"]: 1, "minutes of action": (one["segment"][1] - one["segment"][0]) / 60})
    first = ["videos", "minutes", "minutes of action"]
    table = Table("", *subsets)
    for name in first + sorted({name for count in counts.values() for name in count} - set(first)):
        table.add_row(name, *(f"{counts[subset][name]:.4g}" for subset in subsets))
    return table
