"""A job's worker groups on Kubernetes, and the `cluster:` section that fits them: arithmetic on the job alone.

Three groups, in the order of `infra/kubernetes/base/rayjob.yaml`: `data` fetches and decodes on CPU nodes, `motion` computes
motion and runs the frozen teacher, `train` trains. Each offers a custom resource of its own name, as much of it as a pod has
CPUs, and `cluster.groups` keeps every process where it belongs.
"""

import math
from typing import Any, NamedTuple

import yaml

from tadscale.runtime.cluster.capacity import ClusterConfig
from tadscale.runtime.cluster.node_groups import NodeGroups
from tadscale.runtime.stage.job import JobConfig
from tadscale.runtime.stage.modes import stage_modes

GROUPS = NodeGroups(fetch="data", motion="motion", training="train")
WORKER_GROUPS = "/spec/rayClusterSpec/workerGroupSpecs"
GPU = "nvidia.com/gpu"
FETCHES_PER_WORKER = 8
"""Fetching tasks for each training worker, where the job does not say: `tadscale plan` says what training waits for."""
DATA_POD_CPUS = 4
DATA_GIB_PER_CPU, TORCH_GIB_PER_CPU = 3, 4  # those of the base's pods
TORCH_GIB = 16  # torch, CUDA's context and the object store's pages, whatever the CPUs
SHARED_MEMORY = 0.3  # of a pod's memory Ray takes so much for objects, in /dev/shm


class WorkerGroup(NamedTuple):
    """Pods of one kind."""

    name: str
    pods: int
    """There when the job starts."""
    fewest: int
    most: int
    cpus: int
    """Of a pod, as its memory and GPUs."""
    memory_gib: int
    gpus: int

    @property
    def resources(self) -> dict[str, str]:
        """A container's requests, and its limits."""
        gpus = {GPU: str(self.gpus)} if self.gpus else {}
        return {"cpu": str(self.cpus), "memory": f"{self.memory_gib}Gi", **gpus}


def worker_groups(job: JobConfig) -> list[WorkerGroup]:
    """The pods that a job's largest stage needs: fetching, motion and training, each in a group of its own.

    A process that takes a share of a GPU has others of its kind beside it, as many as share one. A CPU process of motion or
    training has a pod to itself: a pod that is lost takes no other along.
    """
    cluster = planned(job)
    return [_data(cluster), _motion(cluster), _training(cluster, training=bool(stage_modes(job)))]


def planned(job: JobConfig) -> ClusterConfig:
    """The job's share of such a cluster: its own settings, with the groups, for which Ray Data reads, and how many tasks
    fetch."""
    fetches = job.cluster.max_fetches or FETCHES_PER_WORKER * job.cluster.workers
    changes = {"max_fetches": fetches, "groups": GROUPS, "address": None, "data_plane": "auto"}
    return job.cluster.model_copy(update=changes)


def rayjob_patch(groups: list[WorkerGroup]) -> list[dict[str, Any]]:
    """JSON patch (RFC 6902) of a RayJob: it tests that a group is where it is looked for, and sets what the job decides."""
    operations: list[dict[str, Any]] = []
    for index, group in enumerate(groups):
        at = f"{WORKER_GROUPS}/{index}"
        operations += [
            {"op": "test", "path": f"{at}/groupName", "value": group.name},
            {"op": "replace", "path": f"{at}/replicas", "value": group.pods},
            {"op": "replace", "path": f"{at}/minReplicas", "value": group.fewest},
            {"op": "replace", "path": f"{at}/maxReplicas", "value": group.most},
            {"op": "replace", "path": f"{at}/resources", "value": {group.name: str(group.cpus)}},
            {
                "op": "replace",
                "path": f"{at}/template/spec/containers/0/resources",
                "value": {"requests": dict(group.resources), "limits": dict(group.resources)},
            },
            {
                "op": "replace",
                "path": f"{at}/template/spec/volumes/0/emptyDir/sizeLimit",
                "value": f"{math.ceil(SHARED_MEMORY * group.memory_gib)}Gi",
            },
        ]
    return operations


def kubernetes_text(job: JobConfig) -> str:
    """Both as YAML: the job's `cluster:` section, and the patch, which goes into an overlay as `rayjob-NAME.yaml`."""
    section = {"cluster": planned(job).model_dump(mode="json", exclude_defaults=True)}
    return (
        f"# The cluster section of {job.name}'s job file.\n{yaml.safe_dump(section, sort_keys=False)}"
        f'---\n# Patch of the RayJob (infra/README.md, "Overlays").\n{patch_text(rayjob_patch(worker_groups(job)))}'
    )


def patch_text(operations: list[dict[str, Any]]) -> str:
    """A line an operation."""
    lines = (yaml.safe_dump(one, sort_keys=False, default_flow_style=True, width=math.inf) for one in operations)
    return "".join(f"- {line}" for line in lines)


def _data(cluster: ClusterConfig) -> WorkerGroup:
    assert cluster.max_fetches is not None
    cpus = max(DATA_POD_CPUS, math.ceil(cluster.cpus_per_fetch))
    a_pod = int(cpus / cluster.cpus_per_fetch)
    pods = math.ceil(cluster.max_fetches / a_pod)
    return WorkerGroup("data", pods, 1, pods, cpus, DATA_GIB_PER_CPU * cpus, 0)


def _motion(cluster: ClusterConfig) -> WorkerGroup:
    most = cluster.max_motion_actors or cluster.motion_actors
    counts = (cluster.motion_actors, cluster.motion_actors, most)
    return _torch_group("motion", counts, cluster.cpus_per_motion, cluster.gpus_per_motion)


def _training(cluster: ClusterConfig, *, training: bool) -> WorkerGroup:
    counts = (cluster.workers, cluster.min_workers or cluster.workers, cluster.workers) if training else (0, 0, 0)
    return _torch_group("train", counts, cluster.cpus_per_worker, cluster.gpus_per_worker)


def _torch_group(name: str, counts: tuple[int, int, int], cpus: float, gpus: float) -> WorkerGroup:
    """Pods for so many processes at the start, at least, and at most."""
    a_pod = int(1 / gpus + 1e-9) if 0 < gpus < 1 else 1
    pods, fewest, most = (math.ceil(count / a_pod) for count in counts)
    pod_cpus = math.ceil(a_pod * cpus)
    memory_gib = max(TORCH_GIB, TORCH_GIB_PER_CPU * pod_cpus)
    return WorkerGroup(name, pods, fewest, most, pod_cpus, memory_gib, math.ceil(gpus))
