"""Students on two real gloo ranks: a share of ground truth's gradient is that of the global batch, however it is spread."""

import json
from typing import Any

import pytest

from tadscale.engine.engine import LocalEngine
from tests.runtime.training import student_process as process
from tests.runtime.training.two_ranks import run_two_ranks


@pytest.fixture(scope="module")
def seen(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Any]:
    folder = tmp_path_factory.mktemp("students")
    run_two_ranks(process.__file__, folder)
    return json.loads((folder / "seen.json").read_text())


def same(some: list[list[float]], others: list[list[float]]) -> None:
    for one, other in zip(some, others, strict=True):
        assert one == pytest.approx(other, rel=1e-4)


@pytest.fixture(scope="module")
def alone() -> dict[str, list[list[float]]]:
    return {name: process.run(LocalEngine(process.student(), process.CONFIG), name) for name in process.STUDENTS}


@pytest.mark.parametrize("preset", process.PRESETS)
@pytest.mark.parametrize("taught_by", process.STUDENTS)
def test_two_ranks_balance_as_one_process_does(taught_by: str, preset: str, seen, alone) -> None:
    """With a teacher of motion alone, the backbone reached at once or later, and with one of appearance beside it."""
    same(seen["lessons"][taught_by][preset], alone[taught_by])


def test_every_lesson_is_another(alone) -> None:
    losses = {taught_by: [loss for loss, _ in steps] for taught_by, steps in alone.items()}
    assert all(each[-1] != pytest.approx(each[0], rel=1e-2) for each in losses.values())
    assert losses["motion, in the backbone later"] != losses["motion"]
    assert all(one < other for one, other in zip(losses["motion"], losses["motion and appearance"], strict=True))


@pytest.mark.parametrize("head", process.OF_HEADS)
def test_two_ranks_train_every_head_as_one_process_does(head: str, seen) -> None:
    """DeepSpeed broadcasts, reduces and shards what a head is made of, whatever it is made of."""
    model = process.OF_HEADS[head]
    by_one = process.run(LocalEngine(process.student(model), process.CONFIG), model=model)
    same(seen["heads"][head], by_one)
    assert by_one[-1][0] != pytest.approx(by_one[0][0], rel=1e-3)
