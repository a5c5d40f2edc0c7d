"""Local paths as workers will see them."""

from tadscale.data.config import DataConfig
from tadscale.flow.motion import MotionConfig
from tadscale.flow.raft.config import RaftConfig
from tadscale.runtime.stage.job import JobConfig, TeacherConfig
from tadscale.runtime.stage.local_paths import with_absolute_paths


def test_local_paths_are_seen_from_the_folder_where_the_job_was_started(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    motion = MotionConfig(name="precomputed", flow_url="flow", raft=RaftConfig(weights="raft.pth"))
    data = DataConfig(url="s3://bucket/data")
    teacher = TeacherConfig(url="models:/teacher@champion")
    job = JobConfig(kind="distill", name="x", storage="runs", data=data, motion=motion, teacher=teacher)
    found = with_absolute_paths(job)
    assert (found.run_url, found.data.url) == (f"{tmp_path}/runs/x", "s3://bucket/data")
    assert (found.motion.flow_url, found.motion.raft.weights) == (f"{tmp_path}/flow", f"{tmp_path}/raft.pth")
    assert found.teacher.url == "models:/teacher@champion"
    assert with_absolute_paths(found) == found
