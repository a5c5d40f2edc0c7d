"""What the user is told when training fails."""

import inspect

from tadscale.runtime.training.launch import _causes, _Trainer

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


def test_the_handler_of_ray_train_that_is_left_out_is_the_one_that_it_calls():
    """It has no public name: another one, in a newer Ray, must not go unnoticed."""
    from ray.train.v2.api.data_parallel_trainer import DataParallelTrainer

    assert issubclass(_Trainer, DataParallelTrainer)
    assert "self._register_sigint_handler(" in inspect.getsource(DataParallelTrainer)
