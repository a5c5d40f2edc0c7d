"""What is done to a run, in which order, and when."""

import random
import signal
import threading
from collections.abc import Callable
from dataclasses import dataclass

from benchmarks.chaos.job import Driver
from benchmarks.chaos.nodes import LocalNodes
from benchmarks.chaos.proxy import FaultyProxy

AWAY_S = 6.0  # writers and readers try for 15 s
IMPATIENCE = 0.25  # share of the faults that do not wait until training goes on after the one before


@dataclass(frozen=True)
class Scene:
    """Whom a fault may meet."""

    driver: Driver
    nodes: LocalNodes
    proxy: FaultyProxy
    chance: random.Random


def _storage_away(scene: Scene) -> str:
    scene.proxy.away = True
    threading.Timer(AWAY_S, setattr, (scene.proxy, "away", False)).start()
    return f"503 to every request for {AWAY_S:.0f} s"


KINDS: dict[str, Callable[[Scene], str]] = {
    # A task of the pipeline lives for milliseconds: between two of them its process waits for the next.
    "SIGKILL, fetch worker": lambda scene: scene.nodes.kill(("fetch_row", "ray::IDLE"), scene.chance),
    "SIGKILL, motion actor": lambda scene: scene.nodes.kill(("_MotionStage",), scene.chance),
    "SIGKILL, training worker": lambda scene: scene.nodes.kill(("RayTrainWorker",), scene.chance),
    "SIGKILL, node": lambda scene: scene.nodes.lose_node(),
    "SIGKILL, driver": lambda scene: f"process {scene.driver.send(signal.SIGKILL)}",
    "SIGTERM, driver": lambda scene: f"process {scene.driver.send(signal.SIGTERM)}",
    "storage away": _storage_away,
}


class Schedule:
    """Which fault comes, and when: by the seed and by the training's progress, so that it gets somewhere.

    Every kind comes once before any comes twice. A fault waits until a checkpoint has been written since the one before,
    and some seconds more; some do not wait, and meet a run that is starting again.
    """

    def __init__(self, chance: random.Random) -> None:
        self._chance = chance
        self._bag: list[str] = []
        self._step = 0
        self._at_s: float | None = None  # when the next one comes; None while it waits for a checkpoint

    def due(self, step: int, now_s: float) -> str | None:
        """The fault for now, if it is time for one.

        Args:
            step: of the newest checkpoint.
            now_s: on any clock.
        """
        if self._at_s is None and step > self._step:
            self._at_s = now_s + self._chance.uniform(0.5, 4.0)
        if self._at_s is None or now_s < self._at_s:
            return None
        self._step = step
        if not self._bag:
            self._bag = self._chance.sample(list(KINDS), len(KINDS))
        impatient = self._chance.random() < IMPATIENCE
        self._at_s = now_s + self._chance.uniform(1.0, 10.0) if impatient else None
        return self._bag.pop()
