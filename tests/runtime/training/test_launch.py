"""What the user is told when training fails."""

import inspect

import pytest
from ray.exceptions import RayError

from tadscale.data.storage import StorageError
from tadscale.engine.state import CorruptState
from tadscale.errors import UserError
from tadscale.runtime.training.launch import _causes, _Trainer
from tadscale.runtime.training.worker import final_error

TRACEBACK = """\x1b[36mray::SplitCoordinator.get()\x1b[39m (pid=1, ip=192.0.2.2)
  File "storage.py", line 204, in with_retry
FileNotFoundError: [Errno 2] No such file or directory: '/data/shard-000000.tar'

The above exception was the direct cause of the following exception:

tadscale.data.storage.StorageError: /data/shard-000000.tar: no such file, folder or bucket. Check the URL.

The above exception was the direct cause of the following exception:

ray.exceptions.UserCodeException: UDF failed to process a data block.
Failed to apply UDF transform after 1/1 attempts (total backoff 0.0s)."""


ACCOUNT = """Training failed due to worker errors:
[Rank 0 Error Snippet]:
Traceback (most recent call last):
  File "/code/tadscale/engine/loop.py", line 93, in train
    losses = step_function(engine.model, batch)
  File "/code/tadscale/models/heads/mine/objective.py", line 30, in loss
    return predictions["centre"]
KeyError: 'centre'"""


class Failure(Exception):
    def __init__(self, *errors: Exception, account: str = "all of it") -> None:
        super().__init__(account)
        self.worker_failures = dict(enumerate(errors))


def test_the_project_s_own_error_is_preferred_to_what_caused_it_and_to_ray_s_wrapping():
    assert (
        _causes(Failure(RuntimeError(TRACEBACK)))
        == "StorageError: /data/shard-000000.tar: no such file, folder or bucket. Check the URL."
    )


def test_ranks_that_failed_alike_are_told_once():
    killed = RayError("The worker died unexpectedly.\nKilled by the kernel")
    assert _causes(Failure(RuntimeError("x\nValueError: bad"), RuntimeError("y\nValueError: bad"), killed)) == (
        "ValueError: bad; Killed by the kernel"
    )


@pytest.mark.parametrize(
    ("error", "told"),
    [
        (KeyError("centre"), "KeyError: 'centre' (/code/tadscale/models/heads/mine/objective.py, line 30)"),
        (AssertionError(), "AssertionError (/code/tadscale/models/heads/mine/objective.py, line 30)"),
        (UserError("the data are bad.\nMend them"), "UserError: the data are bad.\nMend them"),
    ],
)
def test_what_a_rank_raised_has_its_class_and_unless_it_is_the_project_s_own_its_place(error, told):
    """It arrives as it was raised, its traceback apart in the account of all ranks."""
    assert _causes(Failure(error, account=ACCOUNT)) == told


@pytest.mark.parametrize(
    "error",
    [
        CorruptState("meta.json: its digest is not the one recorded"),  # one rank's read of what rank 0 found whole
        StorageError("s3://bucket: out of reach"),
        RuntimeError("Connection closed by peer"),
        RayError("The worker died unexpectedly"),
        MemoryError(),
    ],
)
def test_what_may_be_a_machine_s_fault_is_tried_again(error):
    assert final_error(error) is None


def test_the_handler_of_ray_train_that_is_left_out_is_the_one_that_it_calls():
    """It has no public name: another one, in a newer Ray, must not go unnoticed."""
    from ray.train.v2.api.data_parallel_trainer import DataParallelTrainer

    assert issubclass(_Trainer, DataParallelTrainer)
    assert "self._register_sigint_handler(" in inspect.getsource(DataParallelTrainer)
