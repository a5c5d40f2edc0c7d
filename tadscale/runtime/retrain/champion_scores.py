"""How sure the champion is of new videos: a bounded number of them, in this process."""

from collections.abc import Sequence

from tadscale.data.manifest import VideoRow
from tadscale.data.quarantine import DataError
from tadscale.data.windows import read_video
from tadscale.metrics.tables import DetectionTable
from tadscale.retrain.config import DriftConfig
from tadscale.retrain.drift import CONFIDENCE, Shift, distance_shift
from tadscale.retrain.profile import DataProfile, confidences, video_digest
from tadscale.runtime.models.registry import ModelVersion, Registry
from tadscale.serving.predictor import Predictor


def confidence_shift(
    registry: Registry, champion: ModelVersion, profile: DataProfile, new: Sequence[VideoRow], config: DriftConfig
) -> Shift | None:
    """The champion's confidence in new videos against that in its test videos, neither of which it was trained on; None if
    there are too few of either, or if it is not to be looked at.

    Raises:
        StorageError: the storage cannot be reached.
    """
    looked_at = sorted(new, key=video_digest)[: config.score_videos]
    if min(len(looked_at), len(profile.confidence)) < config.min_videos:
        return None
    with registry.fetch(champion.name, champion.version) as package:
        predictor = Predictor.from_directory(package)
        found = []
        for row in looked_at:
            try:
                _, detections = predictor.detect(read_video(row), row.key)
            except DataError:
                continue
            found += confidences(DetectionTable.from_detections(detections), [row.key])
    return distance_shift(CONFIDENCE, profile.confidence, found, config)
