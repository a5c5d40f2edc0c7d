"""cluster/local.py for real: two nodes come up, take jobs, and go, and nothing else goes with them (about 30 s)."""

import json
import os
import socket
import subprocess
import sys
import time
import urllib.request
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path

import psutil
import pytest

ROOT = Path(__file__).resolve().parents[2]
LOCAL = ROOT / "cluster/local.py"
RAY = Path(sys.executable).with_name("ray")
CLEAN_ENV = {k: v for k, v in os.environ.items() if not k.startswith(("RAY_", "AWS_"))}

JOBS = {
    "succeeds": ["--", "python", "-c", "print('hello from a job')"],
    "fails": ["--", "python", "-c", "raise SystemExit(3)"],
    "bare": ["{executable}"],
}
EXECUTABLE = """#!/usr/bin/env -S python
import os, ray
ray.init(log_to_driver=False)
print("directory:", os.getcwd())
print("nodes:", len(ray.nodes()), "cpus:", ray.cluster_resources()["CPU"])
print("s3:", os.environ["AWS_ENDPOINT_URL"])
"""


def local(state_dir: Path, *arguments: str) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, str(LOCAL), "--state-dir", str(state_dir), *arguments]
    return subprocess.run(command, env=CLEAN_ENV, capture_output=True, text=True, timeout=200)


@dataclass
class Life:
    """What was seen from `up` to `down`."""

    exports: dict[str, str] = field(default_factory=dict)
    alive_nodes: int = 0
    listening: set[str] = field(default_factory=set)
    bucket_status: int = 0
    exit_codes: dict[str, int] = field(default_factory=dict)
    output: dict[str, str] = field(default_factory=dict)
    kill: str = ""
    add: str = ""
    alive_after_loss: int = 0
    second_up: str = ""
    during: set[psutil.Process] = field(default_factory=set)
    down: subprocess.CompletedProcess[str] | None = None
    bystander_lived: bool = False
    temp_dir: str = ""


@pytest.fixture(scope="module")
def life(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Life]:
    state_dir = tmp_path_factory.mktemp("cluster")
    seen = Life()
    bystander = subprocess.Popen(["sleep", "300"])
    try:
        up = local(state_dir, "up", "--nodes", "2", "--cpus-per-node", "1", "--free-ports", "--s3")
        assert up.returncode == 0, up.stderr
        seen.exports = dict(line.removeprefix("export ").split("=", 1) for line in up.stdout.splitlines())
        run_jobs(seen, tmp_path_factory.mktemp("elsewhere"))
        look_around(seen, json.loads((state_dir / "state.json").read_text()))
        seen.kill = local(state_dir, "kill", "node-1").stderr
        seen.add = local(state_dir, "add").stderr
        # The head may need its health check, five periods of three seconds, to call a killed node dead.
        seen.alive_after_loss = alive_nodes(seen.exports["RAY_API_SERVER_ADDRESS"], expected=2, within_s=60)
        seen.second_up = local(state_dir, "up").stderr
    finally:
        if (state_dir / "state.json").exists():
            seen.down = local(state_dir, "down")
        seen.bystander_lived = bystander.poll() is None
        bystander.kill()
        bystander.wait()
    yield seen


def run_jobs(seen: Life, directory: Path) -> None:
    """All at once, from a directory that is not the repository: each takes some 8 s, mostly waiting."""
    executable = directory / "job"
    executable.write_text(EXECUTABLE)
    executable.chmod(0o755)
    running = {}
    for name, arguments in JOBS.items():
        command = [str(RAY), "job", "submit", *(a.format(executable=executable) for a in arguments)]
        pipes = {"stdout": subprocess.PIPE, "stderr": subprocess.STDOUT, "text": True}
        running[name] = subprocess.Popen(command, cwd=directory, env={**CLEAN_ENV, **seen.exports}, **pipes)
    for name, process in running.items():
        seen.output[name] = process.communicate(timeout=100)[0]
        seen.exit_codes[name] = process.returncode


def look_around(seen: Life, state: dict) -> None:
    roots = [psutil.Process(started["pid"]) for started in state["processes"]]
    seen.during = {process for root in roots for process in [root, *root.children(recursive=True)]}
    pids = {process.pid for process in seen.during}
    connections = psutil.net_connections("inet")
    seen.listening = {c.laddr.ip for c in connections if c.pid in pids and c.status == psutil.CONN_LISTEN}
    seen.temp_dir = state["temp_dir"]
    seen.alive_nodes = alive_nodes(seen.exports["RAY_API_SERVER_ADDRESS"])
    with urllib.request.urlopen(f"{seen.exports['AWS_ENDPOINT_URL']}/tadscale", timeout=20) as answer:
        seen.bucket_status = answer.status


def alive_nodes(url: str, expected: int | None = None, within_s: float = 0) -> int:
    """How many nodes the head holds to be alive; it may take a moment until it notices a change."""
    deadline_s = time.monotonic() + within_s
    while True:
        with urllib.request.urlopen(f"{url}/api/v0/nodes", timeout=20) as answer:
            listed = json.load(answer)["data"]["result"]["result"]
        alive = sum(node["state"] == "ALIVE" for node in listed)
        if alive == expected or time.monotonic() > deadline_s:
            return alive
        time.sleep(0.2)


def still_runs(process: psutil.Process) -> bool:
    try:
        return process.is_running() and process.status() != psutil.STATUS_ZOMBIE
    except psutil.NoSuchProcess:
        return False


def test_all_nodes_are_alive(life: Life) -> None:
    assert life.alive_nodes == 2


def test_servers_listen_on_loopback_only(life: Life) -> None:
    assert life.listening  # GCS, dashboard, raylets, agents, workers, S3
    assert life.listening <= {"127.0.0.1", "::1", "::ffff:127.0.0.1"}


def test_job_succeeds_and_its_output_comes_back(life: Life) -> None:
    assert life.exit_codes["succeeds"] == 0, life.output["succeeds"]
    assert "hello from a job" in life.output["succeeds"]


def test_failing_job_fails_the_submit(life: Life) -> None:
    assert life.exit_codes["fails"] == 1, life.output["fails"]


def test_bare_submit_of_an_executable_runs_in_the_repository_root(life: Life) -> None:
    assert life.exit_codes["bare"] == 0, life.output["bare"]
    assert f"directory: {ROOT}\n" in life.output["bare"]
    assert "nodes: 2 cpus: 2.0" in life.output["bare"]


def test_s3_server_has_its_bucket_and_jobs_know_it(life: Life) -> None:
    assert life.bucket_status == 200
    assert f"s3: {life.exports['AWS_ENDPOINT_URL']}\n" in life.output["bare"]


def test_lost_node_is_replaced(life: Life) -> None:
    assert life.kill == ""
    assert "node-2 is alive" in life.add
    assert life.alive_after_loss == 2


def test_second_up_is_refused(life: Life) -> None:
    assert "up already" in life.second_up


def test_down_ends_every_process_and_no_other(life: Life) -> None:
    assert life.down is not None
    assert life.down.returncode == 0, life.down.stderr
    assert len(life.during) > 10
    assert [process for process in life.during if still_runs(process)] == []
    assert not Path(life.temp_dir).exists()
    assert life.bystander_lived


def test_down_without_cluster_says_so(tmp_path: Path) -> None:
    answer = local(tmp_path, "down")
    assert answer.returncode == 1
    assert "no cluster is up" in answer.stderr


def test_taken_port_is_named(tmp_path: Path) -> None:
    with socket.socket() as taken:
        taken.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            taken.bind(("127.0.0.1", 8265))
            taken.listen()
        except OSError:
            pass  # a cluster that uses it already: just as taken
        answer = local(tmp_path, "up")
    assert answer.returncode == 1
    assert "--free-ports" in answer.stderr
    assert not list(tmp_path.iterdir())


def test_down_spares_a_stranger_who_was_given_the_process_id(tmp_path: Path) -> None:
    stranger = subprocess.Popen(["sleep", "300"], start_new_session=True)
    try:
        started = {"name": "head", "pid": stranger.pid, "created_s": time.time() - 3600}
        state = {"marker": "none", "env": {}, "temp_dir": str(tmp_path / "ray"), "node_flags": []}
        (tmp_path / "state.json").write_text(json.dumps({**state, "processes": [started]}))
        assert local(tmp_path, "down").returncode == 0
        assert stranger.poll() is None
    finally:
        stranger.kill()
        stranger.wait()


def test_down_finds_what_left_its_session(tmp_path: Path) -> None:
    """As the entrypoint of a Ray job: a session of its own, its parent gone; the marker gives it away."""
    runaway = subprocess.Popen(
        ["sleep", "300"], env={**CLEAN_ENV, "TADSCALE_LOCAL_CLUSTER": "a-marker"}, start_new_session=True
    )
    try:
        state = {"marker": "a-marker", "env": {}, "temp_dir": str(tmp_path / "ray"), "node_flags": [], "processes": []}
        (tmp_path / "state.json").write_text(json.dumps(state))
        assert local(tmp_path, "down").returncode == 0
        assert runaway.wait(timeout=5) != 0
    finally:
        runaway.kill()
