"""Ticks on a real registry, with trainings that take no time: what each does, leaves, and does not do again."""

import json
import subprocess
import sys
from contextlib import suppress
from pathlib import Path
from typing import Any

import pytest

from tadscale.cli import main
from tadscale.errors import UserError
from tadscale.runtime.models.data_profile import read_profile
from tadscale.runtime.models.registry import Registry
from tadscale.runtime.retrain.run_retrain import would_train
from tadscale.runtime.retrain.spec import load_retrain
from tadscale.runtime.tracking.client import make_client
from tadscale.runtime.tracking.patience import TrackingRefused
from tests.runtime.retrain.conftest import NAME, draw

pytestmark = pytest.mark.timeout(900)
# Run in a process of its own: whether Ray is imported can be told there alone.
WITHOUT_RAY = """
import sys
from tadscale.cli import main
code = main(sys.argv[1:])
sys.exit(code or 3 * bool({"ray", "deepspeed"} & set(sys.modules)))
"""


def test_new_data_train_no_new_data_do_not_and_a_killed_tick_ends_as_one(
    tick, trained, registry, retrain_file, storage, tmp_path, capsys
):
    draw(tmp_path / "videos", train=6)
    first = tick()
    assert (first.state, first.decision.reasons) == ("finished", ("there is no champion yet",))
    assert first.outcome.is_champion and first.outcome.version == 1
    assert trained.ran[0].name == first.derivation.run and trained.ran[0].gate is not None
    assert trained.ran[0].model.backbone.weights is None and trained.ran[0].teacher.url is None
    assert first.seconds["decomposed"] == 3.5

    # Nothing is new.
    answer = tmp_path / "answer"
    for command in (["run", retrain_file], ["plan", retrain_file, "--answer", answer]):
        done = subprocess.run(
            [sys.executable, "-c", WITHOUT_RAY, *map(str, command)], capture_output=True, text=True, timeout=250
        )
        assert done.returncode == 0, done.stderr
        assert "nothing to do: no training video is new (6 known, 0 gone)" in done.stdout
    assert answer.read_text() == "nothing to do\n"
    assert len(trained.ran) == 1

    # Too little is new.
    draw(tmp_path / "videos", train=9)
    idle = tick()
    assert idle.state == "idle" and idle.decision.new_videos == 3
    assert json.loads((storage / idle.derivation.run / "retrain.json").read_text())["state"] == "idle"

    # Enough is new; killed before there is a version, and before the gate.
    draw(tmp_path / "videos", train=12, test=4)
    for point in ("before registration", "before the gate"):
        trained.dies = point
        with pytest.raises(KeyboardInterrupt):
            tick()
    trained.dies = ""
    last = tick()
    assert "going on with" in capsys.readouterr().out
    assert len({job.name for job in trained.ran[1:]}) == 1 and len(trained.ran) == 4
    assert [job.model_dump() for job in trained.ran[1:]] == [trained.ran[1].model_dump()] * 3
    assert trained.ran[1].model.backbone.weights == "models:/tiny/1"
    assert trained.ran[1].teacher.url == f"{storage}/{first.derivation.run}/teacher/weights"
    assert (last.state, last.outcome.version, last.outcome.is_champion) == ("finished", 2, False)
    assert last.decision.new_videos == 6
    assert [version.version for version in registry.list_versions(NAME)] == [2, 1]
    profile = read_profile(registry, registry.version(NAME, 2))
    assert profile is not None and profile.videos == 12 and len(profile.test_digests) == 4

    # It was refused: that is no reason to train the same again.
    again = tick()
    assert again.state == "idle" and "no training video is new (12 known" in again.decision.reasons[0]
    paragraph = (storage / last.derivation.run / "retrain.md").read_text()
    assert "Version 2 stays challenger." in paragraph and "Backbone: version 1's." in paragraph
    assert trained.tags[1]["tadscale.retrain.champion"] == "1"
    runs = registry._client.search_runs(["1"], filter_string=f"tags.`tadscale.job` = '{last.derivation.run}'")
    assert [run.info.status for run in runs] == ["FINISHED"]
    artifacts = {entry.path for entry in registry._client.list_artifacts(runs[0].info.run_id)}
    assert {"data_profile.json", "retrain.json", "retrain.md"} <= artifacts


def test_a_tick_that_died_after_the_gate_is_ended_and_not_repeated(tick, trained, registry, storage, tmp_path):
    draw(tmp_path / "videos", train=6)
    trained.dies = "after the gate"
    with pytest.raises(KeyboardInterrupt):
        tick()
    trained.dies = ""
    ended = tick()
    assert (ended.state, ended.outcome.version, ended.outcome.is_champion) == ("finished", 1, True)
    assert len(registry.list_versions(NAME)) == 1
    assert tick().state == "idle" and len(trained.ran) == 2


@pytest.mark.parametrize("killed", ["", "after the gate"])
def test_a_champion_that_was_rolled_back_stays_so(killed, tick, trained, registry, retrain_file, storage, tmp_path):
    draw(tmp_path / "videos", train=6)
    tick()
    draw(tmp_path / "videos", train=12)
    trained.wins, trained.dies = True, killed
    with suppress(KeyboardInterrupt):
        tick()
    trained.dies = ""
    assert registry.version(NAME, "champion").version == 2
    registry.rollback(NAME)

    assert not would_train(*load_retrain(retrain_file, [])).retrain
    idle = tick()
    assert idle.state == "idle" and "no training video is new (12 known" in idle.decision.reasons[0]
    assert registry.version(NAME, "champion").version == 1 and len(trained.ran) == 2

    # Without its version its videos would be new; its run has been before the gate all the same.
    registry._client.delete_model_version(NAME, "2")
    if not killed:
        again = tick()
        assert (
            again.state == "idle"
            and "trained already, as version 2, and held against version 1" in again.decision.reasons[0]
        )
        assert not would_train(*load_retrain(retrain_file, [])).retrain
        record = json.loads((storage / again.derivation.run / "retrain.json").read_text())
        assert record["state"] == "finished" and record["outcome"]["version"] == 2

    # Other videos are another run, from the champion.
    draw(tmp_path / "videos", train=12, test=4)
    last = tick()
    assert (last.state, last.derivation.champion, last.outcome.is_champion) == ("finished", 1, True)
    assert trained.ran[-1].model.backbone.weights == "models:/tiny/1" and len(trained.ran) == 3


def kill_before_the_gate(tick, trained, folder):
    """A first champion, and a second version that is registered and held against nobody yet."""
    draw(folder / "videos", train=6)
    tick()
    draw(folder / "videos", train=12)
    trained.dies = "before the gate"
    with pytest.raises(KeyboardInterrupt):
        tick()


def test_the_record_names_who_was_held_against_where_another_became_champion_meanwhile(
    tick, trained, registry, storage, tmp_path
):
    kill_before_the_gate(tick, trained, tmp_path)
    first = registry._client.get_model_version(NAME, "1")
    registry._client.create_model_version(NAME, source=first.source, run_id=first.run_id)
    registry.promote(NAME, 3)
    trained.dies, trained.against = "", 3
    ended = tick()
    assert (ended.derivation.champion, ended.outcome.version, ended.outcome.against) == (1, 2, 3)
    assert "It was held against version 3" in (storage / ended.derivation.run / "retrain.md").read_text()

    registry.rollback(NAME)
    for version in ("2", "3"):
        registry._client.delete_model_version(NAME, version)
    assert "trained already, as version 2, and held against version 3" in tick().decision.reasons[0]


def test_a_version_that_was_killed_before_it_became_challenger_is_held_against_the_champion(
    tick, trained, registry, tmp_path
):
    kill_before_the_gate(tick, trained, tmp_path)
    registry._client.delete_registered_model_alias(NAME, "challenger")
    trained.dies, trained.wins = "", True
    ended = tick()
    assert (ended.state, ended.outcome.version, ended.outcome.is_champion) == ("finished", 2, True)


def test_a_killed_training_of_another_file_is_given_up(tick, trained, registry, storage, tmp_path):
    draw(tmp_path / "videos", train=6)
    trained.dies = "before the gate"
    with pytest.raises(KeyboardInterrupt):
        tick()
    begun = trained.ran[0].name
    assert tick("settings.optim.lr=0.5").state == "idle"  # version 1 reigns: nobody was there before it
    assert json.loads((storage / begun / "retrain.json").read_text())["state"] == "abandoned"


@pytest.mark.parametrize("version", [1, 2])
def test_a_version_whose_run_was_deleted_for_good_ends_no_retraining(version, tick, trained, registry, tmp_path):
    """The champion's, or that of a challenger which the gate refused."""
    draw(tmp_path / "videos", train=18)
    tick()
    draw(tmp_path / "videos", train=23)
    tick()
    store = registry._client._tracking_client.store
    store._hard_delete_run(registry.version(NAME, version).run_id)  # what `mlflow gc` does
    draw(tmp_path / "videos", train=28)
    ended = tick()
    assert ended.state == "finished" and ended.outcome.version == 3
    teacher = ended.derivation.teacher_says
    assert (
        teacher.startswith("trained anew: the champion's run is gone") if version == 1 else teacher == "the champion's"
    )


def test_a_champion_that_was_deleted_ends_the_tick_before_anything_is_trained(
    tick, trained, registry, retrain_file, tmp_path
):
    draw(tmp_path / "videos", train=6)
    tick()
    draw(tmp_path / "videos", train=12)
    trained.wins = True
    tick()
    registry._client.delete_model_version(NAME, "2")
    for ask in (tick, lambda: would_train(*load_retrain(retrain_file, []))):
        with pytest.raises(UserError, match=r"version 2, which reigned, is gone.*registry rollback tiny"):
            ask()
    registry.rollback(NAME)
    assert tick().derivation.champion == 1 and len(trained.ran) == 2


def test_a_store_that_refuses_is_not_one_without_a_champion(trained, retrain_file, monkeypatch, tmp_path):
    def refuse(self: Registry, name: str) -> None:
        raise TrackingRefused("who asks?")

    draw(tmp_path / "videos", train=6)
    monkeypatch.setattr(Registry, "_model", refuse)
    with pytest.raises(TrackingRefused):
        would_train(*load_retrain(retrain_file, []))


def test_other_classes_than_the_champion_s_are_told_before_anything_is_trained(tick, trained, tmp_path, monkeypatch):
    draw(tmp_path / "videos", train=6)
    tick()
    from tadscale.data import sprites

    monkeypatch.setattr(sprites, "label_of", lambda config, motion, appearance: f"{motion} in {appearance}")
    draw(tmp_path / "videos", train=12)
    with pytest.raises(UserError, match="other classes than tiny version 1"):
        tick()
    assert len(trained.ran) == 1


def test_the_record_lies_in_the_run_s_folder_from_the_start(tick, trained, storage, tmp_path):
    draw(tmp_path / "videos", train=6)
    trained.dies = "before registration"
    with pytest.raises(KeyboardInterrupt):
        tick()
    [folder] = [path for path in Path(storage).iterdir() if path.name.startswith("again-")]
    record = json.loads((folder / "retrain.json").read_text())
    assert record["state"] == "training" and record["derivation"]["run"] == folder.name
    assert "was killed: the next tick goes on" in (folder / "retrain.md").read_text()


def test_a_plan_says_what_a_tick_would_do_and_does_nothing(trained, retrain_file, storage, tmp_path, capsys):
    draw(tmp_path / "videos", train=6)
    answer = tmp_path / "answer"
    assert main(["plan", str(retrain_file), "--answer", str(answer)]) == 0
    assert capsys.readouterr().out == "train: there is no champion yet\n"
    assert answer.read_text() == "train\n"
    assert not trained.ran and not list(storage.glob("again-*"))


def test_who_asks_by_schedule_waits_for_mlflow_and_who_asks_by_hand_does_not(
    trained, retrain_file, tmp_path, monkeypatch, capsys
):
    from mlflow.exceptions import MlflowException

    class Moved:
        """Away for two calls, as a server whose pod is on its way to another node."""

        def __init__(self, uri: str) -> None:
            self.client, self.away = make_client(uri), 2

        def __getattr__(self, name: str) -> Any:
            def call(*arguments: Any, **more: Any) -> Any:
                self.away -= 1
                if self.away >= 0:
                    raise MlflowException("API request failed with exception: Connection refused")
                return getattr(self.client, name)(*arguments, **more)

            return call

    draw(tmp_path / "videos", train=6)
    monkeypatch.setattr("tadscale.runtime.tracking.patience.RETRY_S", 0.01)
    monkeypatch.setattr("tadscale.runtime.models.registry.make_client", Moved)
    assert main(["plan", str(retrain_file)]) == 1
    assert "does not answer" in capsys.readouterr().err
    answer = tmp_path / "answer"
    assert main(["plan", str(retrain_file), "--answer", str(answer)]) == 0
    assert answer.read_text() == "train\n"


def test_a_plan_finds_a_training_that_was_killed_and_leaves_it_as_it_is(tick, trained, retrain_file, storage, tmp_path):
    draw(tmp_path / "videos", train=6)
    trained.dies = "before the gate"
    with pytest.raises(KeyboardInterrupt):
        tick()
    decision = would_train(*load_retrain(retrain_file, []))
    assert decision.retrain and decision.reasons == (f"{trained.ran[0].name} was killed before its end",)
    assert not would_train(*load_retrain(retrain_file, ["settings.optim.lr=0.5"])).retrain
    assert would_train(*load_retrain(retrain_file, [])).retrain  # a tick of other settings would have given it up
    assert len(trained.ran) == 1
