"""Which detections touch an instance at all, whatever its class: where none does, times are not in one unit."""

import numpy as np
from numpy.typing import NDArray

from tadscale.metrics.tables import DetectionTable, GroundTruth, index_of


def touches_instance(detections: DetectionTable, ground_truth: GroundTruth, scale: float = 1.0) -> NDArray[np.bool_]:
    """Whether each detection has any overlap with an instance of its video.

    Args:
        detections: of any videos and classes.
        ground_truth: instances without length are touched by nothing.
        scale: what the detections' times are multiplied by first, to try another unit.

    Returns:
        `[N]`, false on videos that the ground truth does not have.
    """
    video = index_of(detections.videos, ground_truth.videos)[detections.video]  # [N]
    start, end = (detections.segments_s * scale).T  # [N] each
    lasting = ground_truth.segments_s[:, 1] > ground_truth.segments_s[:, 0]  # [M]
    touched = np.zeros(len(detections), np.bool_)
    for index in np.unique(video[video >= 0]):
        rows = video == index
        starts, ends = np.sort(ground_truth.segments_s[lasting & (ground_truth.video == index)], axis=0).T
        # Those that begin before it ends, without those that are over when it begins.
        touched[rows] = np.searchsorted(starts, end[rows]) > np.searchsorted(ends, start[rows], side="right")
    return touched & (end > start)
