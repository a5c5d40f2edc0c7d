"""The loaders that are compared hand out the same windows."""

import argparse
import subprocess
import sys

import numpy as np

from benchmarks import pipeline
from tadscale.data.manifest import read_manifest
from tadscale.data.windows import load_window, read_video
from tadscale.runtime.jobs.job_file import load_job


def small_job(folder):
    window = "data.window={frames: 40, stride_frames: 40, fps: 10, height: 32, width: 32}"
    sprites = "data.sprites={size: 32, duration_s: 4, fps: 10}"
    return load_job("jobs/distill.yaml", [window, sprites, f"storage={folder}/runs", "optim.epochs=2"])


def test_every_loader_has_all_windows_and_decodes_the_same_pictures(tmp_path):
    job = small_job(tmp_path)
    place = pipeline.Place("local", str(tmp_path / "shards"), None)
    pipeline.draw(job, 4, place.url)
    stage = pipeline.stage_at(job, place, "baseline", "loaders")
    assert pipeline.bare(place, 2) == pipeline.fetched(stage) == pipeline.embedded(stage) == 8
    row = read_manifest(place.url).row(0)
    assert np.array_equal(pipeline.decode(read_video(row)), load_window(row, 0, 40, job.data.window).frames)


def test_the_time_of_processes_that_are_gone_counts():
    burn = "import time\nwhile time.process_time() < 1.0: pass"

    def load() -> int:
        subprocess.run([sys.executable, "-c", burn], check=True)
        return 1

    with pipeline.Meter(None).looking() as meter:
        assert 0.5 < meter.of(load).cpu_s < 2.0


def test_memory_that_grew_meanwhile_is_seen():
    meter = pipeline.Meter(None)
    meter.now()
    held = np.ones(8 << 20, np.int64)  # 64 MiB
    meter.now()
    del held
    meter.now()
    assert 60 < meter.grown_mib < 100


def test_the_table_leaves_out_what_would_begin_too_late_and_compares_within_a_place():
    place = pipeline.Place("local", "", None)
    todo = [
        (place, "plain", "plain", lambda meter: pipeline.Cost(10, 1.0, 0.5)),
        (place, "other", "plain", lambda meter: pipeline.Cost(10, 0.5, 1.0)),
    ]
    options = argparse.Namespace(only=None, budget_s=100.0)
    assert list(pipeline.rows(iter(todo), options))[2:] == [
        ("local", "plain", "10.0", "50", "0", "plain", "1.00", "1.00"),
        ("local", "other", "20.0", "100", "0", "plain", "2.00", "2.00"),
    ]
    late = argparse.Namespace(only=["other"], budget_s=-1.0)
    assert [row[1:3] for row in pipeline.rows(iter(todo), late)][2:] == [("other", "left out after -1 s")]
