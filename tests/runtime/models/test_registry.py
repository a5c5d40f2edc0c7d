import json
import shutil
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import nullcontext
from functools import partial
from itertools import pairwise
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import pytest

from tadscale.data.storage import StorageError
from tadscale.errors import UserError
from tadscale.runtime.models.champion_alias import ChampionChanged, ChampionGone
from tadscale.runtime.models.registry import ModelVersion, NotRegistered, Registry
from tadscale.runtime.models.succession import Succession
from tadscale.runtime.tracking.patience import NotAllowed
from tadscale.runtime.tracking.run import Run
from tadscale.runtime.tracking.track import TrackingConfig, track_job
from tadscale.serving import Predictor
from tests.runtime.tracking.mlflow_store import empty_database, new_storage, s3_storage, storage  # noqa: F401
from tests.runtime.tracking.user import User
from tests.serving.conftest import package, video  # noqa: F401

NAME = "tiny"


@pytest.fixture
def run(storage: Path) -> Iterator[Run]:  # noqa: F811
    with track_job(TrackingConfig(), job="distill", storage=str(storage), settings={}) as parent:
        yield parent


@pytest.fixture
def registry(run: Run) -> Registry:
    return Registry(run.tracking_uri)


@pytest.fixture
def small(package: Path, tmp_path: Path) -> Path:  # noqa: F811
    """As much of a package as the registry looks at; quick to copy."""
    folder = tmp_path / "small" / "artifacts" / "detector"
    folder.mkdir(parents=True)
    shutil.copy(package / "artifacts" / "detector" / "network.json", folder)
    return tmp_path / "small"


def register(registry: Registry, run: Run, folder: Path, average: float = 0.5, **more: Any) -> ModelVersion:
    tags = {"tadscale.job": "distill", "tadscale.manifest_digest": "abc"}
    return registry.register(run, NAME, folder, metrics={"average_mAP": average}, tags=tags, **more)


def register_three(registry: Registry, run: Run, folder: Path) -> None:
    for name in ("tvl1", "dis", "gradient"):
        register(registry, run, folder)
        change(folder, name)


def change(folder: Path, motion: str) -> None:
    """Make the package another detector's."""
    spec = folder / "artifacts" / "detector" / "network.json"
    spec.write_text(json.dumps(json.loads(spec.read_text()) | {"motion_fingerprint": motion}))


def aliases(registry: Registry) -> dict[int, tuple[str, ...]]:
    return {version.version: version.aliases for version in registry.list_versions(NAME)}


def test_the_first_version_is_champion_and_the_latest_challenger(registry: Registry, run: Run, small: Path) -> None:
    register_three(registry, run, small)
    first = registry.version(NAME, 1)
    assert (first.version, first.aliases, first.run_id) == (1, ("champion",), run.run_id)
    assert first.metrics == {"average_mAP": 0.5}
    assert first.tags.pop("tadscale.detector_sha256")
    assert first.tags == {"tadscale.job": "distill", "tadscale.manifest_digest": "abc"}
    assert aliases(registry) == {3: ("challenger",), 2: (), 1: ("champion",)}
    assert list(aliases(registry)) == [3, 2, 1]


def test_promote_and_rollback(registry: Registry, run: Run, small: Path) -> None:
    register_three(registry, run, small)
    assert registry.promote(NAME).version == 3  # the challenger
    assert aliases(registry) == {3: ("champion",), 2: (), 1: ()}
    assert registry.promote(NAME, 3).version == 3  # again: nothing changes
    assert registry.promote(NAME, 2).version == 2
    assert registry.rollback(NAME).version == 3
    assert registry.rollback(NAME).version == 1
    assert aliases(registry) == {3: (), 2: (), 1: ("champion",)}
    with pytest.raises(ValueError, match="has had no champion before this one"):
        registry.rollback(NAME)
    assert aliases(registry)[1] == ("champion",)


def test_rollback_passes_over_versions_that_were_deleted(registry: Registry, run: Run, small: Path) -> None:
    register_three(registry, run, small)
    registry.promote(NAME, 2)
    registry.promote(NAME, 3)
    run.client.delete_model_version(NAME, "2")
    assert registry.rollback(NAME).version == 1


def test_who_comes_after_a_champion_that_was_deleted_is_no_champion(registry: Registry, run: Run, small: Path) -> None:
    register_three(registry, run, small)
    registry.promote(NAME, 2)
    run.client.delete_model_version(NAME, "2")
    with pytest.raises(ChampionGone, match=r"version 2, which reigned, is gone\..*rollback tiny` makes version 1"):
        registry.version(NAME, "champion")
    assert register(registry, run, small).aliases == ("challenger",)
    assert registry.rollback(NAME).version == 1
    assert aliases(registry) == {4: ("challenger",), 3: (), 1: ("champion",)}


def test_where_all_who_reigned_were_deleted_a_person_names_the_next_champion(
    registry: Registry, run: Run, small: Path
) -> None:
    register_three(registry, run, small)
    run.client.delete_model_version(NAME, "1")
    with pytest.raises(ChampionGone, match=r"is gone\. `tadscale registry promote tiny VERSION`"):
        registry.version(NAME, "champion")
    assert register(registry, run, small).aliases == ("challenger",)
    assert registry.promote(NAME).aliases == ("champion",)


def test_where_every_version_was_deleted_the_next_is_the_first(registry: Registry, run: Run, small: Path) -> None:
    register(registry, run, small)
    run.client.delete_model_version(NAME, "1")
    with pytest.raises(UserError, match="no version or alias 'champion'") as refusal:
        registry.version(NAME, "champion")
    assert not isinstance(refusal.value, ChampionGone)
    assert register(registry, run, small).aliases == ("champion",)


def test_to_who_is_no_administrator_a_model_that_is_not_there_looks_like_another_s(
    registry: Registry, run: Run, small: Path
) -> None:
    register(registry, run, small)
    of_a_user = Registry(run.tracking_uri)
    of_a_user._client._client = User(of_a_user._client._client)
    with pytest.raises(NotRegistered, match=r"no model 'own' is registered at .*, or it is there and another user's"):
        of_a_user.version("own", "champion")
    made = of_a_user.register(run, "own", small, metrics={}, tags={})
    assert (made.version, made.aliases) == (1, ("champion",))
    with pytest.raises(NotAllowed, match="the model tiny is there already, and another user's"):
        register(of_a_user, run, small)


def test_what_is_not_there_is_named_with_what_is(registry: Registry, run: Run, small: Path) -> None:
    register(registry, run, small)
    for call in (registry.list_versions, registry.rollback, registry.promote, registry.record):
        with pytest.raises(ValueError, match=f"no model 'other' is registered at .*; registered are: {NAME}"):
            call("other")
    for selector in ("challenger", 7):
        with pytest.raises(ValueError, match=rf"no version or alias '{selector}'; its aliases: champion \(version 1\)"):
            registry.promote(NAME, selector)
    with pytest.raises(ValueError, match="no exported detector"):
        register(registry, run, small.parent)


def test_a_version_whose_artifacts_are_gone_says_so_in_one_line(registry: Registry, run: Run, small: Path) -> None:
    register(registry, run, small)
    shutil.rmtree(urlsplit(run.artifact_uri).path)
    gone = pytest.raises(StorageError, match=r"tiny version 1: its artifacts at .*Are they deleted")
    with gone as caught, registry.fetch(NAME):
        pytest.fail("nothing is there")
    assert "\n" not in str(caught.value)


def test_a_long_card_is_cut_and_says_so(registry: Registry, run: Run, small: Path) -> None:
    register(registry, run, small, card="# Card\n" + "x" * 6000)
    description = run.client.get_model_version(NAME, "1").description
    assert description.startswith("# Card\n") and len(description) == 5000 and "model_card.md" in description[-100:]


def load(model: str, uri: str) -> Any:
    import mlflow

    mlflow.set_tracking_uri(uri)  # as the consumer's environment variable would
    mlflow.set_registry_uri(uri)
    try:
        return mlflow.pyfunc.load_model(model)
    finally:
        mlflow.set_tracking_uri(None)
        mlflow.set_registry_uri(None)


def test_the_champion_is_the_same_from_a_folder_and_from_s3(
    registry: Registry,
    run: Run,
    package: Path,  # noqa: F811
    video: bytes,  # noqa: F811
    s3_storage: str,  # noqa: F811
    empty_database: Path,  # noqa: F811
    tmp_path: Path,
) -> None:
    register(registry, run, package, card="# Tiny")
    database = new_storage(empty_database, tmp_path / "other") / "mlflow.db"
    config = TrackingConfig(tracking_uri=f"sqlite:///{database}")
    with track_job(config, job="distill", storage=s3_storage, settings={"cluster": 1}) as on_s3:
        other = Registry(on_s3.tracking_uri)
        register(other, on_s3, package, card="# Tiny")
    assert on_s3.artifact_uri.startswith(s3_storage)

    record = registry.record(NAME)
    assert record == other.record(NAME)
    assert record["metrics"] == {"average_mAP": 0.5} and record["aliases"] == ["champion"]
    assert record["detector"]["classes"] == ["jump", "run"]
    assert json.loads(json.dumps(record)) == record
    assert str(tmp_path) not in json.dumps(record) and run.run_id not in json.dumps(record)

    expected = Predictor.from_directory(package, "cpu").predict([video]).detections
    for uri in (run.tracking_uri, on_s3.tracking_uri):
        table = load(f"models:/{NAME}@champion", uri).predict([video])
        assert table["score"].tolist() == [row.score for row in expected]


def test_another_model_has_another_record(registry: Registry, run: Run, package: Path, tmp_path: Path) -> None:  # noqa: F811
    changed = shutil.copytree(package, tmp_path / "changed")
    change(changed, "dis-test")
    register(registry, run, package)
    register(registry, run, changed)
    first, second = registry.record(NAME, 1), registry.record(NAME, 2)
    assert first["detector"]["motion_fingerprint"] == "tvl1-test"
    assert second["detector"]["motion_fingerprint"] == "dis-test"
    assert {name for name in first["files"] if first["files"][name] != second["files"][name]} == {
        "artifacts/detector/network.json"
    }


def test_a_continued_run_does_not_register_twice(registry: Registry, run: Run, small: Path) -> None:
    first = register(registry, run, small)
    assert register(registry, run, small) == first
    assert aliases(registry) == {1: ("champion",)}


def test_the_same_detector_from_a_rerun_is_no_new_version(registry: Registry, run: Run, small: Path) -> None:
    first = register(registry, run, small)
    settings = {"cluster": 2}
    with track_job(TrackingConfig(tracking_uri=run.tracking_uri), job="again", storage="x", settings=settings) as other:
        assert other.run_id != run.run_id
        assert register(Registry(run.tracking_uri), other, small) == first
    assert aliases(registry) == {1: ("champion",)}


def at_once(calls: list[Any]) -> list[Any]:
    with ThreadPoolExecutor(len(calls)) as pool:
        return [done.result() for done in [pool.submit(call) for call in calls]]


def test_first_registrations_at_once_give_one_champion_and_one_version_each(
    registry: Registry, run: Run, small: Path, tmp_path: Path
) -> None:
    folders = [shutil.copytree(small, tmp_path / name) for name in "ab"]
    change(folders[1], "dis")
    others = [Registry(run.tracking_uri) for _ in range(4)]
    at_once([partial(register, other, run, folder) for other, folder in zip(others, folders * 2, strict=True)])
    assert aliases(registry) == {1: ("champion",), 2: ("challenger",)}


def test_promotions_at_once_lose_no_reign_and_double_none(registry: Registry, run: Run, small: Path) -> None:
    for motion in range(5):
        change(small, str(motion))
        register(registry, run, small)
    others = [Registry(run.tracking_uri) for _ in range(8)]
    chosen = [2, 3, 4, 5] * 2
    at_once([partial(other.promote, NAME, version) for other, version in zip(others, chosen, strict=True)])
    model = run.client.get_registered_model(NAME)
    line = Succession.read(model.aliases, model.tags)
    reigned = [*line.former, line.champion]
    assert reigned[0] == 1 and set(reigned) == {1, 2, 3, 4, 5}
    assert all(one != other for one, other in pairwise(reigned))
    at_once([partial(other.rollback, NAME) for other in others[: len(line.former)]])
    assert aliases(registry)[1] == ("champion",)  # as many steps back as there were forward


@pytest.fixture
def server(monkeypatch: pytest.MonkeyPatch) -> None:
    """A store that has no lock to give, as a server has none."""
    monkeypatch.setattr("tadscale.runtime.models.registry.exclusive", lambda *_: nullcontext())


@pytest.mark.usefixtures("server")
def test_without_a_lock_no_reign_is_lost_either(registry: Registry, run: Run, small: Path) -> None:
    for motion in range(4):
        change(small, str(motion))
        register(registry, run, small)
    others = [Registry(run.tracking_uri) for _ in range(6)]
    at_once([partial(other.promote, NAME, version) for other, version in zip(others, [2, 3, 4] * 2, strict=True)])
    model = run.client.get_registered_model(NAME)
    line = Succession.read(model.aliases, model.tags)
    assert line.former[0] == 1 and {*line.former, line.champion} == {1, 2, 3, 4}
    for _ in line.former:
        before = aliases(registry)
        try:
            assert "champion" not in before[registry.rollback(NAME).version]
        except ValueError:
            break
    assert aliases(registry)[1] == ("champion",)


@pytest.mark.usefixtures("server")
def test_without_a_lock_first_registrations_agree_on_the_champion(
    registry: Registry, run: Run, small: Path, tmp_path: Path
) -> None:
    folders = [shutil.copytree(small, tmp_path / name) for name in "abc"]
    for folder in folders:
        change(folder, folder.name)
    others = [Registry(run.tracking_uri) for _ in folders]
    at_once([partial(register, other, run, folder) for other, folder in zip(others, folders, strict=True)])
    assert aliases(registry)[1] == ("champion",)
    assert len(aliases(registry)) == 3


def test_a_rollback_never_lands_on_who_reigns(registry: Registry, run: Run, small: Path) -> None:
    register_three(registry, run, small)
    registry.promote(NAME, 2)
    run.client.set_registered_model_alias(NAME, "champion", "1")  # by hand, in MLflow's own pages
    assert registry.rollback(NAME).version == 2
    assert registry.rollback(NAME).version == 1


def test_what_the_artifact_store_damages_is_not_registered(
    registry: Registry, run: Run, small: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    right = Run.log_folder

    def damaging(self: Run, path: Path, folder: str) -> None:
        right(self, path, folder)
        [stored] = Path(urlsplit(self.artifact_uri).path, folder).rglob("network.json")
        stored.write_bytes(stored.read_bytes()[:-1])

    monkeypatch.setattr(Run, "log_folder", damaging)
    with pytest.raises(StorageError, match=r"artifacts/detector/network.json came back damaged"):
        register(registry, run, small)
    assert not registry.list_versions(NAME)
    monkeypatch.undo()
    assert register(registry, run, small).aliases == ("champion",)


def test_every_move_of_the_champion_is_on_record(registry: Registry, run: Run, small: Path) -> None:
    register_three(registry, run, small)
    registry.promote(NAME, 2, why="the gate let it in", by="gate")
    registry.promote(NAME, 2, why="again")  # moves nothing
    registry.promote(NAME, 3)
    registry.rollback(NAME)
    moves = registry.moves(NAME)
    assert [(move.origin, move.target) for move in moves] == [(None, 1), (1, 2), (2, 3), (3, 2)]
    assert all(move.made for move in moves) and [move.at for move in moves] == sorted(move.at for move in moves)
    assert moves[1].why == "the gate let it in" and moves[1].by == "gate"
    assert moves[2].why == "by hand" and "@" in moves[2].by
    assert moves[0].why == "registered where there was no champion" and "rolled back" in moves[3].why


def test_a_long_reason_is_cut(registry: Registry, run: Run, small: Path) -> None:
    register_three(registry, run, small)
    registry.promote(NAME, 2, why="x" * 6000)
    assert registry.moves(NAME)[-1].why == "x" * 997 + "..."


def test_a_decision_about_a_former_champion_moves_nothing(registry: Registry, run: Run, small: Path) -> None:
    register_three(registry, run, small)
    registry.promote(NAME, 2, expected=1)
    with pytest.raises(
        ChampionChanged, match="version 3 was compared with version 1, and the champion is version 2 now"
    ):
        registry.promote(NAME, 3, expected=1)
    assert aliases(registry) == {3: ("challenger",), 2: ("champion",), 1: ()}
    assert len(registry.moves(NAME)) == 2
    assert registry.promote(NAME, 3, expected=2).version == 3


def outcome(call: Any) -> int | str:
    try:
        return call().version
    except ChampionChanged as refused:
        return str(refused)


def decide_at_once(registry: Registry, run: Run, folder: Path) -> list[int | str]:
    """Versions 2, 3 and 4 have each been found better than version 1, and are promoted at once."""
    for motion in range(4):
        change(folder, str(motion))
        register(registry, run, folder)
    others = [Registry(run.tracking_uri) for _ in range(3)]
    calls = [
        partial(other.promote, NAME, version, expected=1) for other, version in zip(others, (2, 3, 4), strict=True)
    ]
    return at_once([partial(outcome, call) for call in calls])


def test_of_several_decisions_about_one_champion_one_wins(registry: Registry, run: Run, small: Path) -> None:
    outcomes = decide_at_once(registry, run, small)
    [winner] = [one for one in outcomes if isinstance(one, int)]
    assert "champion" in aliases(registry)[winner]
    refused = [one for one in outcomes if isinstance(one, str)]
    assert all(f"the champion is version {winner} now" in one for one in refused) and len(refused) == 2
    assert [(move.origin, move.target) for move in registry.moves(NAME)] == [(None, 1), (1, winner)]


@pytest.mark.usefixtures("server")
def test_without_a_lock_one_decision_wins_either(registry: Registry, run: Run, small: Path) -> None:
    outcomes = decide_at_once(registry, run, small)
    [winner] = [one for one in outcomes if isinstance(one, int)]
    assert "champion" in aliases(registry)[winner]
    assert sum("about to change the champion" in one for one in outcomes if isinstance(one, str)) == 2
    with pytest.raises(ChampionChanged, match=f"the champion is version {winner} now"):
        registry.promote(NAME, next(version for version in (2, 3, 4) if version != winner), expected=1)
