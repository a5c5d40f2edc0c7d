import numpy as np
import pytest

from tadscale.metrics.tables import DetectionTable
from tadscale.retrain import profile as module
from tadscale.retrain.appearance import VideoLook
from tadscale.retrain.profile import DataProfile, change_since, confidences, profile_of, sampled, video_digest
from tadscale.segments import Detection
from tests.retrain.videos import manifest, row

LOOK = VideoLook(luma=1, contrast=2, cb=3, cr=4, speed=5)


def test_a_video_is_its_bytes_and_its_annotation_and_not_its_name_or_place():
    one = row(1)
    assert video_digest(one) == video_digest(one._replace(key="other", url="elsewhere/b.tar", video_offset=9))
    others = [
        row(2),
        row(1, "test"),
        row(1, labels=("jump",)),
        one._replace(end_s=(3.0,)),
        one._replace(labelled=False),
    ]
    assert len({video_digest(row) for row in (one, *others)}) == 6


def test_a_profile_tells_what_there_was_and_survives_being_written():
    training, test = manifest(5), [row(9, "test"), row(8, "test")]
    profile = profile_of(training, test, lambda row: LOOK, [0.5, 0.25])
    assert DataProfile.model_validate_json(profile.model_dump_json()) == profile
    assert (profile.videos, profile.classes, profile.label_counts) == (5, ("jump", "run"), {"run": 5})
    assert profile.digests == tuple(sorted(video_digest(one) for one in training.rows))
    assert set(profile.test_digests) == {video_digest(one) for one in test}
    assert profile.manifest_digest == training.digest and profile.confidence == (0.25, 0.5)
    assert profile.duration_quantiles_s == (10.0,) * 5


def test_what_is_new_is_what_a_slow_loop_finds_new():
    before = profile_of(manifest(30), [], lambda row: None, [])
    rows = [row(index) for index in range(10, 40)]
    change = change_since(before, rows)
    new = [one for one in rows if not any(video_digest(one) == known for known in before.digests)]
    assert list(change.new) == new and len(new) == 10
    assert (change.known, change.gone) == (20, 10)
    assert change.fraction == pytest.approx(10 / 30)
    relabelled = change_since(before, [row(3, labels=("jump",)), row(4)])
    assert [one.key for one in relabelled.new] == ["v3"] and relabelled.known == 1


def test_the_sample_is_bounded_is_the_same_in_any_order_and_looks_at_few(monkeypatch):
    monkeypatch.setattr(module, "SAMPLE", 6)
    monkeypatch.setattr(module, "LOOKED_AT", 2)
    rows = [row(index, duration_s=float(index + 1)) for index in range(20)]
    looked: list[str] = []

    def look(row):
        looked.append(row.key)
        return LOOK

    first = sampled(rows, look)
    assert len(first) == 6 and len(looked) == 2
    assert [one.look is not None for one in first] == [True, True, False, False, False, False]
    assert sampled(rows[::-1], look) == first
    assert sampled([row(1)._replace(labelled=False, labels=(), start_s=(), end_s=())], look)[0].labels is None


def test_confidence_is_the_mean_of_the_strongest_five_and_nothing_found_is_none():
    random = np.random.default_rng(0)
    found = {"a": random.random(9).tolist(), "b": [0.5, 0.25], "c": []}
    rows = [
        Detection(video=video, label="run", start_s=0.0, end_s=1.0, score=score)
        for video, scores in found.items()
        for score in scores
    ]
    expected = []
    for scores in found.values():
        strongest = sorted(scores, reverse=True)[:5]
        expected.append(sum(strongest) / 5)
    assert confidences(DetectionTable.from_detections(rows), list(found)) == pytest.approx(expected)
    assert expected[1:] == [0.15, 0.0]
    assert confidences(DetectionTable.from_detections([]), ["x"]) == [0.0]
