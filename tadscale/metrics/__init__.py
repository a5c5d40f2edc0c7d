"""How good detections are (mAP over temporal IoU), and how they are thinned out (NMS). Pure numpy."""

from tadscale.metrics.average_precision import (
    ACTIVITYNET_TIOU,
    THUMOS14_TIOU,
    MeanAveragePrecision,
    TieOrder,
    evaluate_detections,
)
from tadscale.metrics.bootstrap import PairedBootstrap, paired_bootstrap
from tadscale.metrics.nms import Kept, NmsConfig, suppress
from tadscale.metrics.tables import DetectionTable, GroundTruth

__all__ = [
    "ACTIVITYNET_TIOU",
    "THUMOS14_TIOU",
    "DetectionTable",
    "GroundTruth",
    "Kept",
    "MeanAveragePrecision",
    "NmsConfig",
    "PairedBootstrap",
    "TieOrder",
    "evaluate_detections",
    "paired_bootstrap",
    "suppress",
]
