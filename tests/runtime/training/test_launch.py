"""What the user is told when training fails."""

from tadscale.flow.motion import MotionConfig
from tadscale.flow.raft.estimator import RaftConfig
from tadscale.runtime.stage.spec import StageSpec
from tadscale.runtime.training.launch import _causes, anchored

TRACEBACK = """\x1b[36mray::SplitCoordinator.get()\x1b[39m (pid=1, ip=192.0.2.2)
  File "storage.py", line 204, in with_retry
FileNotFoundError: [Errno 2] No such file or directory: '/data/shard-000000.tar'

The above exception was the direct cause of the following exception:

tadscale.data.storage.StorageError: /data/shard-000000.tar: no such file, folder or bucket. Check the URL.

The above exception was the direct cause of the following exception:

ray.exceptions.UserCodeException: UDF failed to process a data block.
Failed to apply UDF transform after 1/1 attempts (total backoff 0.0s)."""


class Failure(Exception):
    def __init__(self, *texts: str) -> None:
        super().__init__("all of it")
        self.worker_failures = {rank: RuntimeError(text) for rank, text in enumerate(texts)}


def test_the_project_s_own_error_is_preferred_to_what_caused_it_and_to_ray_s_wrapping():
    assert (
        _causes(Failure(TRACEBACK))
        == "StorageError: /data/shard-000000.tar: no such file, folder or bucket. Check the URL."
    )


def test_ranks_that_failed_alike_are_told_once():
    assert _causes(Failure("x\nValueError: bad", "y\nValueError: bad", "Killed by the kernel")) == (
        "ValueError: bad; Killed by the kernel"
    )


def test_local_paths_are_seen_from_the_driver_s_folder(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    motion = MotionConfig(name="precomputed", flow_url="flow", raft=RaftConfig(weights="raft.pth"))
    spec = anchored(StageSpec(mode="teacher", run_url="runs/x", data_url="s3://bucket/data", motion=motion))
    assert (spec.run_url, spec.data_url) == (f"{tmp_path}/runs/x", "s3://bucket/data")
    assert (spec.flow_url, spec.motion.raft.weights) == (f"{tmp_path}/flow", f"{tmp_path}/raft.pth")
    assert spec.teacher_url is None
    assert anchored(spec) == spec
