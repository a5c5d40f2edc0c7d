"""Processes that outlive the command which started them, and that a later command can end: those, and no others.

Each is started in a session of its own, with a marker in its environment, and is written down with its start time.
A process is ours when it is in such a session or carries the marker: children that were re-parented or made a session
of their own (the entrypoints of Ray jobs do) are found too, and a process id that was given to someone else is not.
"""

import json
import os
import signal
import subprocess
import time
import uuid
from collections.abc import Iterable, Iterator
from dataclasses import asdict, dataclass, field
from pathlib import Path

import psutil

MARKER = "TADSCALE_LOCAL_CLUSTER"


@dataclass
class Started:
    """One started process, the leader of its session."""

    name: str
    pid: int
    created_s: float

    def alive(self) -> bool:
        """Whether that very process runs: a reused process id has another start time."""
        try:
            process = psutil.Process(self.pid)
            return process.create_time() == self.created_s and runs(process)
        except psutil.NoSuchProcess:
            return False

    def session_is_ours(self) -> bool:
        """A session's id is not reused while the session has members: it is foreign only if a foreigner leads it."""
        try:
            return psutil.Process(self.pid).create_time() == self.created_s
        except psutil.NoSuchProcess:
            return True


@dataclass
class StateFile:
    """What was started, kept in one JSON file."""

    path: Path
    marker: str = field(default_factory=lambda: uuid.uuid4().hex)
    env: dict[str, str] = field(default_factory=dict)
    """What a shell exports to use what was started."""
    temp_dir: str = ""
    """Goes when everything has ended."""
    node_flags: list[str] = field(default_factory=list)
    """The `ray start` options of every node."""
    processes: list[Started] = field(default_factory=list)

    @classmethod
    def read(cls, path: Path) -> "StateFile":
        """Raises FileNotFoundError when nothing was started."""
        content = json.loads(path.read_text())
        return cls(path, **{**content, "processes": [Started(**p) for p in content["processes"]]})

    def write(self) -> None:
        """Replaces the file in one step: a reader never sees half of it."""
        content = {k: v for k, v in asdict(self).items() if k != "path"}
        temporary = self.path.with_suffix(".tmp")
        temporary.write_text(json.dumps(content, indent=2))
        temporary.replace(self.path)

    def start(self, name: str, command: list[str], env: dict[str, str], cwd: Path) -> Started:
        """Starts `command` detached, its output in NAME.log beside the state file, and writes it down."""
        with self.log(name).open("wb") as log:
            process = subprocess.Popen(
                command,
                env={**env, MARKER: self.marker},
                cwd=cwd,
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=subprocess.STDOUT,
                start_new_session=True,
            )
        started = Started(name, process.pid, psutil.Process(process.pid).create_time())
        self.processes.append(started)
        self.write()
        return started

    def log(self, name: str) -> Path:
        """Where a process's output goes."""
        return self.path.parent / f"{name}.log"

    def members(self, roots: Iterable[Started], *, marked: bool) -> Iterator[psutil.Process]:
        """Living processes in the sessions of `roots`; with `marked`, all that carry the marker too."""
        sessions = {root.pid for root in roots if root.session_is_ours()}
        for process in psutil.process_iter():
            try:
                if runs(process) and (
                    os.getsid(process.pid) in sessions or (marked and process.environ().get(MARKER) == self.marker)
                ):
                    yield process
            except (psutil.Error, OSError):  # gone meanwhile, or another user's
                continue

    def stop(self, grace_s: float = 5) -> list[int]:
        """Asks every process to end, then ends by force what is left after `grace_s`. Returns the ids of survivors."""
        for signal_number in (signal.SIGTERM, signal.SIGKILL):
            end(self.members(self.processes, marked=True), signal_number, grace_s)
        return [process.pid for process in self.members(self.processes, marked=True)]


def end(processes: Iterable[psutil.Process], signal_number: signal.Signals, wait_s: float) -> None:
    """Sends the signal to each, then waits until all are gone, at most `wait_s`."""
    signalled = []
    for process in processes:
        try:
            process.send_signal(signal_number)  # psutil compares the start time first
            signalled.append(process)
        except psutil.NoSuchProcess:
            continue
    deadline_s = time.monotonic() + wait_s
    while any(map(runs, signalled)) and time.monotonic() < deadline_s:
        time.sleep(0.1)


def runs(process: psutil.Process) -> bool:
    """False for a zombie too: in a container without an init process nobody collects the orphans."""
    try:
        return process.is_running() and process.status() != psutil.STATUS_ZOMBIE
    except psutil.NoSuchProcess:
        return False
