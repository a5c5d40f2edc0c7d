"""Three scheduled ticks of a retraining on real Ray: the first champion; nothing new; new videos, killed in the middle."""

import json
import os
import resource
import signal
import subprocess
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import yaml

from tadscale.data.shards import write_shards
from tadscale.data.sprites import SpritesConfig, draw_videos
from tadscale.runtime.models.registry import Registry
from tests.end_to_end.test_distill import BIN, MODEL, ROOT

SIZE, SECONDS = 32, 8.0
SETTINGS = {
    "baseline": False,
    "data": {
        "sprites": None,
        "window": {"frames": 80, "stride_frames": 80, "fps": 10, "height": SIZE, "width": SIZE},
    },
    "motion": {"name": "temporal_gradient_fast"},
    "optim": {"epochs": 1, "global_batch": 2},
    "cluster": {"workers": 1},
    "checkpoint_every_steps": 1,
    "gate": {"policy": "better", "draws": 100},
}
IDLE_CPU_S = 60.0  # it takes some 13, most of them for importing torch and MLflow

pytestmark = [pytest.mark.slow, pytest.mark.timeout(1800)]


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("ticks")
    settings = SETTINGS | {"data": SETTINGS["data"] | {"url": str(folder / "videos")}}
    retrain = {"kind": "retrain", "name": "again", "storage": str(folder / "runs"), "settings": settings}
    retrain |= {"job": str(ROOT / "jobs/distill.yaml"), "when": {"min_new_videos": 2}}
    (folder / "retrain.yaml").write_text(yaml.safe_dump(retrain))
    return folder


def _draw(place: Path, train: int, test: int) -> None:
    # Of this seed nine videos hold every class that thirteen do: a class that is new ends a tick.
    drawn = {"train": train, "validation": 0, "test": test, "seed": 3}
    config = SpritesConfig(duration_s=SECONDS, size=SIZE, layout="scene", **drawn)
    write_shards(draw_videos(config), str(place / "videos"), overwrite=True)


def _start(place: Path) -> subprocess.Popen[str]:
    environment = {**os.environ, "PATH": f"{BIN}:{os.environ['PATH']}"}
    environment["MLFLOW_TRACKING_URI"] = f"sqlite:///{place}/mlflow.db"
    command = [str(BIN / "tadscale"), "run", str(place / "retrain.yaml")]
    return subprocess.Popen(
        command,
        cwd=ROOT,
        env=environment,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        start_new_session=True,
    )


def _tick(place: Path, dies_when: Callable[[], bool] | None = None) -> tuple[str, float]:
    """What it said, and how long it took; killed with all its processes where it is to die."""
    begun_s, process = time.monotonic(), _start(place)
    try:
        while dies_when is not None and not dies_when():
            assert process.poll() is None, process.communicate()[0][-3000:]
            time.sleep(0.01)
        if dies_when is None:
            said, _ = process.communicate(timeout=1200)
            assert process.returncode == 0, said[-4000:]
            return said, time.monotonic() - begun_s
    finally:
        if process.poll() is None:
            os.killpg(process.pid, signal.SIGKILL)
    return process.communicate()[0], time.monotonic() - begun_s


def _records(place: Path) -> list[dict[str, Any]]:
    return [json.loads(path.read_text()) for path in sorted(place.glob("runs/again-*/retrain.json"))]


def test_the_first_trains_the_second_has_nothing_to_do_and_the_third_dies_and_ends_as_one(
    place: Path, record_property: Callable[[str, object], None]
) -> None:
    registry = Registry(f"sqlite:///{place}/mlflow.db")
    _draw(place, train=6, test=3)
    said, took_s = _tick(place)
    record_property("first", f"{took_s:.0f} s")
    assert "train: there is no champion yet" in said
    [first] = _records(place)
    assert first["outcome"] | {"tests": None} == {"version": 1, "is_champion": True, "tests": None}
    assert set(first["seconds"]) >= {
        "champion",
        "drift",
        "teacher",
        "decomposed",
        "starts, evaluation, registration, gate",
    }
    record_property("first, steps", json.dumps(first["seconds"]))

    before = resource.getrusage(resource.RUSAGE_CHILDREN)
    said, took_s = _tick(place)
    after = resource.getrusage(resource.RUSAGE_CHILDREN)
    cpu_s = after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime
    record_property("nothing new", f"{took_s:.0f} s, {cpu_s:.0f} s of CPU")
    assert "nothing to do: no training video is new (6 known, 0 gone)" in said
    assert cpu_s < IDLE_CPU_S
    assert [one.version for one in registry.list_versions(MODEL)] == [1]

    _draw(place, train=8, test=5)
    done = place / "runs" / first["derivation"]["run"]

    def in_the_middle() -> bool:
        begun = place.glob("runs/again-*/decomposed/checkpoints/step-00000002")
        return any(done not in path.parents for path in begun)

    said, took_s = _tick(place, in_the_middle)
    record_property("killed", f"after {took_s:.0f} s")
    assert len(registry.list_versions(MODEL)) == 1
    said, took_s = _tick(place)
    record_property("again", f"{took_s:.0f} s")
    [second] = [
        one for one in _records(place) if one["derivation"]["run"] != first["derivation"]["run"] and one["outcome"]
    ]
    record_property("again, steps", json.dumps(second["seconds"]))
    assert second["state"] == "finished" and second["decision"]["new_videos"] == 2
    assert second["derivation"]["start"] == f"models:/{MODEL}/1"
    assert second["derivation"]["teacher"].endswith(f"{first['derivation']['run']}/teacher/weights")
    assert set(second["seconds"]) & {"teacher", "baseline"} == set()
    assert {age: one["videos"] for age, one in second["outcome"]["tests"].items()} == {"old": 3, "new": 2}
    versions = registry.list_versions(MODEL)
    assert [one.version for one in versions] == [2, 1]
    champion = registry.version(MODEL, "champion").version
    assert champion == (2 if second["outcome"]["is_champion"] else 1)
    assert versions[0].tags["tadscale.gate.decision"] == ("promote" if champion == 2 else "refuse")
    log = (place / "runs" / second["derivation"]["run"] / "decomposed/log.jsonl").read_text().splitlines()
    assert [json.loads(line)["step"] for line in log] == [0, 1, 2, 3]

    said, _ = _tick(place)
    assert "nothing to do: no training video is new (8 known, 0 gone)" in said
    assert len(registry.list_versions(MODEL)) == 2
