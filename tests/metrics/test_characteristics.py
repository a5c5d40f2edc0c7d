"""Which bucket an instance is in."""

import numpy as np

from tadscale.metrics.characteristics import Buckets, characteristics, quintiles
from tadscale.metrics.protocols import THUMOS14
from tests.metrics.problems import truth

NAN = float("nan")


def test_bounds_are_included_and_what_has_no_length_is_in_none() -> None:
    ground_truth = truth(v=[("jump", 0, 3), ("jump", 0, 3.5), ("jump", 0, 20), ("run", 5, 5)], w=[("run", 0, 9)])
    length, coverage, instances = characteristics(ground_truth, np.array([100.0, NAN]), THUMOS14.buckets)
    assert length.bucket.tolist() == [0, 1, 4, -1, 2]
    assert length.buckets[1] == "S, 3 to 6 s"
    assert coverage.bucket.tolist() == [1, 1, 4, -1, -1]  # 3, 3.5 and 20 % of v; w is of unknown length
    assert coverage.buckets[0] == "XS, up to 2 %"
    assert instances.bucket.tolist() == [1, 1, 1, -1, 0]  # three jumps in v, one run in each
    assert instances.buckets[-1] == "L, over 80"


def test_instances_longer_than_their_video_are_in_no_bucket_of_coverage() -> None:
    _, coverage, _ = characteristics(truth(v=[("jump", 0, 11)]), np.array([10.0]), THUMOS14.buckets)
    assert coverage.bucket.tolist() == [-1]


def test_coverage_is_left_out_where_no_video_s_length_is_known() -> None:
    found = characteristics(truth(v=[("jump", 0, 3)]), np.array([NAN]), THUMOS14.buckets)
    assert [one.name for one in found] == ["length", "instances in the video"]


def test_quintiles_hold_as_many_instances_each() -> None:
    ground_truth = truth(v=[("jump", 0, length) for length in range(1, 51)])
    buckets = quintiles(ground_truth, np.array([100.0]))
    length, coverage, _ = characteristics(ground_truth, np.array([100.0]), buckets)
    assert np.bincount(length.bucket).tolist() == np.bincount(coverage.bucket).tolist() == [10] * 5


def test_lengths_that_are_all_the_same_share_a_bucket() -> None:
    ground_truth = truth(v=[("jump", 0, 2), ("jump", 5, 7)])
    buckets = quintiles(ground_truth, np.array([NAN]))
    assert buckets == Buckets(length_s=(2.0, np.inf), coverage=(np.inf,), instances=(1, 4, 8, np.inf))
    assert characteristics(ground_truth, np.array([NAN]), buckets)[0].bucket.tolist() == [0, 0]
