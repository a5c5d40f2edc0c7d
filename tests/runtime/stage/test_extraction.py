"""A job's backbones make files of features, which become shards."""

import json
from pathlib import Path

import numpy as np
import pytest

from tadscale.cli import main
from tadscale.data.features import FeatureRows
from tadscale.data.manifest import read_manifest
from tadscale.runtime.stage.extraction import extractors
from tadscale.runtime.stage.spec import Stage
from tests.runtime.conftest import save_untrained


@pytest.fixture
def trained(make_stage, tmp_path: Path) -> tuple[Stage, dict[str, str]]:
    """A job, and the weights of its teacher and its baseline, which are random."""
    urls = {}
    for seed, mode in enumerate(("teacher", "baseline")):
        stage = make_stage(tmp_path / "run", mode=mode)
        urls[mode] = save_untrained(stage, tmp_path / mode, seed)
    return stage, urls


def test_from_a_job_to_shards_of_features(trained, tmp_path: Path, capsys: pytest.CaptureFixture[str]):
    stage, urls = trained
    job = stage.job.model_dump(mode="json")
    job["model"]["backbone"]["weights"], job["teacher"] = urls["baseline"], {"url": urls["teacher"]}
    path, out = tmp_path / "job.yaml", tmp_path / "out"
    path.write_text(json.dumps(job))
    assert main(["data", "extract", str(path), str(out)]) == 0
    said = capsys.readouterr().out
    assert f"{out}/rgb: 13 computed, 0 left out" in said
    assert f"{out}/flow: 13 computed" in said
    (out / "rgb" / "train-00003.npy").unlink()
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
    of = {row.key: row for row in videos.rows}
    for row in manifest.rows:
        assert row.frames == 15  # 6 s, 5 frames a second, every second one
        assert (row.labels, row.subset, row.duration_s) == (
            of[row.key].labels,
            of[row.key].subset,
            of[row.key].duration_s,
        )
        assert np.allclose(row.segments_s, of[row.key].segments_s)


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
