"""A job's backbones make files of features, which become shards."""

import json
from pathlib import Path

import numpy as np
import pytest

from tadscale.cli import main
from tadscale.data.features import FeatureRows, parse_rows
from tadscale.data.manifest import Manifest, read_manifest
from tadscale.data.windows import read_video
from tadscale.network import read_spec
from tadscale.runtime.stage.extraction import extractors
from tadscale.runtime.stage.spec import Stage
from tadscale.serving.feature_extractor import load_extractor
from tests.runtime.conftest import save_untrained


@pytest.fixture
def trained(make_stage, tmp_path: Path) -> tuple[Stage, dict[str, str]]:
    """A job, and the weights of its teacher and its baseline, which are random."""
    urls = {}
    for seed, mode in enumerate(("teacher", "baseline")):
        stage = make_stage(tmp_path / "run", mode=mode)
        urls[mode] = save_untrained(stage, tmp_path / mode, seed)
    return stage, urls


def job_file(trained: tuple[Stage, dict[str, str]], folder: Path) -> Path:
    """A job on videos that names both networks."""
    stage, urls = trained
    job = stage.job.model_dump(mode="json")
    job["model"]["backbone"]["weights"], job["teacher"] = urls["baseline"], {"url": urls["teacher"]}
    path = folder / "job.yaml"
    path.write_text(json.dumps(job))
    return path


def test_from_a_job_to_shards_of_features(trained, tmp_path: Path, capsys: pytest.CaptureFixture[str]):
    stage, urls = trained
    path, out = job_file(trained, tmp_path), tmp_path / "out"
    assert main(["data", "extract", str(path), str(out)]) == 0
    said = capsys.readouterr().out
    assert f"{out}/rgb: 13 computed, 0 left out" in said
    assert f"{out}/flow: 13 computed" in said
    (out / "rgb" / "train-00003.npy").unlink()
    (out / "rgb" / "extractor.json").unlink()  # as earlier versions left it
    first = (out / "rgb" / "train-00000.npy").stat().st_mtime_ns
    assert main(["data", "extract", str(path), str(out)]) == 0
    said = capsys.readouterr().out
    assert f"{out}/rgb: 1 computed" in said
    assert (out / "rgb" / "train-00000.npy").stat().st_mtime_ns == first
    command = said.split("next", 1)[1].split()
    assert command[:3] == ["tadscale", "data", "features"]
    assert main([str(tmp_path / "shards") if word == "URL" else word for word in command[1:]]) == 0
    manifest, videos = read_manifest(str(tmp_path / "shards")), read_manifest(stage.job.data.url)
    assert manifest.features == FeatureRows(channels=16, stride=2, offset=0, video_fps=5)
    assert manifest.flow_channels == 16
    made_by = manifest.extractor
    assert made_by is not None and made_by.weights_url == urls["baseline"]
    assert made_by.weights_sha256 == read_spec(urls["baseline"]).weights_sha256
    assert (made_by.frames, made_by.height, made_by.width, made_by.resize) == (16, 32, 32, "stretch")
    assert not (out / "flow" / "extractor.json").exists()  # no flow is computed at use
    _makes_the_same(str(tmp_path / "shards"), manifest, videos)
    of = {row.key: row for row in videos.rows}
    for row in manifest.rows:
        assert row.frames == 15  # 6 s, 5 frames a second, every second one
        assert (row.labels, row.subset, row.duration_s) == (
            of[row.key].labels,
            of[row.key].subset,
            of[row.key].duration_s,
        )
        assert np.allclose(row.segments_s, of[row.key].segments_s)


def _makes_the_same(url: str, manifest: Manifest, videos: Manifest) -> None:
    """From what lies beside the shards, row by row."""
    assert manifest.extractor is not None
    extractor = load_extractor(url, manifest.extractor)
    stored, video = manifest.row(4), videos.row(videos.column("key").tolist().index(manifest.row(4).key))
    rows = np.stack(list(extractor.stream(read_video(video), video.duration_s)))
    np.testing.assert_array_equal(parse_rows(read_video(stored)), rows)


def test_one_command_extracts_and_packs_and_goes_on(trained, tmp_path: Path, capsys: pytest.CaptureFixture[str]):
    stage, _ = trained
    path, shards = job_file(trained, tmp_path), tmp_path / "shards"
    command = ["data", "features", str(path), str(shards)]
    assert main([*command, "--set", "data.quarantine_budget=0.0"]) == 0
    said = capsys.readouterr().out
    assert f"{shards}/extracted/rgb: 13 computed" in said
    assert "features: {channels: 16, stride: 2" in said.replace("data.window.features='", "features: ")
    assert f"flow_url: {shards}, feature_channels: 16" in said
    first = read_manifest(str(shards))
    assert first.extractor is not None
    (shards / "manifest.parquet").unlink()  # as it was interrupted, while shards were written
    (shards / "extracted" / "rgb" / "train-00003.npy").unlink()
    assert main(command) == 0
    assert f"{shards}/extracted/rgb: 1 computed" in capsys.readouterr().out
    assert read_manifest(str(shards)).digest == first.digest
    other = save_untrained(stage, tmp_path / "other", 9)
    assert main([*command, "--set", f"model.backbone.weights={other}"]) == 1
    assert "write to another folder" in " ".join(capsys.readouterr().err.split())
    assert read_manifest(str(shards)).digest == first.digest


def test_shards_of_something_else_are_not_replaced_by_features(
    trained, tmp_path: Path, capsys: pytest.CaptureFixture[str]
):
    stage, urls = trained
    job = stage.job.model_dump(mode="json")
    job["model"]["backbone"]["weights"] = urls["baseline"]
    path, shards = tmp_path / "job.yaml", tmp_path / "shards"
    path.write_text(json.dumps(job))
    for changes, says in (
        ([stage.job.data.url, "--overwrite"], "holds the videos: write their features to another folder"),
        ([str(shards)], "already holds shards"),
        ([str(shards), "--stride", "4"], "--stride is said of files"),
    ):
        shards.mkdir(exist_ok=True)
        (shards / "shard-000000.tar").write_bytes(b"")
        assert main(["data", "features", str(path), *changes]) == 1
        assert says in " ".join(capsys.readouterr().err.split())
    assert [one.name for one in shards.iterdir()] == ["shard-000000.tar"]
    assert main(["data", "features", str(tmp_path), str(tmp_path / "annotations.json")]) == 1
    assert "is a folder: name its annotations and the shards' URL" in " ".join(capsys.readouterr().err.split())


def test_features_of_two_backbones_are_not_mixed(trained, tmp_path: Path, capsys: pytest.CaptureFixture[str]):
    stage, urls = trained
    job = stage.job.model_dump(mode="json")
    path = tmp_path / "job.yaml"
    path.write_text(json.dumps(job))
    out, other = tmp_path / "out", save_untrained(stage, tmp_path / "other", 9)
    assert main(["data", "extract", str(path), str(out), "--set", f"model.backbone.weights={urls['baseline']}"]) == 0
    assert main(["data", "extract", str(path), str(out), "--set", f"model.backbone.weights={other}"]) == 1
    assert "write to another folder" in " ".join(capsys.readouterr().err.split())


def test_what_cannot_make_features_is_refused(trained):
    stage, urls = trained
    with pytest.raises(ValueError, match=r"name its weights in model\.backbone\.weights"):
        extractors(stage.job)
    backbone = stage.job.model.backbone.model_copy(update={"weights": urls["baseline"]})
    job = stage.job.model_copy(update={"model": stage.job.model.model_copy(update={"backbone": backbone})})
    rgb = job.model_copy(update={"teacher": job.teacher.model_copy(update={"url": urls["baseline"]})})
    with pytest.raises(ValueError, match=r"reads RGB at"):
        extractors(rgb)
    other = job.motion.model_copy(update={"name": "temporal_gradient_slow"})
    taught = job.model_copy(
        update={"motion": other, "teacher": job.teacher.model_copy(update={"url": urls["teacher"]})}
    )
    with pytest.raises(ValueError, match="use its motion and data"):
        extractors(taught)
