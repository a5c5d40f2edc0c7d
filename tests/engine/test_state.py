"""Training state as files."""

import json

import pytest
import torch

from tadscale.engine.engine import Diverged, TrainState
from tadscale.engine.state import CorruptState, load_state, read_meta, save_state


@pytest.fixture
def state() -> TrainState:
    generator = torch.Generator().manual_seed(0)
    names = [f"{group}/layer.{i}" for group in ("model", "exp_avg", "exp_avg_sq", "ema") for i in range(3)]
    tensors = {name: torch.randn(3, 4, generator=generator) for name in names}
    tensors["model/steps"] = torch.tensor(7)
    return TrainState(step=12, tensors=tensors)


def test_a_state_comes_back_bit_for_bit(state, tmp_path):
    meta = {"plan_digest": "abc", "seconds": {"train_s": 1.5}}
    save_state(str(tmp_path / "s"), state, meta)
    loaded, found = load_state(str(tmp_path / "s"))
    assert loaded.step == 12
    assert found == meta == read_meta(str(tmp_path / "s"))
    assert loaded.tensors.keys() == state.tensors.keys()
    for name, value in state.tensors.items():
        assert loaded.tensors[name].dtype == value.dtype
        assert torch.equal(loaded.tensors[name], value)


def test_views_and_transposed_tensors_are_written_as_they_read(tmp_path):
    base = torch.arange(12.0).reshape(3, 4)
    save_state(str(tmp_path), TrainState(step=0, tensors={"model/a": base.T, "model/b": base[1]}), {})
    tensors = load_state(str(tmp_path))[0].tensors
    assert torch.equal(tensors["model/a"], base.T)
    assert torch.equal(tensors["model/b"], base[1])


def test_one_group_can_be_read_alone(state, tmp_path):
    save_state(str(tmp_path), state, {})
    (tmp_path / "exp_avg.safetensors").unlink()
    loaded, _ = load_state(str(tmp_path), groups=["ema"])
    assert set(loaded.tensors) == {name for name in state.tensors if name.startswith("ema/")}


@pytest.mark.parametrize("name", ["model.safetensors", "exp_avg_sq.safetensors", "meta.json", "COMPLETE"])
def test_one_changed_byte_anywhere_is_noticed(name, state, tmp_path):
    save_state(str(tmp_path), state, {})
    path = tmp_path / name
    data = bytearray(path.read_bytes())
    data[len(data) // 2] ^= 1
    path.write_bytes(data)
    with pytest.raises(CorruptState, match="damaged"):
        load_state(str(tmp_path))


@pytest.mark.parametrize("name", ["ema.safetensors", "meta.json", "COMPLETE"])
def test_a_missing_file_is_noticed(name, state, tmp_path):
    save_state(str(tmp_path), state, {})
    (tmp_path / name).unlink()
    with pytest.raises(CorruptState, match=r"never completed|deleted"):
        load_state(str(tmp_path))


def test_the_marker_is_written_last(state, tmp_path, monkeypatch):
    written = []
    monkeypatch.setattr("tadscale.engine.state.write_bytes", lambda url, data: written.append(url.rsplit("/", 1)[-1]))
    save_state(str(tmp_path), state, {})
    assert written[-2:] == ["meta.json", "COMPLETE"]
    assert len(written) == 6


def test_a_format_of_another_version_is_refused_by_name(state, tmp_path):
    save_state(str(tmp_path), state, {})
    document = json.loads((tmp_path / "meta.json").read_text())
    text = json.dumps(document | {"format": 99}).encode()
    (tmp_path / "meta.json").write_bytes(text)
    import hashlib

    (tmp_path / "COMPLETE").write_text(hashlib.sha256(text).hexdigest())
    with pytest.raises(ValueError, match="format 99"):
        load_state(str(tmp_path))


@pytest.mark.parametrize("group", ["model", "exp_avg", "exp_avg_sq", "ema"])
@pytest.mark.parametrize("number", [float("nan"), float("inf")])
def test_a_state_that_diverged_is_not_written(group, number, state, tmp_path):
    state.tensors[f"{group}/layer.1"][2, 3] = number
    with pytest.raises(Diverged, match=rf"step 12: 1 of 13 tensors are not finite \({group}/layer.1\)"):
        save_state(str(tmp_path / "s"), state, {})
    assert not (tmp_path / "s").exists()
