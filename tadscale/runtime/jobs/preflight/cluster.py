"""The cluster: it answers, and is large enough."""

import sys
from collections.abc import Iterator
from typing import NamedTuple

import torch

from tadscale.runtime.cluster.address import LOCAL, ask_cluster
from tadscale.runtime.cluster.capacity import address_of, alive_nodes, local_cpus, local_groups, shortage
from tadscale.runtime.jobs.preflight.facts import Facts
from tadscale.runtime.stage.job import JobConfig


def capacity(facts: Facts) -> Iterator[str]:
    """The cluster holds the largest stage; nodes that a job is ready to wait for may still come."""
    cluster, offer = facts.job.cluster, offered(facts.job)
    if cluster.wait_for_nodes_s and address_of(cluster) != LOCAL:
        return
    plane = cluster.plane(offer.nodes, motion=facts.needs_motion)
    lack = shortage(cluster, offer.resources, motion=facts.needs_motion, training=bool(facts.modes), plane=plane)
    if lack is None and facts.evaluates and not cluster.detects_here(offer.nodes):
        lack = shortage(cluster, offer.resources, motion=True, training=False)
    if lack:
        yield lack


class Offered(NamedTuple):
    """What a job finds."""

    resources: dict[str, float]
    """CPUs, GPUs and groups of nodes."""
    nodes: int


def offered(job: JobConfig) -> Offered:
    """What the cluster offers that a job joins, or the one that it would start on this machine."""
    ray = sys.modules.get("ray")
    if ray is not None and ray.is_initialized():
        return Offered(dict(ray.cluster_resources()), alive_nodes())
    address = address_of(job.cluster)
    if address != LOCAL:
        offer = ask_cluster(address)
        return Offered(offer.resources, offer.nodes)
    own = {"CPU": float(local_cpus(job.cluster)), "GPU": float(torch.cuda.device_count())}
    return Offered(own | local_groups(job.cluster), 1)
