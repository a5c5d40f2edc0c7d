"""Whether anybody answers at a cluster's address, in bounded time: Ray itself asks a dead one for minutes.

A stale `RAY_ADDRESS` is the common case. `ray.init` took 200 s with it, and could not be interrupted.
"""

import json
import os
import socket
import subprocess
import sys
from typing import Any, NamedTuple
from urllib.parse import urlsplit

from tadscale.errors import UserError
from tadscale.runtime.cluster.overload import overload

LOCAL, AUTO = "local", "auto"
CLIENT_SCHEME, CLIENT_PORT = "ray://", 10001
GCS_PORT = 6379
CONNECT_S = 5.0
ANSWER_S = 20.0
"""For Ray to be imported, to join and to answer: 3 s on two idle cores."""
REMEDY = (
    "Set cluster.address or RAY_ADDRESS to a cluster that runs; unset both to start one on this machine for the job"
)

# In a process of its own: a join that hangs can be ended, and this process stays free to start a cluster. Each node tells
# its time through a task that takes no CPU.
ASK = """
import json, sys, time
import ray
from ray.util.scheduling_strategies import NodeAffinitySchedulingStrategy

ray.init(address=sys.argv[1], log_to_driver=False, logging_level="ERROR")
nodes = [node for node in ray.nodes() if node["Alive"]]
answer = {"resources": ray.cluster_resources(), "nodes": len(nodes), "version": ray.__version__, "skew_s": 0.0}
if sys.argv[2] == "clocks":
    clock = ray.remote(num_cpus=0)(lambda: time.time())  # Ray takes no builtin
    here = [NodeAffinitySchedulingStrategy(node["NodeID"], soft=False) for node in nodes]
    asked = time.time()
    told = ray.get([clock.options(scheduling_strategy=place).remote() for place in here], timeout=float(sys.argv[3]))
    answer["skew_s"] = max(max(asked - at, at - time.time(), 0.0) for at in told)
print("\\nANSWER" + json.dumps(answer), flush=True)
"""
NOT_OURS = ("RAY_JOB_CONFIG_JSON_ENV_VAR",)  # names the submitted job: the question is no part of it


class Offer(NamedTuple):
    """What a running cluster says of itself."""

    resources: dict[str, float]
    """Of all its nodes."""
    nodes: int
    version: str
    skew_s: float
    """How far the furthest node's clock is from this machine's, at least; 0 if it was not asked."""


def check_listening(address: str, timeout_s: float = CONNECT_S) -> None:
    """Refuse an address at which nobody listens.

    Raises:
        UserError: nobody does, or the address is none.
    """
    if address in (LOCAL, AUTO):
        return
    host, port = _host_and_port(address)
    try:
        socket.create_connection((host, port), timeout_s).close()
    except OSError as error:
        raise UserError(f"no Ray cluster answers at {address} ({error}): it was stopped, or moved. {REMEDY}") from None


def ask_cluster(address: str, *, clocks: bool = False, timeout_s: float = ANSWER_S) -> Offer:
    """What a cluster offers, without this process joining it.

    Args:
        address: of a cluster that runs.
        clocks: also ask every node for its time, which starts a process on each.
        timeout_s: how long it may take to answer; longer where this machine has too much to do.

    Raises:
        UserError: it does not answer in time, or not as Ray does.
    """
    check_listening(address)
    timeout_s *= overload()
    asked = [sys.executable, "-c", ASK, address, "clocks" if clocks else "", str(timeout_s / 2)]
    environment = {name: value for name, value in os.environ.items() if name not in NOT_OURS}
    try:
        done = subprocess.run(asked, capture_output=True, text=True, timeout=timeout_s, env=environment)
    except subprocess.TimeoutExpired:
        raise UserError(
            f"what listens at {address} did not answer as a Ray cluster within {timeout_s:.0f} s. {REMEDY}"
        ) from None
    for line in done.stdout.splitlines():
        if line.startswith("ANSWER"):
            told: dict[str, Any] = json.loads(line.removeprefix("ANSWER"))
            return Offer(**told)
    last = (done.stderr.strip().splitlines() or [f"exit code {done.returncode}"])[-1]
    raise UserError(f"the Ray cluster at {address} could not be joined ({last}). {REMEDY}")


def _host_and_port(address: str) -> tuple[str, int]:
    default = CLIENT_PORT if address.startswith(CLIENT_SCHEME) else GCS_PORT
    try:
        parts = urlsplit(address if "://" in address else f"//{address}")
        host, port = parts.hostname, parts.port or default
    except ValueError:
        host, port = None, default
    if not host:
        raise UserError(f"{address!r} is no address of a Ray cluster: it is HOST:PORT, such as 10.0.0.5:6379. {REMEDY}")
    return host, port
