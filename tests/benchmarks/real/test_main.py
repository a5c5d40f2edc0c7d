"""The command: from the data's folder to shards."""

import json

import pytest

from benchmarks.real.__main__ import main
from tadscale.data.lint import lint
from tadscale.data.pack import pack
from tadscale.runtime.jobs.job_file import load_job

SIZES = {
    "ball": ["--train", "1", "--shortest-s", "5", "--longest-s", "6"],
    "mocap": ["--train", "2", "--validation", "1", "--test", "1", "--size", "32", "--duration-s", "12"],
    "mocap-scene": ["--train", "2", "--validation", "0", "--test", "1", "--size", "32", "--static-bias", "0.5"],
}


@pytest.mark.parametrize("kind", list(SIZES))
def test_what_is_made_can_be_packed(made_data, tmp_path, kind, capsys):
    out = tmp_path / "out"
    main([kind, "--data", str(made_data), "--out", str(out), *SIZES[kind]])
    made = json.loads((out / "annotations.json").read_text())["database"]
    assert "minutes of action" in capsys.readouterr().out
    manifest = pack(str(out / "videos"), str(out / "annotations.json"), str(tmp_path / "shards")).manifest
    assert len(manifest) == len(made)
    assert lint(str(tmp_path / "shards"), decode_all=True).ok
    with pytest.raises(SystemExit):
        main([kind, "--data", str(made_data), "--out", str(out), *SIZES[kind]])


@pytest.mark.parametrize("kind", list(SIZES))
def test_the_job_file_of_each_kind_holds(kind):
    assert load_job(f"benchmarks/real/{kind}.yaml").data.sprites is None


def test_a_setting_out_of_range_is_refused(made_data, tmp_path, capsys):
    with pytest.raises(SystemExit):
        main(["mocap", "--data", str(made_data), "--out", str(tmp_path), "--static-bias", "2"])
    assert "static_bias" in capsys.readouterr().err
