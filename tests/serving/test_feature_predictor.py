"""A detector of features on raw video: what it finds in the features that were extracted ahead, it finds in the video."""

import json
import subprocess
import sys
import tracemalloc
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
import torch

from tadscale.data.encode import encode_pictures
from tadscale.data.extractor_spec import ExtractorSpec
from tadscale.data.feature_files import write_feature_files
from tadscale.data.feature_pack import FeatureFiles, pack_features
from tadscale.data.manifest import Manifest
from tadscale.data.quarantine import QuarantineLedger
from tadscale.data.shards import VideoSample, write_shards
from tadscale.data.windows import read_video, tile
from tadscale.network import load_network
from tadscale.runtime.models.packaging import package_model
from tadscale.segments import Detection
from tadscale.serving.access import Access
from tadscale.serving.path import DetectionPath
from tadscale.serving.predictor import Predictor, detector_folder
from tests.serving.tiny import clip
from tests.serving.tiny_features import detector, laid, made

LENGTHS_S = {"short": 0.7, "odd": 2.95, "long": 7.35}


@pytest.fixture(scope="module")
def extractor() -> tuple[ExtractorSpec, bytes]:
    return made()


@pytest.fixture(scope="module")
def packaged(extractor: tuple[ExtractorSpec, bytes], tmp_path_factory: pytest.TempPathFactory) -> Path:
    spec, weights = detector(extractor[0])
    folder = tmp_path_factory.mktemp("packaged") / "model"
    package_model(folder, spec, weights, extractor=extractor[1])
    return folder


@pytest.fixture(scope="module")
def predictor(packaged: Path) -> Predictor:
    return Predictor.from_directory(packaged, "cpu")


@pytest.fixture(scope="module")
def shards(extractor: tuple[ExtractorSpec, bytes], tmp_path_factory: pytest.TempPathFactory) -> Manifest:
    """The features of the clips, extracted ahead and packed."""
    from tadscale.serving.feature_extractor import load_extractor

    folder = tmp_path_factory.mktemp("features")
    spec, weights = extractor
    at_work = load_extractor(str(laid(folder / "rgb", spec, weights)), spec)
    annotation = {"subset": "test", "annotations": [{"label": "run", "segment": [0.1, 0.6]}]}
    videos = write_shards(
        [VideoSample(key, clip(s), annotation) for key, s in LENGTHS_S.items()], str(folder / "videos")
    )
    write_feature_files(
        videos,
        str(folder / "rgb"),
        lambda video, duration_s: np.stack(list(at_work.stream(video, duration_s))),
        "a network",
        QuarantineLedger(),
    )
    entries = {row.key: annotation | {"duration": row.duration_s} for row in videos.rows}
    (folder / "annotations.json").write_text(json.dumps({"database": entries}))
    files = FeatureFiles(stride=2, offset=0, video_fps=10)
    return pack_features(str(folder / "rgb"), str(folder / "annotations.json"), str(folder / "shards"), files).manifest


def evaluated(package: Path, shards: Manifest, key: str) -> list[Detection]:
    """By way of shards and windows of features, as evaluation goes."""
    network, spec = load_network(str(detector_folder(package)))
    index = shards.column("key").tolist().index(key)
    row, table = shards.row(index), tile(shards, spec.window)
    ids, path = np.flatnonzero(table.video == index), DetectionPath.of(spec)
    starts, valid = table.start_frames[ids], table.valid_frames[ids]
    windows, mask = path.cut(path.decode(read_video(row), starts, valid), starts, valid)
    found = path.detect(network, torch.from_numpy(windows), torch.from_numpy(mask))
    return path.merge(list(zip(starts.tolist(), found, strict=True)), video=key, duration_s=row.duration_s)


@pytest.mark.parametrize("key", LENGTHS_S)
def test_detections_in_video_are_those_in_its_features(
    predictor: Predictor, packaged: Path, shards: Manifest, key: str
) -> None:
    expected = evaluated(packaged, shards, key)
    duration_s, found = predictor.detect(clip(LENGTHS_S[key]), key)
    assert len(expected) > 3 and duration_s == pytest.approx(LENGTHS_S[key])
    assert [(one.video, one.label) for one in found] == [(one.video, one.label) for one in expected]
    np.testing.assert_allclose(
        [(one.start_s, one.end_s, one.score) for one in found],
        [(one.start_s, one.end_s, one.score) for one in expected],
        atol=1e-4,
    )


def test_windows_end_with_the_last_row(predictor: Predictor, monkeypatch: pytest.MonkeyPatch) -> None:
    """A picture that rounding lets begin before the end has its row, which its length in seconds alone has not."""
    monkeypatch.setattr("tadscale.serving.predictor.probe_video", lambda video: SimpleNamespace(duration_s=0.60000015))
    seen, detect = [], predictor.detect_windows
    monkeypatch.setattr(predictor, "detect_windows", lambda windows, mask: seen.append(mask) or detect(windows, mask))
    predictor.detect(clip(2.95), "clip")
    assert [mask.sum() for mask in seen] == [4]


def test_paths_and_bytes_and_a_bad_video(predictor: Predictor, tmp_path: Path) -> None:
    path, broken = tmp_path / "clip.mp4", tmp_path / "broken.mp4"
    path.write_bytes(clip(2.95))
    broken.write_bytes(clip(2.95)[:-3000])
    prediction = predictor.predict([path, clip(2.95), broken], ["path", "bytes", "broken"])
    of = {name: [one for one in prediction.detections if one.video == name] for name in ("path", "bytes")}
    assert set(prediction.failures) == {"broken"}
    assert [one.score for one in of["path"]] == [one.score for one in of["bytes"]] != []
    late = predictor.predict([path], access=Access(answer_s=0.0))
    assert "there was time for 0 of its" in late.failures[str(path)]


def test_memory_does_not_grow_with_the_video(predictor: Predictor, tmp_path: Path) -> None:
    still, peaks = np.random.default_rng(0).integers(0, 255, (32, 32, 3), np.uint8), []
    for name, seconds in (("warm", 5), ("short", 20), ("long", 120)):
        path = tmp_path / f"{name}.mp4"
        path.write_bytes(encode_pictures((np.roll(still, k, axis=1) for k in range(10 * seconds)), 32, 32, 10.0))
        tracemalloc.start()
        predictor.predict([path]).raise_failures()
        peaks.append(tracemalloc.get_traced_memory()[1])
        tracemalloc.stop()
    assert peaks[2] - peaks[1] < 2**20


def test_mlflow_loads_it_where_nothing_else_of_ours_is(packaged: Path, predictor: Predictor, tmp_path: Path) -> None:
    """The package alone: its own code, no place outside it."""
    path = tmp_path / "clip.mp4"
    path.write_bytes(clip(2.95))
    code = f"""
import json, sys, mlflow
model = mlflow.pyfunc.load_model({str(packaged)!r})
table = model.predict([{str(path)!r}])
import tadscale
assert tadscale.__file__.startswith({str(packaged)!r}), tadscale.__file__
assert not {{"ray", "deepspeed"}} & set(sys.modules)
print(json.dumps(table["score"].tolist()))
"""
    done = subprocess.run(
        [sys.executable, "-c", code], cwd=tmp_path, env={}, capture_output=True, text=True, timeout=120
    )
    assert done.returncode == 0, done.stderr
    wanted = [one.score for one in predictor.detect(clip(2.95), "clip")[1]]
    assert json.loads(done.stdout.splitlines()[-1]) == pytest.approx(wanted, abs=1e-4)
    assert "somewhere" not in (detector_folder(packaged) / "network.json").read_text()


def test_of_features_of_unknown_make_it_says_so(extractor: tuple[ExtractorSpec, bytes], tmp_path: Path) -> None:
    spec, weights = detector(extractor[0], carries=False)
    package_model(tmp_path / "model", spec, weights)
    folder = detector_folder(tmp_path / "model")
    assert sorted(path.name for path in folder.iterdir()) == ["network.json", "weights.safetensors"]
    assert "extractor" not in json.loads((folder / "network.json").read_text())  # as earlier versions read it
    with pytest.raises(
        ValueError, match=r"detects nothing in raw video.*not made by `tadscale data extract`.*JOB\.yaml URL"
    ):
        Predictor.from_directory(tmp_path / "model", "cpu")


def test_an_extractor_of_other_features_is_none(extractor: tuple[ExtractorSpec, bytes], tmp_path: Path) -> None:
    spec, weights = detector(extractor[0])
    rows = extractor[0].rows.model_copy(update={"offset": 1.0})
    other = spec.window.model_copy(update={"features": rows})
    package_model(tmp_path / "model", spec.model_copy(update={"window": other}), weights, extractor=extractor[1])
    with pytest.raises(ValueError, match="detects nothing in raw video"):
        Predictor.from_directory(tmp_path / "model", "cpu")
