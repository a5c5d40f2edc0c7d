"""A stage takes what an equal one of another run has left, whole, or nothing."""

from collections.abc import Callable
from pathlib import Path

import pytest

from tadscale.data import storage
from tadscale.network import load_network
from tadscale.runtime.training import adopt as module
from tadscale.runtime.training.adopt import adopt
from tadscale.runtime.training.launch import train_stage
from tadscale.runtime.training.resume import finished_stage, note_identity
from tests.runtime.conftest import changed, finish


def selecting(stage):
    return changed(stage, evaluate=stage.job.evaluate.model_copy(update={"select": "validation"}))


def test_a_stage_that_took_what_an_equal_one_left_is_finished_and_not_trained(make_stage, tmp_path):
    trained, here = make_stage(tmp_path / "trained"), make_stage(tmp_path / "here")
    left = finish(trained)
    assert adopt(here, [make_stage(tmp_path / "nowhere"), trained]) == trained.url
    result = train_stage(here)  # starts no cluster
    assert result == left.model_copy(update={"url": here.url})
    assert load_network(result.weights_url)[1] == load_network(left.weights_url)[1]
    for ours, theirs in ((result.log_url, left.log_url), (result.quarantine_url, left.quarantine_url)):
        assert Path(ours).read_bytes() == Path(theirs).read_bytes()
    assert adopt(here, [trained]) is None


def test_what_an_equal_stage_s_folder_held_before_its_settings_changed_is_left(make_stage, tmp_path):
    finish(make_stage(tmp_path / "other", seed=0))
    other, here = make_stage(tmp_path / "other", seed=7), make_stage(tmp_path / "here", seed=7)
    assert adopt(here, [other]) is None
    finish(make_stage(tmp_path / "third", seed=7))
    assert adopt(here, [other, make_stage(tmp_path / "third", seed=7)])


def test_a_stage_that_was_begun_goes_on_by_itself(make_stage, tmp_path):
    trained, here = make_stage(tmp_path / "trained"), make_stage(tmp_path / "here")
    finish(trained)
    note_identity(here)
    assert adopt(here, [trained]) is None
    assert finished_stage(here.url) is None


def test_who_chooses_an_epoch_takes_from_one_that_kept_them(make_stage, tmp_path):
    here = selecting(make_stage(tmp_path / "here"))
    last, all_kept = make_stage(tmp_path / "last"), selecting(make_stage(tmp_path / "all"))
    finish(last)
    assert here.kept_epochs and adopt(here, [last]) is None
    finish(all_kept, kept_epochs=here.kept_epochs)
    assert adopt(here, [last, all_kept]) == all_kept.url
    for epoch in here.kept_epochs:
        load_network(here.epoch_url(epoch))


def test_a_copy_that_is_broken_off_begins_again(make_stage, tmp_path, monkeypatch):
    trained, here = make_stage(tmp_path / "trained"), make_stage(tmp_path / "here")
    finish(trained)
    written: list[str] = []
    monkeypatch.setattr(module, "write_bytes", lambda url, data: written.append(url))
    adopt(here, [trained])
    before_it_is_begun = [name.rsplit("/", 1)[1] for name in written].index("stage.json")
    assert before_it_is_begun == len(written) - 2  # the result alone comes after

    for count in range(before_it_is_begun + 1):
        monkeypatch.setattr(module, "write_bytes", writing(count))
        with pytest.raises(storage.StorageError):
            adopt(here, [trained])
        assert finished_stage(here.url) is None
    monkeypatch.setattr(module, "write_bytes", storage.write_bytes)
    assert adopt(here, [trained]) == trained.url


def writing(count: int) -> Callable[[str, bytes], None]:
    """So many times; then the storage is away."""
    left = iter(range(count))

    def write(url: str, data: bytes) -> None:
        if next(left, None) is None:
            raise storage.StorageError("away")
        storage.write_bytes(url, data)

    return write
