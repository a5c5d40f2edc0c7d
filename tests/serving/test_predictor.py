import json
import shutil
import tracemalloc
from pathlib import Path
from typing import NamedTuple

import numpy as np
import pytest
import torch

from tadscale.data.encode import encode_pictures
from tadscale.data.manifest import read_manifest
from tadscale.data.shards import VideoSample, write_shards
from tadscale.data.windows import load_window, tile
from tadscale.metrics.nms import suppress
from tadscale.models.student import Student
from tadscale.serving import Predictor
from tadscale.serving.access import Access
from tadscale.serving.path import DetectionPath
from tests.serving.tiny import NETWORK, SPEC, clip, student_weights


class Lengths(NamedTuple):
    duration_s: np.ndarray


@pytest.fixture(scope="module")
def predictor(package: Path) -> Predictor:
    return Predictor.from_directory(package, "cpu")


def evaluated(video: bytes, folder: Path) -> list[tuple[float, float, float, str]]:
    """The same video by way of shards, manifest and windows, as evaluation goes: with the whole student, a window a time."""
    annotation = {"subset": "test", "annotations": [{"label": "run", "segment": [0.1, 0.9]}]}
    write_shards([VideoSample("clip", video, annotation)], str(folder), classes=SPEC.classes)
    manifest = read_manifest(str(folder))
    table = tile(manifest, SPEC.window)
    student = Student(NETWORK, num_classes=2)
    student.load_state_dict(student_weights())
    segments, scores, labels = [np.empty((0, 2))], [np.empty(0)], [np.empty(0, np.int64)]
    for start, valid in zip(table.start_frames.tolist(), table.valid_frames.tolist(), strict=True):
        window = load_window(manifest.row(0), start, valid, SPEC.window)
        with torch.no_grad():
            frames = student.backbone.normalise(torch.from_numpy(window.frames)[None])
            predictions = student.eval().detect(frames, torch.from_numpy(window.mask)[None])
            found = student.head.decode(predictions, top_k=30, min_score=0.001)[0]
        segments.append((found.segments_frames.numpy().astype(np.float64) + start) / SPEC.window.fps)
        scores.append(found.scores.numpy().astype(np.float64))
        labels.append(found.labels.numpy())
    times = np.concatenate(segments).clip(0, manifest.row(0).duration_s)
    lasting = times[:, 1] > times[:, 0]
    times, score, label = times[lasting], np.concatenate(scores)[lasting], np.concatenate(labels)[lasting]
    kept = suppress(times, score, label, SPEC.inference.nms)
    rows = zip(times[kept.row].tolist(), kept.score.tolist(), label[kept.row].tolist(), strict=True)
    return [(start_s, end_s, score, SPEC.classes[index]) for (start_s, end_s), score, index in rows]


@pytest.mark.parametrize("seconds", [0.7, 1.6, 3.45], ids=["shorter than a window", "one window", "several windows"])
def test_detections_are_those_of_evaluation(predictor: Predictor, tmp_path: Path, seconds: float) -> None:
    video = clip(seconds)
    duration_s, detections = predictor.detect(video, "clip")
    assert duration_s == pytest.approx(seconds)
    expected = evaluated(video, tmp_path / "shards")
    assert len(expected) > 3
    got = [(row.start_s, row.end_s, row.score, row.label) for row in detections]
    assert [row[3] for row in got] == [row[3] for row in expected]
    np.testing.assert_allclose([row[:3] for row in got], [row[:3] for row in expected], atol=1e-4)
    assert {row.video for row in detections} == {"clip"}


@pytest.mark.parametrize("resize", ["stretch", "crop"])
def test_windows_of_a_stream_are_those_that_seeking_gives(predictor: Predictor, resize: str) -> None:
    """Whatever the batch; the last window is aligned to the end."""
    window = predictor.spec.window.model_copy(update={"resize": resize, "width": 20})
    video, path = clip(7.3), DetectionPath.of(predictor.spec.model_copy(update={"window": window}))
    table = tile(Lengths(np.array([7.3])), path.window)
    starts, valid = table.start_frames, table.valid_frames
    wanted, mask = path.cut(path.decode(video, starts, valid), starts, valid)
    for batch in (1, 3, 100):
        streamed = list(path.stream(video, table, batch))
        assert [len(windows) for windows, _ in streamed[:-1]] == [batch] * (len(streamed) - 1)
        np.testing.assert_array_equal(np.concatenate([windows for windows, _ in streamed]), wanted)
        np.testing.assert_array_equal(np.concatenate([exists for _, exists in streamed]), mask)


def test_memory_does_not_grow_with_the_video(predictor: Predictor, tmp_path: Path) -> None:
    """Numpy reports what it holds: all pictures of two minutes at once would be 3.5 MiB, the windows of a batch are 0.5."""
    still = np.random.default_rng(0).integers(0, 255, (32, 32, 3), np.uint8)
    peaks = []
    for name, seconds in (("warm", 5), ("short", 20), ("long", 120)):
        path = tmp_path / f"{name}.mp4"
        path.write_bytes(encode_pictures((np.roll(still, k, axis=1) for k in range(10 * seconds)), 32, 32, 10.0))
        tracemalloc.start()
        prediction = predictor.predict([path])
        peaks.append(tracemalloc.get_traced_memory()[1])
        tracemalloc.stop()
        assert prediction.duration_s == {str(path): pytest.approx(seconds)} and prediction.detections
    assert peaks[2] - peaks[1] < 2**20


def test_a_bad_video_does_not_stop_the_others(predictor: Predictor, video: bytes, tmp_path: Path) -> None:
    good, broken, missing = tmp_path / "good.mp4", tmp_path / "broken.mp4", tmp_path / "missing.mp4"
    good.write_bytes(video)
    broken.write_bytes(video[: len(video) // 2])
    prediction = predictor.predict([broken, good, missing])
    assert {row.video for row in prediction.detections} == {str(good)} == set(prediction.duration_s)
    assert set(prediction.failures) == {str(broken), str(missing)}
    with pytest.raises(ValueError, match=r"2 of 3 video\(s\).*broken.mp4: .*missing.mp4: cannot be read"):
        prediction.raise_failures()


def test_nothing_is_computed_once_nobody_waits(predictor: Predictor, video: bytes) -> None:
    """Such as of a few kilobytes whose times of display are hours apart."""
    prediction = predictor.predict([video], access=Access(answer_s=0.0))
    [reason] = prediction.failures.values()
    assert not prediction.detections and "there was time for 0 of its" in reason


def test_two_videos_of_one_name_are_refused(predictor: Predictor, video: bytes) -> None:
    with pytest.raises(ValueError, match="each its own name"):
        predictor.predict([video, video], ["same", "same"])


def test_the_inner_folder_will_do_as_well(package: Path, predictor: Predictor, video: bytes) -> None:
    inner = Predictor.from_directory(package / "artifacts" / "detector", "cpu")
    assert inner.detect(video, "clip") == predictor.detect(video, "clip")


def test_damage_is_found_before_the_weights_are_used(package: Path, tmp_path: Path) -> None:
    folder = shutil.copytree(package / "artifacts" / "detector", tmp_path / "detector")
    weights = folder / "weights.safetensors"
    data = bytearray(weights.read_bytes())
    data[-1] ^= 1
    weights.write_bytes(data)
    with pytest.raises(ValueError, match=r"weights.safetensors has digest .* damaged or belongs to another model"):
        Predictor.from_directory(folder)
    weights.unlink()
    with pytest.raises(ValueError, match=r"has no weights.safetensors"):
        Predictor.from_directory(folder)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"format": 3}, "has format 3, this tadscale reads formats 1 and 2"),
        ({"surprise": 1}, "does not describe a network"),
        ({"window": None}, "does not describe a network"),
        ({"classes": ["jump", "run", "fly"]}, "does not fit the architecture"),
    ],
)
def test_a_spec_that_cannot_be_trusted_is_refused(package: Path, tmp_path: Path, change: dict, message: str) -> None:
    folder = shutil.copytree(package / "artifacts" / "detector", tmp_path / "detector")
    spec = folder / "network.json"
    spec.write_text(json.dumps(json.loads(spec.read_text()) | change))
    with pytest.raises(ValueError, match=message):
        Predictor.from_directory(folder)


def test_a_folder_without_a_model_is_named(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="no exported detector"):
        Predictor.from_directory(tmp_path)
