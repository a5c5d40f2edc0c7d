"""Groups of nodes: what a process takes of them, and that a group that is too small is refused before the start."""

import pytest

from tadscale.runtime.cluster.capacity import ClusterConfig, local_cpus, local_groups, shortage
from tadscale.runtime.cluster.node_groups import NodeGroups

APART = ClusterConfig(
    workers=2,
    cpus_per_worker=2,
    cpus_per_fetch=0.5,
    motion_actors=3,
    groups=NodeGroups(fetch="data", motion="gpu", training="gpu"),
)


def test_without_groups_processes_run_anywhere():
    assert ClusterConfig().placed("fetch") == {}
    assert set(ClusterConfig().required(motion=True)) == {"CPU", "GPU"}


def test_a_process_takes_of_its_group_what_it_takes_of_cpus():
    assert APART.placed("fetch") == {"data": 0.5}
    assert APART.placed("motion") == {"gpu": 1.0}
    assert APART.placed("training") == {"gpu": 2.0}


def test_parts_of_one_group_share_it():
    assert APART.required(motion=True) == {"CPU": 7.5, "GPU": 0.0, "data": 0.5, "gpu": 7.0}
    assert APART.required(motion=False) == {"CPU": 4.5, "GPU": 0.0, "data": 0.5, "gpu": 4.0}


def test_a_group_that_is_too_small_is_refused_though_there_are_cpus_enough():
    assert shortage(APART, {"CPU": 100, "data": 4, "gpu": 7}, motion=True) is None
    said = shortage(APART, {"CPU": 100, "data": 100, "gpu": 6}, motion=True)
    assert said is not None
    assert said.startswith("the cluster has 6 CPUs in group gpu, and this stage needs 7 CPUs in group gpu")


def test_a_cluster_of_this_machine_alone_offers_what_the_job_names():
    assert local_groups(APART) == {"data": local_cpus(APART), "gpu": local_cpus(APART)}
    assert shortage(APART, {"CPU": local_cpus(APART), **local_groups(APART)}, motion=True) is None


@pytest.mark.parametrize(("name", "words"), [("CPU", "Ray's own"), ("a b", "pattern"), ("", "pattern")])
def test_what_is_no_custom_resource_is_refused(name, words):
    with pytest.raises(ValueError, match=words):
        NodeGroups(motion=name)
