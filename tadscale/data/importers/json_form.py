"""Data sets that are published as ActivityNet JSON."""

import re
from collections.abc import Callable, Mapping, Sequence
from typing import Any

from tadscale.data.annotations import normal_subset, parse_ground_truth, read_document
from tadscale.data.importers.collected import Collected
from tadscale.data.importers.files import matching
from tadscale.errors import UserError

JSON = re.compile(r".*\.json", re.IGNORECASE)


def collect_json(
    files: Sequence[str],
    published_classes: int,
    expected: str,
    subset_of: Callable[[str, str], str] | None = None,
) -> Collected:
    """What the JSON files among `files` say.

    Args:
        files: paths or URLs; all that are not called `.json` are passed over.
        published_classes: how many classes the data set has.
        expected: what the files are called, for the error.
        subset_of: the subset of a video by its name and its place, where the files do not write it as published.

    Raises:
        UserError: no file is JSON, an entry is malformed, or a video is in two files.
        StorageError: a file cannot be read.
    """
    collected = Collected(published_classes)
    for url, _ in matching(files, JSON, expected):
        for video in parse_ground_truth(_with_withheld(read_document(url).content), url):
            place = f"{url}: database[{video.video!r}]"
            if video.video in collected:
                raise UserError(
                    f"{place}: another file has this video, too: give each version of the annotations alone"
                )
            subset = subset_of(video.video, place) if subset_of else video.subset
            collected.declare(video.video, subset, place, video.duration_s, video.fps)
            for segment in video.segments:
                collected.add(video.video, segment)
    return collected


def _with_withheld(document: Any) -> Any:
    """The document, with an empty list for test videos whose entries have no annotations at all."""
    database = document.get("database") if isinstance(document, Mapping) else None
    if not isinstance(database, Mapping):
        return document  # for its reader to refuse
    return {**document, "database": {video: _entry(entry) for video, entry in database.items()}}


def _entry(entry: Any) -> Any:
    withheld = (
        isinstance(entry, Mapping) and "annotations" not in entry and normal_subset(entry.get("subset", "")) == "test"
    )
    return {**entry, "annotations": []} if withheld else entry
