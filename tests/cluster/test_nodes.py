"""When a node counts as started: the head's list decides, and it comes later than the head's first answer."""

import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tadscale.runtime.cluster.capacity import ENVIRONMENT
from tadscale.runtime.cluster.stopping import GRACE_S

CLUSTER = Path(__file__).resolve().parents[2] / "cluster"


@pytest.fixture
def nodes(monkeypatch: pytest.MonkeyPatch) -> Iterator[Any]:
    """`local_cluster.nodes`, which `cluster/local.py` imports from its own folder; it starts nothing and never sleeps."""
    monkeypatch.syspath_prepend(str(CLUSTER))
    from local_cluster import nodes

    monkeypatch.setattr(nodes.time, "sleep", lambda _: None)
    yield nodes
    for name in [name for name in sys.modules if name.partition(".")[0] == "local_cluster"]:
        del sys.modules[name]


class FakeHead:
    """A dashboard that answers at once, and lists a started node four questions later."""

    def __init__(self, state: Any) -> None:
        self.listed: list[str] = []
        self.coming: list[tuple[str, int]] = []
        self.answers = 0
        self.state = state
        self.listed_at_start: dict[str, list[str]] = {}

    def start(self, state: Any, name: str, *flags: str) -> Any:
        from local_cluster.processes import Started

        class Alive(Started):
            def alive(self) -> bool:
                return True

        self.listed_at_start[name] = list(self.listed)
        self.coming.append((name, self.answers + 4))
        state.processes.append(Alive(name, 1, 0.0))
        return state.processes[-1]

    def answer(self, url: str) -> dict:
        self.answers += 1
        self.listed += [name for name, at in self.coming if at <= self.answers and name not in self.listed]
        found = [{"node_id": name, "state": "ALIVE"} for name in self.listed]
        return {} if url.endswith("/api/version") else {"data": {"result": {"result": found}}}


@pytest.fixture
def head(nodes: Any, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> FakeHead:
    from local_cluster.processes import StateFile

    fake = FakeHead(StateFile(tmp_path / "state.json", env=nodes.cluster_environment(6379, 8265)))
    monkeypatch.setattr(nodes, "start_ray", fake.start)
    monkeypatch.setattr(nodes, "get_json", fake.answer)
    return fake


def test_a_job_that_is_stopped_may_write_its_checkpoint(nodes: Any, head: FakeHead) -> None:
    """`ray job stop` sends SIGKILL 3 s after SIGTERM, unless the head was started with more."""
    assert float(nodes.child_environment(head.state)["RAY_JOB_STOP_WAIT_TIME_S"]) > GRACE_S


@pytest.mark.parametrize("name", ["MALLOC_", "RAY_idle_", "RAY_worker_", "RAY_USAGE_"])
def test_its_processes_have_what_a_job_gives_to_those_of_its_own(nodes: Any, head: FakeHead, name: str) -> None:
    """Without the allocator's, a step of the demo's network takes a third more CPU time (see `ENVIRONMENT`)."""
    wanted = {key: value for key, value in ENVIRONMENT.items() if key.startswith(name)}
    assert wanted and wanted.items() <= nodes.child_environment(head.state).items()


def test_a_node_is_started_when_those_before_it_are_listed(nodes: Any, head: FakeHead) -> None:
    """Two that start at once choose the same socket, and one dies: `up --nodes 3` gave two nodes."""
    nodes.start_head(head.state)
    nodes.start_worker(head.state)
    nodes.start_worker(head.state)
    assert head.listed_at_start == {"head": [], "node-1": ["head"], "node-2": ["head", "node-1"]}
    assert head.listed == ["head", "node-1", "node-2"]


def test_up_waits_until_all_are_listed(nodes: Any, head: FakeHead) -> None:
    for name in ("head", "node-1", "node-2"):
        head.start(head.state, name)
    nodes.wait_for_all_nodes(head.state)
    assert head.listed == ["head", "node-1", "node-2"]


def test_a_node_that_is_gone_again_is_named(nodes: Any, head: FakeHead, monkeypatch: pytest.MonkeyPatch) -> None:
    """A node that died after it was listed: an error with the end of its log, not a cluster that is too small."""
    from local_cluster.processes import Started

    head.start(head.state, "head")
    head.state.processes.append(Started("node-1", 2**22 + 1, 0.0))  # no such process
    head.state.log("node-1").write_text("the socket is taken\n")
    with pytest.raises(nodes.LocalClusterError, match=r"(?s)node-1 died.*the socket is taken"):
        nodes.wait_for_all_nodes(head.state)
