"""How hard each video is for a detector: what a list of examples begins with."""

import numpy as np
from numpy.typing import NDArray

from tadscale.metrics.average_precision import Matches, interpolated_average_precision
from tadscale.metrics.tables import DetectionTable, GroundTruth


def precision_by_video(matches: Matches, detections: DetectionTable, ground_truth: GroundTruth) -> NDArray[np.float64]:
    """Average precision inside each video, the mean over the thresholds; low is hard.

    The video's detections of all classes are ranked together by score. It is not the mAP of a subset that holds this video
    alone, which would not see that a false alarm of one class is surer than every hit of another.

    Args:
        matches: of these detections with this ground truth.
        detections: of any videos and classes.
        ground_truth: the videos of one subset.

    Returns:
        `[videos]` in [0, 1], NaN for a video without an instance.
    """
    order = np.argsort(-detections.score[matches.row], kind="stable")  # [N]
    video, found = matches.video[order], matches.true_positive[:, order]
    instances = np.bincount(ground_truth.video, minlength=len(ground_truth.videos))
    per_video = []
    for index, count in enumerate(instances.tolist()):
        verdicts = found[:, video == index]  # [T, n]
        weight = np.ones(verdicts.shape[1])
        per_video.append(interpolated_average_precision(verdicts, weight, np.array(float(count))).mean())
    return np.array(per_video)
