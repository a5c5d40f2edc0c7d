"""The protocols of the field's two data sets by name: subset, thresholds, and DETAD's buckets.

Sources: Jiang et al., THUMOS Challenge 2014 (tIoU .3:.1:.7 is what papers report); Caba Heilbron et al., "ActivityNet",
CVPR 2015, evaluated on the validation subset, for the annotations of the test subset are not published. Buckets: those of
Alwassel et al., "Diagnosing Error in Temporal Action Detectors", ECCV 2018, in the analysis published with the paper.
"""

from dataclasses import dataclass

import numpy as np

from tadscale.metrics.average_precision import ACTIVITYNET_TIOU, THUMOS14_TIOU
from tadscale.metrics.characteristics import Buckets


@dataclass(frozen=True, kw_only=True)
class Protocol:
    """How a data set is evaluated."""

    subset: str
    tiou: tuple[float, ...]
    buckets: Buckets


THUMOS14 = Protocol(
    subset="test",
    tiou=THUMOS14_TIOU,
    buckets=Buckets(
        length_s=(3, 6, 12, 18, np.inf), coverage=(0.02, 0.04, 0.06, 0.08, 1), instances=(1, 40, 80, np.inf)
    ),
)
ACTIVITYNET13 = Protocol(
    subset="validation",
    tiou=ACTIVITYNET_TIOU,
    buckets=Buckets(length_s=(30, 60, 120, 180, np.inf), coverage=(0.2, 0.4, 0.6, 0.8, 1), instances=(1, 4, 8, np.inf)),
)
PROTOCOLS = {"thumos14": THUMOS14, "activitynet13": ACTIVITYNET13}
