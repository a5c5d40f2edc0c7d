"""Class scores of whole videos, as found in the wild.

Two forms are read: results of the ActivityNet classification task, `{"results": {VIDEO: [{"label", "score"}]}}`, and the
form of the CUHK & ETHZ & SIAT submission of 2017 that detectors share, `{"results": {VIDEO: [SCORE, ...]}, "class": [LABEL,
...]}`.
"""

import math
from collections import Counter
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from tadscale.data.annotations import SHOWN, read_document, refuse_twins
from tadscale.data.keys import is_unicode, same_key
from tadscale.errors import UserError
from tadscale.metrics.video_scores import VideoScores


def read_video_scores(url: str | Path) -> VideoScores:
    """Read a file of video-level class scores.

    Raises:
        UserError: the file is of neither form, two of its names are one video, a class is no name, or a score is negative
            or no number.
        StorageError: there is no such file, or it cannot be reached.
    """
    document = read_document(url)
    return parse_video_scores(document.content, document.url)


def parse_video_scores(document: Any, source: str) -> VideoScores:
    """Understand scores that are already loaded.

    Args:
        document: what `json.load` returned.
        source: what to call it in errors, usually the file's name.

    Raises:
        UserError: see `read_video_scores`; says where.
    """
    results = document.get("results") if isinstance(document, Mapping) else None
    if not isinstance(results, Mapping) or not results:
        raise UserError(
            f'{source} has no object "results" at its top level, or none with a video: no video-level scores'
        )
    refuse_twins(results, f"{source}: results")
    classes = _classes(document.get("class"), source)
    by_video = [_of_video(entries, classes, f"{source}: results[{video!r}]") for video, entries in results.items()]
    labels = tuple(classes) if classes else tuple(sorted({label for scores in by_video for label in scores}))
    score = np.array([[scores.get(label, 0.0) for label in labels] for scores in by_video], np.float64)
    return VideoScores(videos=tuple(map(same_key, results)), labels=labels, score=score)


def _classes(classes: Any, source: str) -> list[str] | None:
    """The names in the order of the scores, where the file has such a list."""
    if classes is None:
        return None
    if not isinstance(classes, list):
        raise UserError(f'{source}: "class" is {type(classes).__name__}, expected a list of names')
    names = [_label(label, f'{source}: "class"[{index}]') for index, label in enumerate(classes)]
    if twice := [name for name, count in Counter(names).items() if count > 1]:
        raise UserError(f'{source}: "class" names {twice[0]!r} twice: which of its scores counts?')
    return names


def _of_video(entries: Any, classes: Sequence[str] | None, place: str) -> dict[str, float]:
    """The scores of one video by label."""
    if not isinstance(entries, list):
        raise UserError(f"{place} is {type(entries).__name__}, expected a list of scores")
    if classes is not None:
        if len(entries) != len(classes):
            raise UserError(f'{place} has {len(entries)} scores for the {len(classes)} names of "class"')
        return {label: _score(value, place) for label, value in zip(classes, entries, strict=True)}
    if not all(isinstance(entry, Mapping) and "label" in entry and "score" in entry for entry in entries):
        raise UserError(f'{place} must hold "label" and "score" in each entry, or the file must name its "class" list')
    if not entries:
        raise UserError(f"{place} is empty: with no score of any class all detections of the video would be worth 0")
    found: dict[str, float] = {}
    for index, entry in enumerate(entries):
        label = _label(entry["label"], f"{place}[{index}].label")
        if label in found:
            raise UserError(f"{place} scores {label!r} twice, as {found[label]:g} and {entry['score']}")
        found[label] = _score(entry["score"], place)
    return found


def _label(value: Any, place: str) -> str:
    if not isinstance(value, str) or not value or not is_unicode(value):
        raise UserError(
            f"{place} is {repr(value)[:SHOWN]}, expected the name of a class: two files rarely number them alike"
        )
    return value


def _score(value: Any, place: str) -> float:
    try:
        number = float(value)
    except (TypeError, ValueError, OverflowError) as error:
        raise UserError(f"{place} holds {repr(value)[:SHOWN]}, expected a number") from error
    if not (math.isfinite(number) and number >= 0):
        raise UserError(f"{place} holds {value!r}: scores are multiplied, so logits must go through a softmax first")
    return number
