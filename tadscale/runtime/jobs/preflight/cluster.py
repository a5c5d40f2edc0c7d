"""The cluster: it answers, and is large enough."""

import sys
from collections.abc import Iterator

import torch

from tadscale.runtime.cluster.address import LOCAL, ask_cluster
from tadscale.runtime.cluster.capacity import address_of, local_cpus, local_groups, shortage
from tadscale.runtime.jobs.preflight.facts import Facts
from tadscale.runtime.stage.job import JobConfig


def capacity(facts: Facts) -> Iterator[str]:
    """The cluster holds the largest stage; nodes that a job is ready to wait for may still come."""
    cluster = facts.job.cluster
    resources = offered(facts.job)
    if cluster.wait_for_nodes_s and address_of(cluster) != LOCAL:
        return
    lack = shortage(cluster, resources, motion=facts.needs_motion, training=bool(facts.modes))
    if lack:
        yield lack


def offered(job: JobConfig) -> dict[str, float]:
    """CPUs, GPUs and groups of the cluster that a job joins, or of the one that it would start on this machine."""
    ray = sys.modules.get("ray")
    if ray is not None and ray.is_initialized():
        return dict(ray.cluster_resources())
    address = address_of(job.cluster)
    if address != LOCAL:
        return ask_cluster(address).resources
    own = {"CPU": float(local_cpus(job.cluster)), "GPU": float(torch.cuda.device_count())}
    return own | local_groups(job.cluster)
