"""Local paths as workers will see them."""

from tadscale.data.block_cache import CacheConfig
from tadscale.data.config import DataConfig
from tadscale.engine.steps import AppearanceTeacherConfig, StudentConfig
from tadscale.flow.motion import MotionConfig
from tadscale.flow.raft.config import RaftConfig
from tadscale.runtime.cluster.capacity import ClusterConfig
from tadscale.runtime.stage.job import JobConfig, TeacherConfig
from tadscale.runtime.stage.local_paths import uploaded_folder, with_absolute_paths
from tadscale.runtime.stage.teacher_cache import TeacherCacheConfig


def test_local_paths_are_seen_from_the_folder_where_the_job_was_started(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    motion = MotionConfig(name="precomputed", flow_url="flow", raft=RaftConfig(weights="raft.pth"))
    data = DataConfig(url="s3://bucket/data", cache=CacheConfig(path="cache", bytes=1 << 30))
    cluster = ClusterConfig(deepspeed_preset="zero2.json")
    teacher = TeacherConfig(url="models:/teacher@champion", cache=TeacherCacheConfig(url="taught", bytes=1 << 30))
    student = StudentConfig(appearance_teacher=AppearanceTeacherConfig(url="rgb"))
    job = JobConfig(
        kind="distill",
        name="x",
        storage="runs",
        data=data,
        motion=motion,
        teacher=teacher,
        student=student,
        cluster=cluster,
    )
    found = with_absolute_paths(job)
    assert (found.run_url, found.data.url) == (f"{tmp_path}/runs/x", "s3://bucket/data")
    assert found.data.cache == CacheConfig(path=f"{tmp_path}/cache", bytes=1 << 30)
    assert (found.motion.flow_url, found.motion.raft.weights) == (f"{tmp_path}/flow", f"{tmp_path}/raft.pth")
    assert found.teacher.url == "models:/teacher@champion"
    assert found.teacher.cache.url == f"{tmp_path}/taught"
    assert found.student.appearance_teacher.url == f"{tmp_path}/rgb"
    assert found.cluster.deepspeed_preset == f"{tmp_path}/zero2.json"
    assert with_absolute_paths(found) == found


def test_a_folder_that_was_uploaded_with_a_job_is_known_by_where_ray_lays_it(tmp_path):
    uploaded = tmp_path / "session" / "runtime_resources" / "working_dir_files" / "_ray_pkg_1"
    assert uploaded_folder(uploaded) == uploaded_folder(uploaded / "jobs") == uploaded
    assert uploaded_folder(tmp_path) is None
