"""Two Ray nodes on this machine, started by `cluster/local.py`, and the processes of a job on them."""

import json
import os
import random
import shlex
import signal
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import psutil

from benchmarks.chaos.job import ROOT

CPUS_PER_NODE = 2


class LocalNodes:
    """A head and one node more, which may be lost.

    Args:
        state: folder of the cluster's state and logs.
    """

    def __init__(self, state: Path) -> None:
        self._state = state
        self._newest = 1

    @contextmanager
    def running(self) -> Iterator[dict[str, str]]:
        """Start them, with this process's environment; gives what a driver needs in its own. Ended with the block."""
        said = self._call("up", "--nodes", "2", "--cpus-per-node", str(CPUS_PER_NODE), "--free-ports")
        try:
            pairs = (line.removeprefix("export ").split("=", 1) for line in said.splitlines())
            yield {name: shlex.split(value)[0] for name, value in pairs}
        finally:
            self._call("down")

    def kill(self, titles: tuple[str, ...], chance: random.Random) -> str:
        """SIGKILL to one process; of the titles, the first that any process has. Returns whom it met."""
        for title in titles:
            if found := [process for process in self._processes() if title in title_of(process)]:
                met = chance.choice(found)
                said = f"{title_of(met)}, process {met.pid}"
                met.send_signal(signal.SIGKILL)
                return said
        return "nobody: no such process just then"

    def lose_node(self) -> str:
        """SIGKILL to the raylet of the second node, by which all its workers end; then another node joins."""
        leader = self._started()[f"node-{self._newest}"]
        raylets = [p for p in self._processes() if p.name() == "raylet" and os.getsid(p.pid) == leader]
        for raylet in raylets:
            raylet.send_signal(signal.SIGKILL)
        lost, self._newest = self._newest, self._newest + 1
        try:
            self._call("add")
        except RuntimeError:  # a machine without time: the job goes on on the head, and the next one may join
            return f"raylet of node-{lost}, and none joined"
        return f"raylet of node-{lost}, and node-{self._newest} joined"

    def _processes(self) -> list[psutil.Process]:
        """All that the nodes have started, oldest first."""
        sessions = set(self._started().values())
        found = []
        for process in psutil.process_iter():
            try:
                if os.getsid(process.pid) in sessions and process.status() != psutil.STATUS_ZOMBIE:
                    found.append(process)
            except (psutil.Error, OSError):  # gone meanwhile
                continue
        return found

    def _started(self) -> dict[str, int]:
        """Names and sessions of what `cluster/local.py` has written down."""
        return {one["name"]: one["pid"] for one in json.loads((self._state / "state.json").read_text())["processes"]}

    def _call(self, *words: str) -> str:
        command = [sys.executable, str(ROOT / "cluster/local.py"), "--state-dir", str(self._state), *words]
        done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=180)
        if done.returncode:
            raise RuntimeError(f"cluster/local.py {' '.join(words)}: {done.stderr[-2000:]}")
        return done.stdout


def title_of(process: psutil.Process) -> str:
    """What Ray calls the process; empty if it is gone."""
    try:
        return " ".join(process.cmdline()).strip()
    except psutil.Error:
        return ""
