"""Register, promote and roll back, killed before every single call to MLflow and then repeated, on real MLflow.

A case is set up once; for each point the database is put back to that instant.
"""

import sqlite3
from collections.abc import Callable, Iterator
from contextlib import closing
from itertools import count
from pathlib import Path
from typing import Any, NamedTuple

import pytest

from tadscale.runtime.models.registry import Registry
from tadscale.runtime.models.succession import CHAMPION, Succession
from tadscale.runtime.tracking.run import Run
from tadscale.runtime.tracking.track import TrackingConfig, track_job
from tests.runtime.models.test_registry import change
from tests.runtime.tracking.mlflow_store import empty_database, new_storage  # noqa: F401


class Death(BaseException):
    """What no `except Exception` sees, as SIGKILL is not seen."""


class Mortal:
    """A client that dies instead of making its n-th call, and then is as good as new."""

    def __init__(self, client: Any) -> None:
        self._client = client
        self.calls = 0
        self.dies_at: int | None = None

    def __getattr__(self, name: str) -> Any:
        method = getattr(self._client, name)

        def call(*arguments: Any, **more: Any) -> Any:
            self.calls += 1
            if self.calls == self.dies_at:
                self.dies_at = None
                raise Death(name)
            return method(*arguments, **more)

        return call


class World(NamedTuple):
    """One store for all points, and a model name for each case."""

    database: Path
    registry: Registry
    run: Run
    client: Mortal
    packages: list[Path]

    def snapshot(self) -> sqlite3.Connection:
        copy = sqlite3.connect(":memory:")
        with closing(sqlite3.connect(self.database)) as live:
            live.backup(copy)
        return copy

    def restore(self, copy: sqlite3.Connection) -> None:
        with closing(sqlite3.connect(self.database)) as live:
            copy.backup(live)  # MLflow's open connections see the change

    def register(self, name: str, package: int) -> None:
        self.registry.register(self.run, name, self.packages[package], metrics={"average_mAP": 0.5}, tags={})

    def state(self, name: str) -> tuple[dict[str, int], list[int], bool]:
        """Aliases, former champions, and whether something is left to be finished."""
        try:
            model = self.client.get_registered_model(name)
        except Exception:
            return {}, [], False
        line = Succession.read(model.aliases, model.tags)
        unfinished = line.rollback is not None or not all(noted.move.made for noted in line.moves)
        return {alias: int(v) for alias, v in model.aliases.items()}, line.former, unfinished

    def moves(self, name: str) -> list[tuple[int | None, int]]:
        """Whence and whither the alias was moved, as recorded."""
        try:
            return [(move.origin, move.target) for move in self.registry.moves(name)]
        except ValueError:
            return []


@pytest.fixture(scope="module")
def world(empty_database: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[World]:  # noqa: F811
    folder = tmp_path_factory.mktemp("deaths")
    storage = new_storage(empty_database, folder / "runs")
    packages = []
    for name in ("tvl1", "dis", "gradient"):
        detector = folder / name / "artifacts" / "detector"
        detector.mkdir(parents=True)
        (detector / "network.json").write_text("{}")
        change(folder / name, name)
        packages.append(folder / name)
    uri = f"sqlite:///{storage / 'mlflow.db'}"
    with track_job(TrackingConfig(tracking_uri=uri), job="distill", storage=str(storage), settings={}) as run:
        registry = Registry(uri)
        client = Mortal(registry._client)
        registry._client = run.__dict__["client"] = client
        yield World(storage / "mlflow.db", registry, run, client, packages)


def two_versions(world: World, name: str) -> None:
    world.register(name, 0)
    world.register(name, 1)


def three_champions(world: World, name: str) -> None:
    two_versions(world, name)
    world.registry.promote(name)
    world.register(name, 2)
    world.registry.promote(name)


def a_deleted_one_between(world: World, name: str) -> None:
    three_champions(world, name)
    world.client.delete_model_version(name, "2")


def a_deleted_champion(world: World, name: str) -> None:
    two_versions(world, name)
    world.registry.promote(name)
    world.client.delete_model_version(name, "2")


def moved_by_hand(world: World, name: str) -> None:
    three_champions(world, name)
    world.client.set_registered_model_alias(name, CHAMPION, "1")


def of_an_earlier_version(world: World, name: str) -> None:
    """Champions as they were recorded once: 1, then 2, and 3 reigns."""
    for package in range(3):
        world.register(name, package)
    for key in world.client.get_registered_model(name).tags:
        world.client.delete_registered_model_tag(name, key)
    world.client.set_registered_model_alias(name, CHAMPION, "3")
    world.client.set_registered_model_tag(name, "tadscale.former_champions", "[1, 2]")


def nothing(world: World, name: str) -> None:
    pass


def promote(world: World, name: str) -> None:
    world.registry.promote(name)


def promote_the_first(world: World, name: str) -> None:
    world.registry.promote(name, 1)


def rollback(world: World, name: str) -> None:
    world.registry.rollback(name)


def register_first(world: World, name: str) -> None:
    world.register(name, 0)


def register_third(world: World, name: str) -> None:
    world.register(name, 2)


CASES: dict[str, tuple[Callable[[World, str], None], Callable[[World, str], None], dict[str, int], list[int]]] = {
    "first": (nothing, register_first, {"champion": 1}, []),
    "third": (two_versions, register_third, {"champion": 1, "challenger": 3}, []),
    "promote": (two_versions, promote, {"champion": 2}, [1]),
    "again": (three_champions, promote_the_first, {"champion": 1}, [1, 2, 3]),
    "rollback": (three_champions, rollback, {"champion": 2}, [1]),
    "deleted": (a_deleted_one_between, rollback, {"champion": 1}, []),
    "by_hand": (moved_by_hand, rollback, {"champion": 3}, [1, 2]),
    "vacant": (a_deleted_champion, register_third, {"challenger": 3}, [1, 2]),
    "legacy": (of_an_earlier_version, rollback, {"champion": 2, "challenger": 3}, [1]),
}
points: dict[str, int] = {}


@pytest.mark.parametrize("case", CASES)
def test_a_command_that_was_killed_anywhere_ends_right_when_repeated(world: World, case: str) -> None:
    prepare, command, aliases, former = CASES[case]
    prepare(world, case)
    before, _, _ = world.state(case)
    moved = world.moves(case)
    if before.get(CHAMPION) != aliases.get(CHAMPION):
        moved = [*moved, (before.get(CHAMPION), aliases[CHAMPION])]
    for point in deaths(world, case, command):
        points[case] = point
        between, _, _ = world.state(case)
        if CHAMPION in before:
            assert between[CHAMPION] in (before[CHAMPION], aliases[CHAMPION]), point
        command(world, case)
        assert world.state(case) == (aliases, former, False), point
        assert world.moves(case) == moved, point  # each once, and none that was not made
    assert world.state(case) == (aliases, former, False)


def deaths(world: World, name: str, command: Callable[[World, str], None]) -> Iterator[int]:
    """Die before each call of a command in turn, from the present state; at last the command comes to its end."""
    with closing(world.snapshot()) as start:
        for point in count(1):
            world.restore(start)
            world.client.calls, world.client.dies_at = 0, point
            try:
                command(world, name)
            except Death:
                yield point
            else:
                world.client.dies_at = None
                return


def test_there_were_points_enough() -> None:
    if set(points) != set(CASES):
        pytest.skip("the cases did not all run here")
    assert sum(points.values()) >= 20, points


def test_another_command_after_a_death_finds_its_way(world: World) -> None:
    """Killed at each point of a rollback from 3 to 2; then somebody promotes 1, and takes it back."""
    three_champions(world, "other")
    for point in deaths(world, "other", rollback):
        reigning = world.state("other")[0][CHAMPION]
        world.registry.promote("other", 1)
        assert world.state("other") == ({"champion": 1}, [1, 2, 3] if reigning == 3 else [1, 2], False), point
        world.registry.rollback("other")
        assert world.state("other")[0] == {"champion": reigning}, point
