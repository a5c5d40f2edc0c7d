"""Ray nodes and an S3 server on 127.0.0.1: start them, and wait until they serve."""

import json
import os
import shutil
import socket
import sys
import time
import urllib.error
import urllib.request
from collections.abc import Callable
from pathlib import Path

import psutil

from local_cluster.processes import Started, StateFile

ROOT = Path(__file__).resolve().parents[2]
RAY = [sys.executable, str(Path(__file__).with_name("ray_on_loopback.py"))]
S3_BUCKET = "tadscale"
START_TIMEOUT_S = 120  # a node takes 5 s on an idle machine


class LocalClusterError(Exception):
    """Something that the user can set right; the message says how."""


def cluster_environment(gcs_port: int, dashboard_port: int) -> dict[str, str]:
    """What every process of the cluster, and every shell that uses it, has in its environment."""
    return {
        "RAY_API_SERVER_ADDRESS": f"http://127.0.0.1:{dashboard_port}",
        "RAY_ADDRESS": f"127.0.0.1:{gcs_port}",
        "RAY_ENABLE_WINDOWS_OR_OSX_CLUSTER": "0",  # for drivers: this machine is 127.0.0.1 (ray_on_loopback.py)
        # Said aloud, because a head that finds ~/.ray/auth_token (any ray.init() leaves one) asks for tokens, and
        # joining nodes and `ray job submit` send none unless told to. Only this machine can connect.
        "RAY_AUTH_MODE": "disabled",
    }


def node_flags(nodes: int, cpus_per_node: int) -> list[str]:
    """`ray start` options of one of `nodes` nodes that share this machine's memory.

    Each node would take 30% of the memory for objects and offer the rest to tasks, as if it were alone.
    """
    memory_bytes = psutil.virtual_memory().available
    shared = Path("/dev/shm")
    object_bytes = min(0.3 * memory_bytes, 0.9 * shutil.disk_usage(shared).free if shared.exists() else 2e9)
    return [
        f"--num-cpus={cpus_per_node}",
        f"--object-store-memory={max(int(object_bytes / nodes), 80_000_000)}",  # Ray's least is 75 MB
        f"--memory={int(0.6 * memory_bytes / nodes)}",
    ]


def start_head(state: StateFile) -> None:
    """Starts GCS, dashboard, job server and the first raylet; returns when they answer and list the head.

    The dashboard answers about a second before it lists the head. Whoever went on then would take the head for the
    node that comes next, and start the one after that too early.
    """
    dashboard_url = state.env["RAY_API_SERVER_ADDRESS"]
    head = start_ray(
        state,
        "head",
        "--head",
        f"--port={state.env['RAY_ADDRESS'].rpartition(':')[2]}",
        f"--dashboard-port={dashboard_url.rpartition(':')[2]}",
        f"--ray-client-server-port={free_port()}",
        f"--temp-dir={state.temp_dir}",
    )
    wait_until(lambda: get_json(f"{dashboard_url}/api/version") is not None, [head], state)
    wait_until(lambda: bool(alive_node_ids(state)), [head], state)


def start_worker(state: StateFile) -> Started:
    """Starts one more node; returns when the head knows it as alive.

    One at a time: two that start at once on one machine choose the same socket name, and one dies.
    """
    before = alive_node_ids(state)  # may still hold a node that was killed a moment ago
    name = f"node-{sum(is_node(process) for process in state.processes)}"
    started = start_ray(state, name, f"--address={state.env['RAY_ADDRESS']}")
    wait_until(lambda: bool(alive_node_ids(state) - before), [started], state)
    return started


def wait_for_all_nodes(state: StateFile) -> None:
    """Returns when the head lists as many living nodes as were started."""
    started = [process for process in state.processes if is_node(process)]
    wait_until(lambda: len(alive_node_ids(state)) == len(started), started, state)


def start_ray(state: StateFile, name: str, *flags: str) -> Started:
    """Starts one node and returns at once."""
    # --block: the process stays, ends its children when it is told to end, and ends when one of them dies.
    # The agent's port is 52365 on every node unless told otherwise.
    command = [*RAY, "start", "--block", "--dashboard-agent-listen-port=0", *state.node_flags, *flags]
    return state.start(name, command, child_environment(state), ROOT)


def child_environment(state: StateFile) -> dict[str, str]:
    """The environment of every process that is started here."""
    # Jobs begin with `#!/usr/bin/env -S python ...`: it has to be this Python.
    path = f"{Path(sys.executable).parent}{os.pathsep}{os.environ.get('PATH', os.defpath)}"
    kept = {
        # As `tadscale.runtime.cluster.capacity` has them, which says why.
        "RAY_idle_worker_killing_time_threshold_ms": "600000",
        "RAY_worker_maximum_startup_concurrency": "16",
        "MALLOC_MMAP_THRESHOLD_": "4294967296",
        "MALLOC_TRIM_THRESHOLD_": "4294967296",
        "RAY_JOB_STOP_WAIT_TIME_S": "90",  # a checkpoint may take 60 s; after Ray's own 3 s comes SIGKILL
    }
    return {**os.environ, **state.env, "PATH": path, "RAY_USAGE_STATS_ENABLED": "0"} | kept


def is_node(started: Started) -> bool:
    """Whether a started process is a Ray node; the S3 server is none."""
    return started.name == "head" or started.name.startswith("node-")


def living_nodes(state: StateFile) -> list[Started]:
    """The nodes that were started and have not ended."""
    return [started for started in state.processes if is_node(started) and started.alive()]


def alive_node_ids(state: StateFile) -> set[str]:
    """Nodes that the head holds to be alive (Ray's state API)."""
    answer = get_json(f"{state.env['RAY_API_SERVER_ADDRESS']}/api/v0/nodes")
    listed = answer["data"]["result"]["result"] if answer else []
    return {node["node_id"] for node in listed if node["state"] == "ALIVE"}


def start_s3(state: StateFile) -> None:
    """Starts moto's S3 server (objects in memory), makes a bucket, adds its address and keys to the environment."""
    port = free_port()
    state.env |= {
        "AWS_ENDPOINT_URL": f"http://127.0.0.1:{port}",
        "AWS_ACCESS_KEY_ID": "local",
        "AWS_SECRET_ACCESS_KEY": "local",
        "AWS_REGION": "us-east-1",
        "AWS_DEFAULT_REGION": "us-east-1",
    }
    command = [sys.executable, "-m", "moto.server", "-H", "127.0.0.1", "-p", str(port)]
    server = state.start("s3", command, dict(os.environ), ROOT)
    wait_until(lambda: is_taken(port), [server], state)
    import boto3

    client = boto3.client(
        "s3",
        endpoint_url=state.env["AWS_ENDPOINT_URL"],
        aws_access_key_id=state.env["AWS_ACCESS_KEY_ID"],
        aws_secret_access_key=state.env["AWS_SECRET_ACCESS_KEY"],
        region_name=state.env["AWS_REGION"],
    )
    client.create_bucket(Bucket=S3_BUCKET)


def wait_until(condition: Callable[[], bool], started: list[Started], state: StateFile) -> None:
    """Raises LocalClusterError with the end of its log when a process dies, or when time is up."""
    deadline_s = time.monotonic() + START_TIMEOUT_S
    while not condition():
        dead = [process for process in started if not process.alive()]
        if dead or time.monotonic() > deadline_s:
            process = (dead or started)[0]
            what = "died" if dead else f"did not serve within {START_TIMEOUT_S} s"
            tail = "\n".join(state.log(process.name).read_text(errors="replace").splitlines()[-15:])
            raise LocalClusterError(f"{process.name} {what}; the end of {state.log(process.name)}:\n{tail}")
        time.sleep(0.3)


def get_json(url: str) -> dict | None:
    """The answer of a local server, or None while there is none."""
    opener = urllib.request.build_opener(urllib.request.ProxyHandler({}))  # a proxy does not know our loopback
    try:
        with opener.open(url, timeout=5) as response:
            return json.load(response)
    except (OSError, urllib.error.URLError, json.JSONDecodeError):
        return None


def free_port() -> int:
    """A port of 127.0.0.1 that nothing listens on."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return probe.getsockname()[1]


def is_taken(port: int) -> bool:
    """Whether something listens on a port of 127.0.0.1."""
    with socket.socket() as probe:
        return probe.connect_ex(("127.0.0.1", port)) == 0
