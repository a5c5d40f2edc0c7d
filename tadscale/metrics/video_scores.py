"""Detections with the class scores of whole videos: score = detection x class.

The convention of detectors whose proposals know no class: a classifier of untrimmed videos names the video's best classes,
each proposal becomes a detection of each of them, and the scores are multiplied. Classifiers in use are UntrimmedNets (Wang,
Xiong, Lin, Van Gool, CVPR 2017) for THUMOS14, with the two best classes, and the CUHK & ETHZ & SIAT submission (Zhao et al.,
ActivityNet Challenge 2017) for ActivityNet; so in BSN (Lin et al., ECCV 2018) and most that followed.
"""

from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from tadscale.errors import UserError
from tadscale.metrics.tables import DetectionTable, index_of


@dataclass(frozen=True, kw_only=True, eq=False)
class VideoScores:
    """How sure a classifier is of each class in each video."""

    videos: tuple[str, ...]
    labels: tuple[str, ...]
    score: NDArray[np.float64]
    """`[videos, K]`, not negative; 0 for a class that was not scored."""


def with_video_scores(detections: DetectionTable, scores: VideoScores, top_k: int) -> DetectionTable:
    """Weigh detections by what is in their video.

    A detection of a class keeps it and is multiplied by that class's score, if the class is among the video's best; else
    it is dropped. Where the one label of all detections is no class of the scores they know no class (`proposal`, `action`),
    and each becomes one of every best class. A class that has no score in a video is none of its best, however few are.

    Args:
        detections: with classes of the scores alone, or with none of them.
        scores: of all their videos.
        top_k: best classes of a video.

    Raises:
        UserError: `top_k` is not positive, a video has no scores, or some labels are classes of the scores and some not, or
            several are none.
    """
    if top_k < 1:
        raise UserError(f"{top_k} classes of each video leave no detection: keep 1 or more")
    video = index_of(detections.videos, scores.videos)[detections.video]  # [N]
    _check_videos(detections, video)
    label = index_of(detections.labels, scores.labels)[detections.label]  # [N] -1 for a label that is not scored
    best = np.argsort(-scores.score, axis=1, kind="stable")[:, :top_k]  # [videos, k]
    if (label >= 0).any():
        _check_labels(detections, label)
        row = np.flatnonzero((best[video] == label[:, None]).any(axis=1))
        chosen = label[row]
    else:
        _check_one_label(detections, scores)
        row = np.repeat(np.arange(len(video)), best.shape[1])
        chosen = best[video].reshape(-1)
    scored = scores.score[video[row], chosen] > 0
    row, chosen = row[scored], chosen[scored]
    return replace(
        detections,
        labels=scores.labels,
        video=detections.video[row],
        label=chosen,
        segments_s=detections.segments_s[row],
        score=detections.score[row] * scores.score[video[row], chosen],
    )


def _check_videos(detections: DetectionTable, video: NDArray[np.int64]) -> None:
    missing = sorted({detections.videos[index] for index in detections.video[video < 0].tolist()})
    if missing:
        raise UserError(
            f"{len(missing)} of the videos with detections have no video-level scores, such as {missing[:3]}. Names must be "
            'equal to the letter: beware of prefixes ("v_") and of another subset.'
        )


def _check_one_label(detections: DetectionTable, scores: VideoScores) -> None:
    labels = sorted({detections.labels[index] for index in detections.label.tolist()})
    if len(labels) > 1:
        raise UserError(
            f"None of the detections' {len(labels)} classes has video-level scores: {labels[:3]} there, "
            f"{list(scores.labels[:3])} here (first three). Spell the classes alike in both files, or give all detections "
            "one label that is no class."
        )


def _check_labels(detections: DetectionTable, label: NDArray[np.int64]) -> None:
    missing = sorted({detections.labels[index] for index in detections.label[label < 0].tolist()})
    if missing:
        raise UserError(
            f"Some detections are of classes that the video-level scores have, others are not: {missing[:3]}. Spell the "
            "classes alike in both files, or give all detections one label that is no class."
        )
