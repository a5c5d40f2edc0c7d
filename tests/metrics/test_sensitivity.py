"""mAP_N and misses by bucket, against a slow walk and by hand."""

import numpy as np
import pytest

from tadscale.metrics.average_precision import match_detections
from tadscale.metrics.characteristics import Characteristic
from tadscale.metrics.sensitivity import found_instances, sensitivity
from tests.metrics.problems import found, random_problem, truth
from tests.metrics.reference import normalised_area, walk

TIOU = (0.25, 0.5, 1.0)


@pytest.mark.parametrize("seed", range(8))
def test_equals_the_walk_over_detections(seed: int) -> None:
    detections, ground_truth = random_problem(seed)
    bucket = np.random.default_rng(seed).integers(-1, 3, len(ground_truth))
    sizes = Characteristic(name="size", buckets=("S", "M", "L"), bucket=bucket)
    result = sensitivity(match_detections(detections, ground_truth, TIOU, "stable"), ground_truth, sizes)
    mean = len(ground_truth) / len(ground_truth.labels)
    for b in range(3):
        per_class: dict[int, list[float]] = {}
        for threshold in TIOU:
            for k, of_class in walk(detections, ground_truth, threshold).items():
                instances = int(((ground_truth.label == k) & (bucket == b)).sum())
                verdict = [m is not None for _, m in of_class if m is None or bucket[m] == b]
                if instances:
                    per_class.setdefault(k, []).append(normalised_area(verdict, instances, mean))
        assert result.normalised_map[b] == pytest.approx(np.mean([np.mean(areas) for areas in per_class.values()]))
    assert result.instances.tolist() == np.bincount(bucket[bucket >= 0], minlength=3).tolist()


def test_counts_what_is_missed_in_each_bucket() -> None:
    ground_truth = truth(v=[("jump", 0, 1), ("jump", 10, 11), ("jump", 20, 40)])
    detections = found(("v", "jump", 0, 1, 0.9), ("v", "jump", 20, 32, 0.8))
    sizes = Characteristic(name="size", buckets=("short", "long", "none"), bucket=np.array([0, 0, 1]))
    result = sensitivity(match_detections(detections, ground_truth, (0.5, 0.7)), ground_truth, sizes)
    np.testing.assert_allclose(result.missed, [0.5, 0.5, np.nan])  # the long one is found at .5, not at .7
    assert result.to_dict()["buckets"][2] == {"bucket": "none", "instances": 0, "average_mAP_N": None, "missed": None}


def test_what_is_found_among_many_false_positives_counts_as_missed() -> None:
    # N = 1: the only instance at rank r has a normalised precision of 1 / r, so .05 or less from rank 20 on.
    ground_truth = truth(v=[("jump", 0, 10)])
    for misses, seen in ((18, True), (19, False)):
        rows = [("v", "jump", 50, 60, 1 - n / 100) for n in range(misses)]
        matches = match_detections(found(*rows, ("v", "jump", 0, 10, 0.1)), ground_truth, (0.5,))
        assert matches.true_positive.any()
        assert found_instances(matches, ground_truth).tolist() == [[seen]]
