"""Which checkpoint is trusted, and which are kept."""

from pathlib import Path

import pytest
import torch

from tadscale.engine.engine import Diverged, TrainState
from tadscale.runtime.training.checkpoints import CheckpointStore


def state(step: int) -> TrainState:
    groups = ("model", "exp_avg", "exp_avg_sq", "ema")
    return TrainState(step=step, tensors={f"{group}/w": torch.full((2, 3), float(step)) for group in groups})


@pytest.fixture
def store(tmp_path) -> CheckpointStore:
    return filled(str(tmp_path))


def filled(url: str) -> CheckpointStore:
    """A store that has seen three checkpoints and keeps two."""
    store = CheckpointStore(f"{url}/checkpoints", keep=2)
    for step in (5, 10, 15):
        store.save(state(step), {"plan_digest": f"plan of {step}"})
    return store


def test_a_store_without_checkpoints_has_no_latest(tmp_path):
    store = CheckpointStore(str(tmp_path / "nothing"))
    assert store.steps() == []
    assert store.load_latest() is None
    assert store.latest_meta() is None


def test_the_newest_are_kept_and_the_newest_of_them_is_loaded(store):
    assert store.steps() == [15, 10]
    loaded, meta = store.load_latest()
    assert loaded.step == 15
    assert loaded.tensors["ema/w"].unique().tolist() == [15.0]
    assert meta == store.latest_meta() == {"plan_digest": "plan of 15"}


def test_an_unfinished_checkpoint_is_passed_over(store):
    Path(store.at(15), "COMPLETE").unlink()
    assert store.load_latest()[0].step == 10
    assert store.latest_meta() == {"plan_digest": "plan of 10"}


def test_a_damaged_checkpoint_is_passed_over_and_said_so(store, caplog):
    path = Path(store.at(15), "exp_avg.safetensors")
    path.write_bytes(path.read_bytes()[:-1])
    assert store.load_latest()[0].step == 10
    assert "step 15" in caplog.text
    assert "exp_avg.safetensors" in caplog.text


def test_saving_again_repairs_a_damaged_checkpoint(store):
    Path(store.at(15), "model.safetensors").write_bytes(b"")
    store.save(state(15), {})
    assert store.load_latest()[0].step == 15
    assert store.steps() == [15, 10]


def test_unfinished_checkpoints_are_not_counted_among_those_that_are_kept(store):
    """Two starts that died while they wrote used to push the last good checkpoint out."""
    for step in (16, 18):
        store.save(state(step), {})
        Path(store.at(step), "COMPLETE").unlink()
    assert store.load_latest()[0].step == 15
    store.save(state(20), {})
    assert store.steps() == [20, 15]
    Path(store.at(20), "COMPLETE").unlink()
    assert store.load_latest()[0].step == 15


def test_what_diverged_is_not_saved_and_costs_no_other_checkpoint(store):
    broken = state(20)
    broken.tensors["ema/w"][0, 0] = torch.nan
    with pytest.raises(Diverged):
        store.save(broken, {})
    assert store.steps() == [15, 10]
    assert store.load_latest()[0].step == 15


def test_after_two_divergences_the_checkpoint_before_is_tried(store, caplog):
    store.note_divergence(0)  # training from the beginning has no checkpoint to doubt
    store.note_divergence(15)
    assert store.load_latest()[0].step == 15  # it may have been the hardware
    store.note_divergence(15)
    assert store.load_latest()[0].step == 10
    assert "diverged twice from checkpoint(s) [15]" in caplog.text
    store.save(state(15), {})  # the same step by another way
    assert store.load_latest()[0].step == 15


def test_where_training_diverged_from_all_the_oldest_is_tried(store):
    for step in (10, 15) * 2:
        store.note_divergence(step)
    assert store.load_latest()[0].step == 10


def test_other_folders_are_left_alone(store):
    Path(store.url, "notes").mkdir()
    Path(store.url, "step-abc").mkdir()
    store.save(state(20), {})
    assert store.steps() == [20, 15]
    assert Path(store.url, "notes").is_dir()


def test_object_storage_serves_as_well(s3_url):
    from tadscale.data.storage import write_bytes

    store = filled(s3_url)
    assert store.steps() == [15, 10]
    assert store.load_latest()[0].step == 15
    write_bytes(f"{store.at(15)}/ema.safetensors", b"damaged")
    assert store.load_latest()[0].step == 10
    store.save(state(20), {})
    assert store.steps() == [20, 15]
