"""The DeepSpeed engine against `LocalEngine`, on two real gloo ranks."""

from pathlib import Path

import pytest
import torch

from tadscale.engine.engine import LocalEngine, TrainState
from tadscale.engine.state import load_state, save_state
from tadscale.runtime.cluster.deepspeed_preset import check_preset
from tests.runtime.training import engine_process as process
from tests.runtime.training.two_ranks import run_two_ranks

EXACT = [name for name in process.PRESETS if name != "bfloat16"]
TOLERANCE = 1e-5  # relative: gradients are summed in another order on two ranks than on one


@pytest.fixture(scope="module")
def reference() -> tuple[list[float], TrainState, TrainState]:
    """Losses of one process, its state half way and at the end."""
    engine = LocalEngine(process.toy(), process.CONFIG)
    losses = process.run(engine, 0, process.HALF)
    half = engine.state(process.HALF)
    losses += process.run(engine, process.HALF, process.WHOLE)
    return losses, half, engine.state(process.WHOLE)


@pytest.fixture(scope="module")
def two_ranks(reference, tmp_path_factory) -> Path:
    folder = tmp_path_factory.mktemp("engine")
    save_state(str(folder / "local"), reference[1], {})
    run_two_ranks(process.__file__, folder)
    return folder


@pytest.mark.parametrize("preset", EXACT)
def test_two_ranks_train_as_one_process_does(preset, two_ranks, reference):
    losses, _, end = reference
    _, seen = load_state(str(two_ranks / f"half-{preset}"))
    assert seen["first"] + seen["on"] == pytest.approx(losses, rel=TOLERANCE)
    theirs, _ = load_state(str(two_ranks / f"end-{preset}"))
    assert theirs.tensors.keys() == end.tensors.keys()
    for name, value in end.tensors.items():
        torch.testing.assert_close(theirs.tensors[name], value, rtol=1e-4, atol=1e-7)


@pytest.mark.parametrize("preset", process.PRESETS)
def test_resuming_at_the_same_size_changes_no_bit(preset, two_ranks):
    _, seen = load_state(str(two_ranks / f"half-{preset}"))
    assert seen["again"] == seen["on"]
    assert seen["same_end"]


@pytest.mark.parametrize("preset", process.PRESETS)
def test_a_gradient_that_is_not_finite_on_one_rank_stops_all_before_the_optimiser(preset, two_ranks):
    assert load_state(str(two_ranks / f"half-{preset}"))[1]["refused"]


def test_one_process_refuses_it_likewise():
    assert process.refuses_what_is_not_finite(LocalEngine(process.toy(), process.CONFIG), 0, 1)


@pytest.mark.parametrize("preset", EXACT)
def test_a_state_of_two_ranks_continues_on_one(preset, two_ranks, reference):
    engine = LocalEngine(process.toy(), process.CONFIG)
    engine.load_state(load_state(str(two_ranks / f"half-{preset}"))[0])
    continued = process.run(engine, process.HALF, process.WHOLE)
    assert continued == pytest.approx(reference[0][2 * process.HALF :], rel=TOLERANCE)


@pytest.mark.parametrize("preset", EXACT)
def test_a_state_of_one_process_continues_on_two_ranks(preset, two_ranks, reference):
    _, seen = load_state(str(two_ranks / f"half-{preset}"))
    assert seen["grown"] == pytest.approx(reference[0][2 * process.HALF :], rel=TOLERANCE)


def test_bfloat16_stays_close_and_keeps_its_state_in_float32(two_ranks, reference):
    state, seen = load_state(str(two_ranks / "half-bfloat16"))
    assert seen["first"] + seen["on"] == pytest.approx(reference[0], rel=0.02)
    assert seen["first"] != pytest.approx(reference[0][: 2 * process.HALF], rel=TOLERANCE)
    assert {value.dtype for value in state.tensors.values() if value.is_floating_point()} == {torch.float32}


@pytest.mark.parametrize(
    ("preset", "words"),
    [
        ({"zero_optimization": {"stage": 3}}, "use stage 2"),
        ({"optimizer": {"type": "Adam"}}, "remove them from the preset"),
        ({"train_micro_batch_size_per_gpu": 4}, "remove them from the preset"),
    ],
)
def test_presets_that_cannot_be_honoured_are_refused(preset, words):
    with pytest.raises(ValueError, match=words):
        check_preset(preset)


def test_a_worker_imports_neither_tracking_nor_a_compiler(two_ranks):
    assert load_state(str(two_ranks / "half-zero1"))[1]["imported"] == []
