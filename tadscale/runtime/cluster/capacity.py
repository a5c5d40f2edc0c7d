"""Where a job runs: its share of a Ray cluster, joining the cluster, and whether it is large enough."""

import json
import logging
import math
import os
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Literal, Self

from pydantic import Field, NonNegativeFloat, NonNegativeInt, PositiveFloat, PositiveInt, model_validator

from tadscale.config import Config
from tadscale.errors import UserError
from tadscale.runtime.cluster.address import LOCAL, check_listening
from tadscale.runtime.cluster.deepspeed_preset import ZERO_1, ZERO_1_BFLOAT16, check_preset, precision_of
from tadscale.runtime.cluster.node_groups import NodeGroups, Part
from tadscale.runtime.cluster.patient_start import patient_start
from tadscale.runtime.cluster.stopping import kept_handlers

ENVIRONMENT = {
    "RAY_USAGE_STATS_ENABLED": "0",  # nothing is sent home
    "RAY_DATA_DISABLE_PROGRESS_BARS": "1",
    "RAY_ACCEL_ENV_VAR_OVERRIDE_ON_ZERO": "0",  # the coming default; said aloud in every process otherwise
    "RAY_TRAIN_WORKER_GROUP_START_TIMEOUT_S": "180",  # 60 s are short where nodes start their first processes
    "RAY_TRAIN_HEALTH_CHECK_INTERVAL_S": "1",  # how late the end, a failure and SIGTERM are noticed; 2 s by default
    # Fetching takes fractions of a CPU, and Ray keeps one idle process a CPU: the others were ended after a second without
    # work and started again, ten a minute in the demo on two busy cores, each for some 3 CPU-seconds of imports.
    "RAY_idle_worker_killing_time_threshold_ms": "600000",
    # Fractions of a CPU make more processes than CPUs: 16 in the demo on two. Ray takes the number of CPUs for what is to be
    # expected and warns from three times that; starting this many at once takes no longer (11.0 s, and 12.0 s two by two).
    "RAY_worker_maximum_startup_concurrency": "16",
    # glibc keeps freed memory instead of faulting it in again at every step: a step of the demo's network takes
    # 0.137 CPU-seconds instead of 0.182. Only processes that this one starts see it; the image sets it too.
    "MALLOC_MMAP_THRESHOLD_": "4294967296",
    "MALLOC_TRIM_THRESHOLD_": "4294967296",
}

DataPlane = Literal["ray", "embedded"]
"""Who reads a stage's data: Ray Data's processes, or the training workers themselves."""


class ClusterConfig(Config):
    """How much of a cluster a stage takes. CPUs are Ray's logical ones: shares for scheduling, fractions allowed."""

    address: str | None = None
    """Of a Ray cluster. By default the one that the job was submitted to, or else this machine."""
    workers: PositiveInt = 1
    """Training workers; the number must divide the global batch."""
    min_workers: PositiveInt | None = None
    """Train with as few as this while nodes are missing; every number in between must divide the global batch."""
    cpus_per_worker: PositiveFloat = 1.0
    """CPUs each training worker reserves."""
    gpus_per_worker: NonNegativeFloat = 0.0
    """GPUs each training worker reserves; 0 trains on the CPU, over gloo."""
    data_plane: Literal["auto", "ray", "embedded"] = "auto"
    """Who fetches, decodes and computes motion for training. `ray`: Ray Data, in tasks and actors on all nodes. `embedded`:
    each training worker for itself, motion on the worker's device, and only the workers' CPUs are reserved; less work where
    one machine is enough. `auto`: `embedded` where training on CPUs has one node to itself and nothing is asked for that Ray
    Data alone gives (groups of nodes, GPUs for motion, more motion actors than workers, nodes to be waited for), else `ray`.
    Batches are the same, bit for bit, where motion has the same device and threads. Evaluation follows it, in
    the job's own process, where there is one node."""
    decoded_memo_mib: NonNegativeInt = 1024
    """MiB in which each worker of the embedded data plane keeps decoded windows, where these come unchanged in every epoch
    (no augmentation); 0 keeps nothing. A window of 160 frames takes 1.5 MiB at 56 pixels."""
    cpus_per_fetch: PositiveFloat = 1.0
    """CPUs of one task that fetches and decodes a packet, or of one thread of a worker that does; as many run at once as
    CPUs are left."""
    max_fetches: PositiveInt | None = None
    """Let no more of these tasks run at once; by default as many as the cluster has CPUs for, which counts those of other
    groups of nodes, too."""
    motion_actors: PositiveInt = 1
    """Processes that compute motion and run the teacher; `tadscale plan` says how many training keeps busy."""
    max_motion_actors: PositiveInt | None = None
    """Let Ray Data start as many as this while training waits for motion and the cluster has room; by default no more."""
    cpus_per_motion: PositiveFloat = 1.0
    """CPUs each of them reserves."""
    gpus_per_motion: NonNegativeFloat = 0.0
    """GPUs each of them reserves; fractions share one."""
    motion_memo_mib: NonNegativeInt = 1024
    """MiB in which each of them keeps what it made of windows, where these come unchanged in every epoch (no augmentation);
    0 keeps nothing. A window of 160 frames takes 2 MiB of motion at 56 pixels, or some 0.1 MiB of a teacher's output."""
    max_failures: NonNegativeInt = 3
    """How often the worker group is started again after a failure, from its last checkpoint; not at all after one that would
    come again: an error in the code, bad input, a loss or gradient that is not finite."""
    deepspeed_preset: str | None = None
    """Path of a JSON file with DeepSpeed's own settings (ZeRO stage, offload, autocast). By default ZeRO-1, in
    bfloat16 on GPUs."""
    wait_for_nodes_s: NonNegativeFloat = Field(default=0.0)
    """How long to wait for a growing cluster to be large enough, before the job is refused."""
    groups: NodeGroups = NodeGroups()
    """Keep fetching, motion and training on nodes of their own; `tadscale plan JOB --kubernetes` works it out."""

    @model_validator(mode="after")
    def _workers_grow(self) -> Self:
        if self.min_workers is not None and self.min_workers > self.workers:
            raise ValueError(
                f"min_workers = {self.min_workers} is above workers = {self.workers}: lower it, or leave it out"
            )
        return self

    @model_validator(mode="after")
    def _gpus_are_whole_or_shared(self) -> Self:
        for name in ("gpus_per_worker", "gpus_per_motion"):
            gpus = getattr(self, name)
            if gpus > 1 and gpus != int(gpus):
                raise ValueError(
                    f"{name} = {gpus:g}: Ray gives a process whole GPUs, or a share of one: at most 1, or 2, 3 ..."
                )
        return self

    @model_validator(mode="after")
    def _actors_grow(self) -> Self:
        if self.max_motion_actors is not None and self.max_motion_actors < self.motion_actors:
            raise ValueError(
                f"max_motion_actors = {self.max_motion_actors} is below motion_actors = {self.motion_actors}, which are "
                "always there: raise it, or leave it out"
            )
        return self

    @property
    def device(self) -> str:
        """Where training runs."""
        return "cuda" if self.gpus_per_worker else "cpu"

    @property
    def motion_device(self) -> str:
        """Where motion and teacher run."""
        return "cuda" if self.gpus_per_motion else "cpu"

    @property
    def threads_per_worker(self) -> int:
        """Torch threads of a training worker."""
        return max(1, int(self.cpus_per_worker))

    @property
    def threads_per_motion(self) -> int:
        """Torch threads of a motion actor."""
        return max(1, int(self.cpus_per_motion))

    def plane(self, nodes: int, *, motion: bool) -> DataPlane:
        """Who reads the data of a stage, with or without motion, on a cluster of so many nodes: what `data_plane` says."""
        if self.data_plane != "auto":
            return self.data_plane
        asked_for = self.gpus_per_worker > 0 or self.groups.names or self.wait_for_nodes_s > 0
        actors = max(self.motion_actors, self.max_motion_actors or 0)
        motion_apart = motion and (self.gpus_per_motion > 0 or actors > self.workers)
        return "ray" if nodes > 1 or asked_for or motion_apart else "embedded"

    def detects_here(self, nodes: int) -> bool:
        """Whether evaluation runs in the job's own process, and takes nothing of a cluster of so many nodes."""
        return nodes == 1 and self.plane(nodes, motion=True) == "embedded"

    def fetches_per_worker(self, cpus: float) -> int:
        """Threads that fetch in each worker of the embedded data plane, on a cluster of so many CPUs: what the training
        workers leave, in equal shares."""
        left = (cpus - self.workers * self.cpus_per_worker) / self.cpus_per_fetch
        return max(1, int(min(left, self.max_fetches or left) / self.workers))

    def required(self, *, motion: bool, training: bool = True, plane: DataPlane = "ray") -> dict[str, float]:
        """The least that a stage can run on: the training workers, and for Ray Data the motion actors and one fetching task.

        Beside `CPU` and `GPU` the CPUs of each group of nodes, by its name.
        """
        workers = (self.min_workers or self.workers) if training else 0
        actors = self.motion_actors if motion and plane == "ray" else 0
        cpus: dict[Part, float] = {
            "training": workers * self.cpus_per_worker,
            "fetch": self.cpus_per_fetch if plane == "ray" else 0.0,
            "motion": actors * self.cpus_per_motion,
        }
        needed = {
            "CPU": sum(cpus.values()),
            "GPU": workers * self.gpus_per_worker + actors * self.gpus_per_motion,
        }
        for part, share in cpus.items():
            for group, amount in self.groups.share(part, share).items():
                needed[group] = needed.get(group, 0.0) + amount
        return needed

    def placed(self, part: Part) -> dict[str, float]:
        """Ray's custom resources of one process of a part, by which it runs on the nodes of its group."""
        cpus = {"training": self.cpus_per_worker, "fetch": self.cpus_per_fetch, "motion": self.cpus_per_motion}
        return self.groups.share(part, cpus[part])

    @property
    def precision(self) -> str:
        """What networks compute in: weights and optimiser are float32 whatever it is. Raises as `preset`."""
        return precision_of(self.preset())

    def preset(self) -> dict[str, Any]:
        """DeepSpeed's settings. Raises `UserError` if the file is missing or asks for what is not supported."""
        if self.deepspeed_preset is None:
            return ZERO_1_BFLOAT16 if self.gpus_per_worker else ZERO_1
        try:
            preset = json.loads(Path(self.deepspeed_preset).read_text())
        except (OSError, ValueError) as error:
            raise UserError(
                f"cluster.deepspeed_preset: {self.deepspeed_preset} is not readable JSON: {error}"
            ) from error
        try:
            check_preset(preset)
        except ValueError as error:
            raise UserError(f"cluster.deepspeed_preset: {self.deepspeed_preset}: {error}") from error
        return preset


def connect(config: ClusterConfig) -> None:
    """Join the cluster of `config.address`, or the one the job runs in (`RAY_ADDRESS`), or start one on this machine.

    On this machine the number of logical CPUs is at least what the job needs: two cores run a job of two workers, slower.
    A process that is connected already stays as it is.

    Raises:
        UserError: nobody answers at the address, or this machine is too busy to start one.
    """
    import ray

    if ray.is_initialized():
        return
    os.environ |= {name: value for name, value in ENVIRONMENT.items() if name not in os.environ}
    address = address_of(config)
    check_listening(address)
    local: dict[str, Any] = {}
    if address == LOCAL:
        local = {"include_dashboard": False, "num_cpus": local_cpus(config), "resources": local_groups(config)}
    # Logs stay in Ray's files: what a user must see comes as a record, a result or an exception. No runtime environment of
    # our own: with one, none of the processes that Ray starts ahead could be used.
    with kept_handlers(), patient_start():
        ray.init(address=address, log_to_driver=False, logging_level="ERROR", **local)
    logging.getLogger("ray.data").setLevel(logging.ERROR)


def address_of(config: ClusterConfig) -> str:
    """The cluster that a job joins, or `local`: it starts one."""
    return config.address or os.environ.get("RAY_ADDRESS") or LOCAL


def local_cpus(config: ClusterConfig) -> int:
    """Logical CPUs of a cluster that is started on this machine alone."""
    return max(os.cpu_count() or 1, math.ceil(config.required(motion=True)["CPU"]))


def local_groups(config: ClusterConfig) -> dict[str, float]:
    """The groups of nodes that such a cluster offers: all that the job names, with all its CPUs."""
    return dict.fromkeys(config.groups.names, float(local_cpus(config)))


def alive_nodes() -> int:
    """Nodes of the cluster that this process is connected to."""
    import ray

    return sum(node["Alive"] for node in ray.nodes())


def nodes_at_hand(config: ClusterConfig) -> int:
    """Nodes that a job has; a cluster of its own is one, which need not be started to know that.

    Raises:
        UserError: nobody answers at the cluster's address.
    """
    import ray

    if not ray.is_initialized() and address_of(config) == LOCAL:
        return 1
    connect(config)
    return alive_nodes()


def check_capacity(config: ClusterConfig, *, motion: bool, training: bool = True, plane: DataPlane = "ray") -> None:
    """Refuse a job that the cluster can never run.

    Ray Train reserves its CPUs first; Ray Data left with none waits for ever, without a word.

    Raises:
        UserError: the cluster is too small, even after `wait_for_nodes_s`.
    """
    import ray

    deadline = time.monotonic() + config.wait_for_nodes_s
    while lack := shortage(config, ray.cluster_resources(), motion=motion, training=training, plane=plane):
        if time.monotonic() >= deadline:
            raise UserError(lack)
        time.sleep(min(1.0, deadline - time.monotonic()))


def shortage(
    config: ClusterConfig,
    total: Mapping[str, float],
    *,
    motion: bool,
    training: bool = True,
    plane: DataPlane = "ray",
) -> str | None:
    """What a stage lacks on a cluster of so many CPUs and GPUs, and what to do; None if nothing."""
    needed = config.required(motion=motion, training=training, plane=plane)
    short = {name: amount for name, amount in needed.items() if amount > total.get(name, 0.0) + 1e-6}
    if not short:
        return None
    workers = config.min_workers or config.workers
    have = {name: total.get(name, 0.0) for name in short}
    parts = [f"{workers * config.cpus_per_worker:g} CPUs for {workers} training worker(s)"] if training else []
    on_cpus = (
        ", set cluster.gpus_per_worker=0 and cluster.gpus_per_motion=0 to compute on CPUs" if "GPU" in short else ""
    )
    why, lower = "", "cluster.workers or cluster.cpus_per_worker (0.5 is fine)"
    if plane == "ray":
        parts.append(f"{config.cpus_per_fetch:g} to fetch and decode")
        parts += [f"{config.motion_actors * config.cpus_per_motion:g} for motion and teacher"] if motion else []
        why = "Without CPUs left for data it would wait for ever. "
        lower = (
            "cluster.workers, cluster.cpus_per_worker (0.5 is fine), cluster.motion_actors or cluster.cpus_per_motion"
        )
    of_cpus = f": {', '.join(parts)}. {why}" if set(short) != {"GPU"} else ". "
    return (
        f"the cluster has {_amounts(have)}, and this stage needs {_amounts(short)}{of_cpus}"
        f"Lower {lower}{on_cpus}, add nodes, or set cluster.wait_for_nodes_s if nodes are still on their way"
    )


def _amounts(resources: dict[str, float]) -> str:
    words = {"CPU": "CPUs", "GPU": "GPUs"}
    return ", ".join(f"{amount:g} {words.get(name, f'CPUs in group {name}')}" for name, amount in resources.items())
